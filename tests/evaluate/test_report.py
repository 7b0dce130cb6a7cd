"""The report of a realistic receipt: what it says, that it stands alone, and how it looks to a browser."""

import copy
import json
import re
import runpy
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import pytest

from smidgen.errors import Unsupported
from smidgen.evaluate.report import plots, render, samples, view, words

REALISTIC = runpy.run_path(str(Path(__file__).with_name("realistic_receipt.py")))
FORMATS = REALISTIC["FORMATS"]


@pytest.fixture
def receipt() -> dict:
    return REALISTIC["realistic_receipt"]()


class Outline(HTMLParser):
    """Collects what a page is made of, and finds elements that are not closed."""

    EMPTY = frozenset({"meta", "link", "br", "img", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def spoken(page: str) -> str:
    return re.sub(r"\s+", " ", Outline(page).text)


def test_the_verdict_comes_first_and_the_budget_is_set_against_the_result(receipt):
    page = spoken(render(receipt))
    assert page.index("Budget missed: quality") < page.index("Budget against result")
    verdict = "80.0 MB, 0.81 of the source’s bytes; same top token 91.2%; KL 0.0612 on Python documentation (held out)."
    assert verdict in page
    assert "Size of the fileat most 80.0 MB80.0 MB (79,998,976 bytes)✓ met" in page
    assert "Quality keptat least 95.0%91.2% same top token on Python documentation (held out)✗ missed" in page
    assert "Time to make itwithin 4 min 0 s2 min 42 s✓ met" in page
    receipt["met"]["keep"] = True
    assert "Budget met" in spoken(render(receipt))
    receipt["met"] = {"size": None, "speed": None, "keep": None}
    assert "No budget was set" in spoken(render(receipt))


def test_every_figure_of_the_receipt_is_shown(receipt):
    page = spoken(render(receipt))
    for shown in (
        "0.0612 ± 0.0041", "0.472", "1.31", "1.046 ± 0.012", "0.981", "2,040 (8 × 512)",  # quality with intervals
        "63.5 (61.6 to 64.8)", "1.16× (1.10 to 1.22)", "252.0 MB", "231.0 MB",  # speed and memory
        "30.1 MB", "15.9 MB", "0.53×", "4.76 bits per weight",  # size
        "0.0585", "1.05×", "61",  # predicted
        "model.layers.29.mlp.down_proj.weight", "Embedding: iq4_nl at 4.50.",
        "AMD EPYC 9354P", "torch 2.9.1", "cd" * 32, "ab" * 32, "9f2c" * 16, "Apache-2.0",
        "solver gptq", "stands in for your own text",
    ):  # fmt: skip
        assert shown in page, shown


def test_the_cost_is_said_in_plain_words(receipt):
    page = spoken(render(receipt))
    assert "about 1 in 11 tokens would be chosen differently, and perplexity rises by 4.6%." in page
    assert "The divergence on general prose is 1.4 times that on Python documentation (held out)." in page
    assert "dequantised from Q4_1" in page and "Not measured here: tasks" in page
    assert "parameters were removed" not in page and "Tokens were removed" not in page
    receipt["result"]["parameters"] = 100_000_000
    receipt["quality"][0]["dropped_mass"] = 0.023
    page = spoken(render(receipt))
    assert "25.7% of the parameters were removed" in page
    assert "Tokens were removed that carried 2.3% of the source’s probability" in page


def test_it_says_how_to_run_the_model_everywhere(receipt):
    receipt["steps"] = [step for step in receipt["steps"] if step["operation"] != "distill"]
    page = spoken(render(receipt))
    for command in (
        "smidgen run model.gguf", "llama-cli -m model.gguf", "llama-server -m model.gguf",
        "ollama create demo -f Modelfile", 'from_pretrained(".", gguf_file="model.gguf")',
    ):  # fmt: skip
        assert command in page
    receipt["steps"].append({"name": "cut", "operation": "prune", "parameters": {}, "seconds": 3.0, "key": "c"})
    assert 'from_pretrained("model")' in spoken(render(receipt))


def test_what_was_not_measured_is_said_so(receipt):
    least = {"format": 1, "source": {"name": "m", "bytes": 10**8}, "result": {"bytes": 5 * 10**7}}
    page = spoken(render(least))
    assert "m at 50.0 MB" in page and "quality not measured" in page and page.count("not measured") >= 8
    for part in ("quality", "speed", "tensors", "predicted"):
        shorter = {name: value for name, value in receipt.items() if name != part}
        assert "</html>" in render(shorter), part


def test_the_page_is_whole_and_stands_alone(receipt):
    page = render(receipt)
    outline = Outline(page)
    assert outline.open == []
    assert not {"script", "iframe", "object", "base"} & {tag for tag, _ in outline.elements}
    for tag, attributes in outline.elements:
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import", page)
    identifiers = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    pointed = {
        attributes["href"][1:] for _, attributes in outline.elements if attributes.get("href", "").startswith("#")
    }
    assert pointed <= set(identifiers)


def test_the_page_can_be_read_without_seeing_it(receipt):
    elements = Outline(render(receipt)).elements
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all("scope" in attributes for tag, attributes in elements if tag == "th")
    drawn = [attributes for tag, attributes in elements if tag == "svg"]
    assert len(drawn) == 5 and all(each["role"] == "img" and len(each["aria-label"]) > 30 for each in drawn)
    assert ("html", {"lang": "en"}) in elements


def test_text_of_others_is_not_taken_for_markup(receipt):
    receipt["source"]["name"] = "<script>alert(1)</script>"
    receipt["quality"][0]["text"] = 'a "quoted" <i>text</i> & $x$'
    page = render(receipt)
    assert "<script>" not in page and "<i>" not in page and "<b>this" not in page
    assert Outline(page).open == []
    assert "Is <b>this</b> safe?" in Outline(page).text and 'a "quoted" <i>text</i> & $x$' in Outline(page).text


def test_the_same_receipt_gives_the_same_bytes(receipt):
    assert render(copy.deepcopy(receipt)) == render(receipt)


def test_colours_follow_the_page(receipt):
    drawn = "".join(plot.svg for plot in plots.draw_all(receipt).values() if plot)
    assert "var(--c1)" in drawn and "var(--s3)" in drawn
    assert not re.search(r"#[0-9a-f]{6}", drawn), "a fixed colour would be unreadable in the dark"
    style = (Path(view.__file__).parent / "report.css").read_text()
    for variable in set(re.findall(r"var\(--(\w+)\)", drawn + style)):
        assert f"--{variable}:" in style, variable


def contrast(one: str, two: str) -> float:
    """Contrast ratio by WCAG 2."""

    def luminance(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_contrast_enough(scheme):
    style = (Path(view.__file__).parent / "report.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]))
    pairs = [(text, ground) for text in ("ink", "muted", "accent", "good", "bad") for ground in ("paper", "surface")]
    pairs += [("good", "good-soft"), ("bad", "bad-soft"), ("ink", "note-soft"), ("note", "note-soft")]
    for text, ground in pairs:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for drawn in ("c1", "c2", "c3", "c4"):
        assert contrast(colours[drawn], colours["surface"]) >= 3, drawn


def test_a_receipt_of_another_format_is_refused(receipt):
    with pytest.raises(Unsupported, match="format 2"):
        render(receipt | {"format": 2})


def test_given_answers_take_the_place_of_the_receipt_s(receipt):
    page = spoken(render(receipt, [{"prompt": "Hello?", "source": "", "result": "Hi."}]))
    assert "Hello?" in page and "(no answer)" in page and "Tom has" not in page


def test_differences_are_marked_on_both_sides():
    found = samples.compare({"prompt": "p", "source": "a b c", "result": "a x c d"})
    assert [piece.text for piece in found.source if piece.own] == ["b"]
    assert [piece.text for piece in found.result if piece.own] == ["x", " d"]
    assert "".join(piece.text for piece in found.result) == "a x c d"
    assert samples.compare({"prompt": "p", "source": "a", "result": "a"}).alike == 1


def test_bits_have_a_colour_each_while_they_are_few():
    few = plots._scale([{"bits_per_weight": bits, "format": kind} for kind, bits in FORMATS.items()])
    assert [label for _, _, label in few] == ["4.5 (iq4_nl, q4_0)", "5 (q4_1)", "5.5 (q5_0)", "8.5 (q8_0)"]
    many = plots._scale([{"bits_per_weight": 2 + step / 4} for step in range(20)])
    assert len(many) <= 6 and many[0][2].startswith("2 to") and many[-1][0] == 6.75
    for scale in (few, many):
        colours = [colour for _, colour, _ in scale]
        assert colours == sorted(set(colours)) and set(colours) <= {f"s{step}" for step in range(1, 7)}


def test_tensors_of_both_namings_are_placed():
    for name, expected in {
        "blk.12.attn_output.weight": (12, "output"), "output.weight": (None, "head"), "lm_head.weight": (None, "head"),
        "model.layers.7.mlp.down_proj.weight": (7, "down"), "model.norm.weight": (None, "other"),
    }.items():  # fmt: skip
        assert plots.place(name) == expected


def test_numbers_are_those_of_people():
    assert words.one_in(0.51) == "more than half"
    assert (words.share(0.0), words.share(1.0), words.number(1e-9), words.number(float("inf"))) == (
        "0.0%",
        "100.0%",
        "0.000000",
        "not finite",
    )


def visit(page: str, folder: Path, scheme: str) -> tuple[Path, str, set[str]]:
    """Show a page in Chromium; return the screenshot, what it printed and what the page asked the network for."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    program = next((path for path in found if path), None)
    assert program, "this test needs Chromium"
    written, shot, log = folder / "page.html", folder / "page.png", folder / "network.json"
    written.write_text(page, encoding="utf-8")
    dark = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    command = [
        *(program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"),
        *("--disable-background-networking", "--no-first-run", f"--user-data-dir={folder / 'profile'}"),
        *(f"--log-net-log={log}", dark, "--window-size=1000,6000", f"--screenshot={shot}", written.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    events = [event.get("params", {}) for event in json.loads(log.read_text(errors="replace"))["events"]]
    # The browser's own requests have no origin; those of a page opened from disk have the origin "null" or "file://".
    asked = {
        params["url"] for params in events if "url" in params and params.get("initiator", "not") in ("null", "file://")
    }
    return shot, done.stderr, asked


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chromium_shows_it_without_errors_or_requests(receipt, tmp_path, scheme):
    shot, printed, asked = visit(render(receipt), tmp_path, scheme)
    assert "CONSOLE" not in printed and asked == set()
    corner = matplotlib.image.imread(shot)[5, 5, :3].mean()
    assert corner > 0.9 if scheme == "light" else corner < 0.2


@pytest.mark.browser
def test_chromium_would_tell_of_errors_and_requests(tmp_path):
    page = '<img src="http://127.0.0.1:9/a.png"><script>console.error("seen")</script>'
    _, printed, asked = visit(page, tmp_path, "light")
    assert "CONSOLE" in printed and asked == {"http://127.0.0.1:9/a.png"}


def test_training_is_drawn_and_told(receipt):
    page = render(receipt)
    assert "Loss while training." in page and "Training and held-out loss of step 2, distill." in page
    fell = "In step 2, distill, the loss on held-out text fell from 0.310 to 0.190"
    assert f"{fell}, and ended 0.0400 above that of training." in spoken(page)
    receipt["steps"][1]["curves"]["held_out"] = [[0, 0.31], [60, 0.4]]
    assert "the loss on held-out text did not fall" in spoken(render(receipt))


def test_the_ways_that_were_weighed_are_shown(receipt):
    assert "29 of 30 layers0.1100.03100.141" in spoken(render(receipt))
    del receipt["predicted"]["mixes"]
    assert "29 of 30 layers" not in render(receipt)


def test_weaknesses_are_named_the_weak_ones_first(receipt):
    assert "--keep" in render(receipt)
    strong = {"name": "turns", "value": 0.9, "unit": "share", "sentence": "It remembers.", "weak": False}
    weak = {"name": "long_range", "value": 0.2, "unit": "share", "sentence": "It <forgets>.", "low": 0.1, "high": 0.4}
    page = render(receipt | {"findings": [strong, weak | {"weak": True}]})
    assert page.index("Long range") < page.index("Turns") and "It &lt;forgets&gt;." in page
    assert "20% (10% to 40%)" in page
