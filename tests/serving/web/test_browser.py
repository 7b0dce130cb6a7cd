"""The page in a real Chromium against a real server: what a person does with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

pytestmark = pytest.mark.browser

IDLE = "document.getElementById('stop').hidden"
BESIDE = "?model=echo&model=echo:latest"
HOSTILE = "<img src=x onerror=\"document.title='broken into'\"><script>document.title='broken into'</script>"


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Any]:
    """The page as a new user finds it; at the end it must have had nothing to complain of."""
    browser.size(1200, 860)
    browser.prefer(color_scheme="light")
    browser.open(server.address)
    browser.run("localStorage.clear(), sessionStorage.clear()")
    browser.open(server.address)
    browser.complaints.clear()
    yield browser
    assert browser.complaints == []


def say(page: Any, text: str) -> None:
    """Write a prompt, send it with Enter and wait for the answers."""
    page.type("#prompt", text)
    page.press("Enter")
    page.wait(IDLE)


def texts(page: Any, selector: str) -> list[str]:
    found: list[str] = page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)")
    return found


def wide(page: Any) -> bool:
    """Say whether the page is wider than the window."""
    return bool(page.run("document.documentElement.scrollWidth > innerWidth"))


def test_a_round_trip_is_shown_as_markdown_and_kept(page: Any, server: Any) -> None:
    page.type("#prompt", "Some **bold**")
    page.press("Enter", shift=True)
    page.call("Input.insertText", text=f"- one\n- two\n\n```py\n{HOSTILE}\n```\n\n{HOSTILE}")
    page.press("Enter")
    page.wait(IDLE)
    assert texts(page, ".text strong") == ["bold"] and texts(page, ".text li") == ["one", "two"]
    assert texts(page, ".text pre code") == [HOSTILE]
    assert HOSTILE in texts(page, ".text")[0].rpartition("\n")[2]
    assert page.run("document.querySelectorAll('main img, main script').length") == 0
    assert page.run("document.title") == "smidgen"
    (figures,) = texts(page, ".figures")
    assert "tokens" in figures and "tok/s" in figures
    page.open(server.address)
    assert texts(page, ".text strong") == ["bold"] and texts(page, ".figures") == [figures]
    page.click("#new")
    assert texts(page, ".card") == []


def test_models_answer_side_by_side_and_are_asked_again(page: Any, server: Any, shots: Path) -> None:
    page.open(f"{server.address}/{BESIDE}")
    say(page, "the same for both")
    assert texts(page, ".name") == ["echo", "echo:latest"]
    assert [text.strip() for text in texts(page, ".text")] == ["the same for both"] * 2
    assert all("tok/s" in figures for figures in texts(page, ".figures"))
    first, second = page.run("[...document.querySelectorAll('.card')].map(e => e.getBoundingClientRect().top)")
    assert first == second
    page.shot(shots / "beside.png")
    page.click(".card:last-child .again")
    page.wait(IDLE)
    assert [text.strip() for text in texts(page, ".text")] == ["the same for both"] * 2


@pytest.mark.parametrize("way", ["Escape", "button"])
def test_an_answer_is_stopped(page: Any, way: str) -> None:
    page.type("#num_ctx", "200000")
    page.run("document.getElementById('prompt').value = 'word '.repeat(60000)")
    page.run("document.getElementById('prompt').focus()")
    page.press("Enter")
    page.wait("document.querySelector('.text')?.innerText.includes('word')")
    page.press("Escape") if way == "Escape" else page.click("#stop")
    page.wait(IDLE)
    assert texts(page, ".figures") == ["stopped"]
    assert len(texts(page, ".text")[0]) < 60000 * 5 - 100
    assert page.run("document.activeElement.id") == "prompt"


def test_a_blind_vote_hides_names_until_it_is_cast(page: Any, server: Any, shots: Path) -> None:
    page.open(f"{server.address}/{BESIDE}")
    page.click("#blind")
    say(page, "which is better?")
    assert texts(page, ".name") == ["Answer A", "Answer B"] and texts(page, ".figures") == ["", ""]
    assert "echo" not in page.run("document.getElementById('conversation').outerHTML")
    page.shot(shots / "vote.png")
    page.click(".ballot button")
    assert sorted(texts(page, ".name")) == ["echo", "echo:latest"]
    winner = texts(page, ".name")[0]
    assert texts(page, ".verdict")[0].startswith(f"You chose {winner}: A was {winner}")
    (vote,) = json.loads(page.run("localStorage.getItem('smidgen.votes')"))
    assert (vote["prompt"], vote["winner"]) == ("which is better?", winner)
    page.run("document.querySelectorAll('aside details').forEach(e => e.open = true)")
    assert texts(page, "#tally-rows tr")[0].split() == [winner, "1", "0", "0"]


def test_what_goes_wrong_is_told_in_its_place(page: Any, server: Any) -> None:
    page.type("#schema", "{oops")
    say(page, "hello")
    assert texts(page, "#schema-fault")[0].startswith("This is not JSON")
    assert page.run("document.activeElement.id") == "schema" and texts(page, ".card") == []
    page.type("#schema", " ")
    page.type("#top_p", "7")
    say(page, "hello")
    assert page.run("document.activeElement.id") == "top_p" and texts(page, "#top_p-fault")[0]
    page.type("#top_p", "0.5")
    page.type("#num_predict", "1")
    page.type("#prompt", "one two")
    page.press("Enter")
    page.wait(IDLE)
    assert texts(page, ".text")[0].strip() == "one" and "cut at the limit" in texts(page, ".figures")[0]
    page.click("#new")
    page.open(f"{server.address}/?model=nobody")
    say(page, "hello")
    assert "model 'nobody' not found" in texts(page, ".card .fault")[0]
    assert "smidgen pull nobody" in texts(page, ".card .fault")[0]
    assert [each for each in page.complaints if "404" not in each] == []
    page.complaints.clear()


def test_a_server_that_is_gone_is_told(page: Any) -> None:
    page.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    say(page, "hello")
    assert "The server does not answer." in texts(page, ".card .fault")[0]
    page.click(".again")
    page.wait(IDLE)
    assert len(texts(page, ".card")) == 1


def test_it_is_dark_for_those_who_want_it(page: Any, server: Any, shots: Path) -> None:
    page.prefer(color_scheme="dark")
    page.shot(shots / "dark.png")
    corner = matplotlib.image.imread(shots / "dark.png")[855, 1190, :3].mean()
    assert corner < 0.2
    page.run("theme.value = 'light', theme.dispatchEvent(new Event('change'))")
    page.open(server.address)
    page.shot(shots / "light.png")
    assert matplotlib.image.imread(shots / "light.png")[855, 1190, :3].mean() > 0.9


def test_it_fits_a_phone(page: Any, server: Any, shots: Path) -> None:
    page.size(360, 740, phone=True)
    page.open(f"{server.address}/{BESIDE}")
    assert not page.run("document.getElementById('settings').open") and not wide(page)
    say(page, f"a list:\n\n- one\n- two\n\n`{'long' * 40}`")
    tops = page.run("[...document.querySelectorAll('.card')].map(e => e.getBoundingClientRect().top)")
    assert tops[0] < tops[1] and not wide(page)
    page.shot(shots / "phone.png")
    page.click("#settings > summary")
    assert not wide(page)
    page.run("scrollTo(0, 0)")
    page.shot(shots / "phone-settings.png")


def test_everything_that_can_be_operated_has_a_name(page: Any) -> None:
    page.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "spinbutton", "combobox", "checkbox"}
    operated = [node for node in nodes if node.get("role", {}).get("value") in roles]
    assert len(operated) >= 13
    assert [node for node in operated if not node.get("name", {}).get("value")] == []
