"""The page of a comparison: what it says, what it refuses to claim, and how it looks to a browser."""

import re
import runpy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from smidgen.errors import Unsupported
from smidgen.evaluate.comparing import verdicts
from smidgen.evaluate.comparing.judging import Duel, judge, summarise
from smidgen.evaluate.comparing.results import Apart, Range
from smidgen.evaluate.comparing.yardsticks import choose
from smidgen.evaluate.report import pareto, render_comparison
from smidgen.inference.engine import Chunk

HERE = Path(__file__).parent
REALISTIC = runpy.run_path(str(HERE / "realistic_comparison.py"))
REPORT = runpy.run_path(str(HERE / "test_report.py"))
Outline, spoken = REPORT["Outline"], REPORT["spoken"]


@pytest.fixture(scope="module")
def comparison():
    return REALISTIC["realistic_comparison"]()


@pytest.fixture(scope="module")
def page(comparison):
    return comparison.to_html()


def test_the_verdict_comes_first_and_every_model_has_its_sentence(comparison, page):
    said, plain = spoken(page), comparison.to_dict()
    assert said.index(plain["headline"]) < said.index("One sentence each") < said.index("Small print")
    assert f'<h1 class="said">{plain["headline"]}</h1>' in page
    assert plain["headline"] == "B (gemma3:270m) came out best by arc, not surely better than A and D."
    assert "Size 241.4 MB Writes 22.3 tokens/s Quality: arc 53.3% Measured before" in said
    assert all(sentence in said for sentence in plain["verdicts"]) and said.count("Best, but not surely") == 1
    assert "The others are set against it: 98.4 MB, writes 40.2 tokens/s" in said


def test_figures_stand_with_their_intervals(page):
    said = spoken(page)
    for shown in (
        "40.2 40.1 to 40.2", "1.17× 1.14× to 1.19×", "80.0 MB", "0.807 0.773 to 0.842", "43.3% 31.6% to 55.9%",
        "percentage points; more is better", "90% 70% to 98%", "It finds 90% of the facts", "AMD EPYC 9354P",
        "sha256 abab", "Ollama's protocol, version 0.9", "--rounds 2 --tokens 128", "p = 0.",
        "--task arc --task-file ARC-Easy-Test.jsonl --limit 60 --fresh",
        "every figure of quality is the same",
    ):  # fmt: skip
        assert shown in said, shown


def test_differences_regressions_and_opinions_are_shown(page):
    said = spoken(page)
    assert "<mark>Lyon</mark>" in page and "word for word as A" in said and "few words of A’s" in said
    assert "C (llama-cpp-q3_k_m.gguf), arc: 15 lost, 5 won of 60; p = 0.041" in said
    assert "Right: 4" in said and "It is a model’s opinion, no measurement" in said
    assert "smollm2:135m judges itself here" in said


