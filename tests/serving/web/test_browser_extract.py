"""The page for documents in a real Chromium against a real server: a file in, its fields and their places out."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

pytestmark = pytest.mark.browser

made = runpy.run_path(str(Path(__file__).parents[2] / "documents" / "conftest.py"))
IDLE = "document.getElementById('stop').hidden"
DONE = f"{IDLE} && !document.getElementById('result').hidden"
SCHEMA = {"properties": {"number": {"type": "string"}, "amount": {"type": "number"}}}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An invoice that adds up, one that does not, and a file that is no document."""
    folder = tmp_path_factory.mktemp("documents")
    wrong = [(x, y, text.replace("48.00", "58.00")) for x, y, text in made["INVOICE"]]
    (folder / "kestrel.pdf").write_bytes(made["build_pdf"]([made["INVOICE"]]))
    (folder / "wrong.pdf").write_bytes(made["build_pdf"]([wrong], rotate=90))
    (folder / "locked.pdf").write_bytes(made["build_pdf"]([[]], encrypted=True))
    (folder / "notes.txt").write_text("hello")
    return folder


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Any]:
    """The page as a new user finds it; at the end it must have had nothing to complain of."""
    browser.size(1200, 860)
    browser.prefer(color_scheme="light")
    browser.open(f"{server.address}/extract")
    browser.run("localStorage.clear(), sessionStorage.clear()")
    browser.open(f"{server.address}/extract")
    browser.complaints.clear()
    yield browser
    assert browser.complaints == []


def choose(page: Any, *files: Path) -> None:
    """Choose files as the dialog of the browser does."""
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])


def extract(page: Any, file: Path) -> None:
    choose(page, file)
    page.run("document.getElementById('extract').focus()")
    page.press("Enter")
    page.wait(IDLE)


def texts(page: Any, selector: str) -> list[str]:
    found: list[str] = page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)")
    return found


def shown_rows(page: Any) -> dict[str, list[str]]:
    rows = page.run(
        "[...document.querySelectorAll('#tables table')[0].tBodies[0].rows]"
        ".map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )
    return {name: cells for name, *cells in rows}


def test_an_invoice_is_shown_with_its_fields_and_their_boxes(page: Any, documents: Path, shots: Path) -> None:
    extract(page, documents / "kestrel.pdf")
    rows = shown_rows(page)
    value, status = rows["amount"]
    assert value == "48" and re.fullmatch(r"grounded \d\d%", status)
    assert rows["iban"] == ["–", "missing"]
    assert texts(page, "caption") == ["Fields", "lines"]
    assert texts(page, "#tables div:nth-child(2) tbody tr:first-child td") == ["Hand saw", "2", "15.5", "31"]
    assert texts(page, "#summary")[0].startswith("17 of 21 fields grounded · 1 page · ")
    assert page.run("document.activeElement.id") == "found"
    # The box lies on the picture where the page says 48.00, whatever size it is drawn in.
    page.wait("document.querySelector('.paper img').complete")
    paper, box = page.run(
        "[document.querySelector('.paper img'), [...document.querySelectorAll('.box')]"
        ".find(e => e.title.startsWith('amount:'))].map(e => e.getBoundingClientRect().toJSON())"
    )
    assert (box["left"] - paper["left"]) / paper["width"] == pytest.approx(350 / made["WIDTH"], abs=0.02)
    assert (box["top"] - paper["top"]) / paper["height"] == pytest.approx(302 / made["HEIGHT"], abs=0.02)
    page.run("[...document.querySelectorAll('button.name')].find(e => e.innerText == 'amount').focus()")
    page.shot(shots / "extract.png")
    assert not page.run("document.documentElement.scrollWidth > innerWidth")


def test_keys_go_from_field_to_field_and_boxes_lead_back(page: Any, documents: Path) -> None:
    extract(page, documents / "kestrel.pdf")
    page.press("Tab")
    names = texts(page, "#tables table:first-child tbody th")
    assert page.run("document.activeElement.innerText") == names[0] == "issuer"
    page.press("ArrowDown")
    assert page.run("document.activeElement.innerText") == "invoice_number"
    assert texts(page, ".box.on") == ["invoice_number"] and texts(page, "[aria-current=true]") == ["invoice_number"]
    page.press("End")
    assert texts(page, ".box.on") == ["lines[1].amount"]
    page.run("[...document.querySelectorAll('.box')].find(e => e.title.startsWith('date:')).click()")
    assert page.run("document.activeElement.innerText") == "date" and texts(page, ".box.on") == ["date"]


def test_what_contradicts_itself_is_marked_on_a_page_that_the_file_turns(page: Any, documents: Path) -> None:
    extract(page, documents / "wrong.pdf")
    assert texts(page, "#faults li") == ["amount_untaxed + tax is 48.00, and amount is 58.00."]
    value, status = shown_rows(page)["amount"]
    assert status.startswith("failed check") and value.startswith("58") and "48.00" in value
    assert page.run("document.querySelectorAll('.box.failed_check').length") == 3
    assert "turned by 270" in texts(page, "figcaption")[0]
    width, height = page.run(
        "[document.querySelector('.paper img').naturalWidth, document.querySelector('img').naturalHeight]"
    )
    assert width < height


def test_a_schema_of_ones_own_is_kept_and_its_faults_are_told(page: Any, server: Any, documents: Path) -> None:
    choose(page, documents / "kestrel.pdf")
    page.run("preset.value = '', preset.dispatchEvent(new Event('input')), preset.dispatchEvent(new Event('change'))")
    page.type("#schema", "{oops")
    page.click("#extract")
    assert texts(page, "#schema-fault")[0].startswith("This is not JSON")
    assert page.run("document.activeElement.id") == "schema"
    page.type("#schema", '{"properties": {"a": {"$ref": "#"}}}')
    page.click("#extract")
    page.wait(IDLE)
    assert "refers to itself" in texts(page, "#fault")[0]
    page.type("#schema", json.dumps(SCHEMA))
    page.type("#pages", "1")
    page.click("#extract")
    page.wait(DONE)
    assert list(shown_rows(page)) == ["number", "amount"]
    page.open(f"{server.address}/extract")
    assert json.loads(page.run("schema.value")) == SCHEMA and page.run("pages.value") == "1"
    assert not page.run("document.getElementById('own').hidden")
    assert [each for each in page.complaints if "400" not in each] == []
    page.complaints.clear()


def test_bad_files_are_told_and_the_next_one_is_read(page: Any, documents: Path) -> None:
    page.click("#extract")
    assert texts(page, "#file-fault") == ["Choose a document, or drop one."]
    for name, said in (("notes.txt", "no document that can be read"), ("locked.pdf", "protected by a password")):
        extract(page, documents / name)
        assert said in texts(page, "#fault")[0]
        assert page.run("document.activeElement.id") == "extract"
    page.type("#pages", "7")
    extract(page, documents / "kestrel.pdf")
    assert "page 7" in texts(page, "#fault")[0]
    page.type("#pages", "3-1")
    page.click("#extract")
    assert texts(page, "#pages-fault")[0].startswith("Write pages as")
    page.type("#pages", " ")
    extract(page, documents / "kestrel.pdf")
    assert page.run("document.getElementById('fault').hidden") and shown_rows(page)["amount"][0] == "48"
    assert [each for each in page.complaints if "400" not in each] == []
    page.complaints.clear()


def test_a_file_is_dropped(page: Any, documents: Path) -> None:
    choose(page, documents / "kestrel.pdf")
    page.run(
        "window.moved = new DataTransfer(), moved.items.add(document.getElementById('file').files[0]),"
        "document.getElementById('file').value = '',"
        "document.body.dispatchEvent(new DragEvent('dragover', {dataTransfer: moved, bubbles: true, cancelable: true}))"
    )
    assert page.run("document.getElementById('drop').classList.contains('over')")
    page.run(
        "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: moved, bubbles: true, cancelable: true}))"
    )
    assert page.run("[file.files[0].name, document.activeElement.id]") == ["kestrel.pdf", "extract"]
    page.press("Enter")
    page.wait(DONE)
    assert texts(page, "#found-name") == ["kestrel.pdf"]


def test_it_is_stopped_and_asked_again(page: Any, documents: Path) -> None:
    choose(page, documents / "kestrel.pdf")
    page.run("document.getElementById('extract').click()")
    page.press("Escape")
    page.wait(IDLE)
    assert texts(page, "#told") == ["Stopped."] and page.run("document.getElementById('result').hidden")
    extract(page, documents / "kestrel.pdf")
    assert shown_rows(page)["amount"][0] == "48"


def test_it_fits_a_phone_in_the_dark(page: Any, server: Any, documents: Path, shots: Path) -> None:
    page.size(360, 740, phone=True)
    page.prefer(color_scheme="dark")
    page.open(f"{server.address}/extract")
    page.shot(shots / "extract-phone-form.png")
    assert matplotlib.image.imread(shots / "extract-phone-form.png")[735, 5, :3].mean() < 0.2
    extract(page, documents / "kestrel.pdf")
    page.wait("document.querySelector('.paper img').complete")
    assert not page.run("document.documentElement.scrollWidth > innerWidth")
    page.shot(shots / "extract-phone-page.png")
    page.run("document.getElementById('found').scrollIntoView()")
    page.shot(shots / "extract-phone-fields.png")


def test_everything_that_can_be_operated_has_a_name(page: Any, documents: Path) -> None:
    extract(page, documents / "kestrel.pdf")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "combobox", "link", "img"}
    operated = [node for node in nodes if node.get("role", {}).get("value") in roles]
    assert len(operated) >= 30
    assert [node for node in operated if not node.get("name", {}).get("value")] == []