def test_the_page_is_whole_safe_and_can_be_read_without_seeing_it(page):
    outline = Outline(page)
    assert outline.open == [] and "<script" not in page and "<b>this" not in page
    for tag, attributes in outline.elements:
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert all("scope" in attributes for tag, attributes in outline.elements if tag == "th")
    drawn = [attributes for tag, attributes in outline.elements if tag == "svg"]
    assert len(drawn) == 2 and all("No other model beats" in each["aria-label"] for each in drawn)
    identifiers = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert not re.search(r"#[0-9a-f]{6}", "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL)))


def test_the_same_comparison_gives_the_same_bytes(comparison, page):
    assert comparison.to_html() == page
    with pytest.raises(Unsupported, match="format 2"):
        render_comparison(comparison.to_dict() | {"format": 2})


def test_little_measured_is_said_to_be_little(comparison):
    bare = [replace(model, texts=(), tasks=(), findings=(), writes=None, first_ms=None) for model in comparison.models]
    bare[1] = replace(bare[1], answers=(None,) * 3, error="It broke off.")
    nothing = replace(
        comparison,
        models=tuple(bare),
        yardstick=None,
        opinion=None,
        tasks=(),
        ratios=(None,) * 5,
        repeat=None,
        noise=0.3,
    )
    said = spoken(nothing.to_html())
    assert "Nothing was measured." in said and "(no answer)" in said and "✗ Incomplete" in said
    assert "The machine was noisy: median speeds of two rounds differ by up to 30.0%" in said
    assert "Quality and size or speed of two models at least: not measured." in said
    assert "Long texts, conversations of several turns, noise, repetition: not measured." in said


def plain_of(values, apart, sizes, rates, higher=True, weak=False):
    models = [
        {
            "about": {"name": f"m{number}", "bytes": size},
            "writes": {"median": rate},
            "error": None,
            "notes": [],
            "answers": [],
        }
        for number, (size, rate) in enumerate(zip(sizes, rates, strict=True))
    ]
    names = ("value", "low", "high")
    table = [[cell and dict(zip(names, cell, strict=True)) for cell in row] for row in apart]
    rated = [value and {"value": value} for value in values]
    yardstick = {"name": "arc", "unit": "share", "higher": higher, "values": rated, "apart": table, "weak": weak}
    ratio = {"value": 1.5, "low": 1.4, "high": 1.6}
    setting = {"noisy": 0.1, "rounds": 2, "together": True}
    more = {"opinion": None, "judge_failure": None, "noise": 0.0, "repeat": None, "setting": setting}
    return {"models": models, "yardstick": yardstick, "ratios": [None, *[ratio] * (len(sizes) - 1)]} | more


def test_the_smallest_that_is_not_surely_worse_is_taken():
    sure, unsure, vague = (-0.2, -0.3, -0.1), (-0.005, -0.02, 0.01), (-0.02, -0.1, 0.06)
    better, maybe = (0.2, 0.1, 0.3), (0.005, -0.01, 0.02)
    close = verdicts.of(plain_of((0.6, 0.58), [[None, unsure], [maybe, None]], (100, 50), (10, 15)))
    assert close["choice"] == 1 and "smallest that is surely within 5% of the best" in close["headline"]
    doubt = verdicts.of(plain_of((0.6, 0.58), [[None, vague], [maybe, None]], (100, 50), (10, 15)))
    assert doubt["choice"] == 0 and doubt["labels"][1] == "less, and perhaps worse"
    assert close["labels"] == ["not surely better, and larger", "take this one"]
    assert (
        close["verdicts"][1]
        == "50 B, 0.50 of A’s bytes; writes 1.50 times as fast; in quality it cannot be told from A."
    )
    apart = verdicts.of(plain_of((0.6, 0.4), [[None, sure], [better, None]], (100, 50), (10, 15)))
    assert apart["choice"] == 0 and "surely the best" in apart["headline"]
    assert apart["labels"] == ["take this one", "worse, but with less"]
    assert "worse by 20.0 percentage points (10.0 to 30.0)" in apart["verdicts"][1]
    beaten = verdicts.of(plain_of((0.4, 0.6), [[None, better], [sure, None]], (100, 50), (10, 15)))
    assert beaten["labels"][0] == "B is no worse, and smaller" and beaten["verdicts"][0].endswith("no worse.")


def test_of_equally_small_models_the_better_is_taken():
    unsure, maybe = (-0.005, -0.02, 0.01), (0.005, -0.01, 0.02)
    table = [[None, unsure, unsure], [maybe, None, maybe], [maybe, unsure, None]]
    alike = verdicts.of(plain_of((0.6, 0.58, 0.585), table, (100, 50, 50), (10, 15, 15)))
    assert alike["choice"] == 2
    assert alike["labels"] == ["not surely better, and larger", "as large, and no better", "take this one"]
    unsized = verdicts.of(plain_of((0.6, 0.58), [[None, unsure], [maybe, None]], (None, None), (10, 15)))
    assert unsized["choice"] == 1 and unsized["labels"][0] == "not surely better"


def test_nothing_is_chosen_by_a_handful_of_questions():
    maybe = (0.6, -0.1, 1.0)
    few = verdicts.of(plain_of((0.0, 0.6), [[None, maybe], [maybe, None]], (100, 50), (10, 15), weak=True))
    assert few["choice"] is None and "too little was asked to tell good answers from bad" in few["headline"]
    assert few["labels"] == ["not ranked", "not ranked"]
    answers = [[REALISTIC["answer"](model, 0, REALISTIC["random"].Random(0))] for model in (0, 1)]
    assert choose([REALISTIC["Scores"]()] * 2, answers, None).weak


def test_less_is_better_where_the_yardstick_says_so():
    less = verdicts.of(
        plain_of((0.8, 0.9), [[None, (0.1, 0.05, 0.15)], [(-0.1, -0.15, -0.05), None]], (9, 9), (1, 1), False)
    )
    assert less["choice"] == 0 and "worse by 10.0" in less["verdicts"][1]


def test_the_frontier_is_the_models_that_none_beats():
    spots = [pareto.Spot(str(x), x, x, {"value": y}) for x, y in ((1, 5), (2, 9), (3, 7), (4, 9))]
    assert [spot.x for spot in pareto.frontier(spots, less=True, higher=True)] == [1, 2]
    assert [spot.x for spot in pareto.frontier(spots, less=True, higher=False)] == [1]
    assert [spot.x for spot in pareto.frontier(spots, less=False, higher=True)] == [4]


class Referee:
    """A judge with one habit."""

    def __init__(self, habit):
        self.habit, self.asked = habit, 0

    def chat(self, messages, options):
        self.asked += 1
        first, second = re.findall(r"Answer [AB]:\n(.*)", messages[0].content)
        yield Chunk(self.habit(first, second))
        yield Chunk("", True, "stop")


@pytest.mark.parametrize(
    ("habit", "shares", "agreed"),
    [
        (lambda first, second: "A", (0.5, 0.5), 0.0),
        (lambda first, second: "A" if len(first) > len(second) else "B", (0.0, 1.0), 1.0),
        (lambda first, second: "I cannot say.", (0.5, 0.5), 1.0),
    ],
    ids=["first place", "longer", "nothing"],
)
def test_places_decide_nothing_and_habits_that_hold_do(habit, shares, agreed, tmp_path):
    from smidgen.data.remembering import Notebook
    from smidgen.evaluate.comparing.contestants import Contestant

    referee, notebook = Referee(habit), Notebook(tmp_path / "notes.jsonl")
    for _ in range(2):
        found = judge(
            Contestant("referee", "echo"), ["?", "!"], [["a", "b"], ["aaaa", "bbb"]], notebook,
            open_judge=lambda: referee, taking_part=False, progress=lambda event: None,
        )  # fmt: skip
        assert (found.shares, found.agreed) == (shares, agreed)
    assert referee.asked == 4, "two pairs in two orders, and nothing twice"


def test_an_opinion_of_few_pairs_is_no_sure_difference():
    opinion = summarise("judge", [Duel(0, 0, 1, 1.0, True)], 2, False)
    found = choose([REALISTIC["Scores"]()] * 2, [[None], [None]], opinion)
    assert found.apart[0][1] == Apart(-1.0, -1.0, 0.0)


def test_a_noisy_machine_is_seen_in_its_rounds():
    assert Range.of([[10.0], [12.0]]).spread == pytest.approx(0.2) and Range.of([[], []]) is None


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chromium_shows_it_without_errors_or_requests(page, tmp_path, scheme):
    import matplotlib.image

    shot, printed, asked = REPORT["visit"](page, tmp_path, scheme)
    assert "CONSOLE" not in printed and asked == set()
    corner = matplotlib.image.imread(shot)[5, 5, :3].mean()
    assert corner > 0.9 if scheme == "light" else corner < 0.2


@pytest.mark.browser
@pytest.mark.parametrize(("width", "phone"), [(390, True), (1200, False)], ids=["phone", "desktop"])
def test_nothing_hangs_over_and_all_that_scrolls_has_the_keyboard(page, tmp_path, width, phone):
    kind = runpy.run_path(str(HERE.parent / "serving" / "web" / "conftest.py"))["Browser"]
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    browser = kind(tmp_path / "profile")
    try:
        browser.size(width, 900, phone=phone)
        browser.call("Page.navigate", url=(tmp_path / "page.html").as_uri())
        browser.wait("document.readyState === 'complete' && document.querySelector('main') !== null")
        assert browser.run("document.documentElement.scrollWidth") <= width
        scrolling = "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
        scrolling += (
            "/auto|scroll/.test(getComputedStyle(e).overflowX) && e.tabIndex < 0 && e !== document.body).length"
        )
        assert browser.run(scrolling) == 0
        tall = "[...document.querySelectorAll('.card, .cards li')].every(e => e.scrollWidth <= e.clientWidth + 1)"
        assert browser.run(tall) and browser.complaints == []
    finally:
        browser.close()
