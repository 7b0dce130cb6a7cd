"""`smidgen extract --model` and `smidgen run` with the folder of a random model that sees, end to end."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from smidgen.cli.main import main

TINY = runpy.run_path(str(Path(__file__).parents[1] / "tiny_mississippi.py"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    TINY["write"](tmp_path / "eye", "llama")
    page = Image.new("RGB", (400, 120), "white")
    ImageDraw.Draw(page).text((40, 40), "TOTAL 12.50", fill="black", font=ImageFont.load_default(32))
    page.save(tmp_path / "page.png")
    return tmp_path


def test_what_it_says_is_grounded_where_the_page_says_it_too(place: Path, capsys: Any) -> None:
    seen = {"type": "string", "x-kind": "seen"}
    schema = {"properties": {"word": seen | {"enum": ["TOTAL"]}, "animal": seen | {"enum": ["zebra"]}}}
    (place / "schema.json").write_text(json.dumps(schema))
    words = ["extract", str(place / "page.png"), "--schema", str(place / "schema.json"), "--model", str(place / "eye")]
    assert main([*words, "--threads", "1", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    fields = (row[0] if isinstance(row, list) else row)["fields"]
    assert (fields["word"]["value"], fields["word"]["status"]) == ("TOTAL", "grounded") and fields["word"]["box"]
    assert (fields["animal"]["value"], fields["animal"]["status"]) == ("zebra", "ungrounded")
    assert fields["animal"]["box"] is None and fields["word"]["confidence"] <= 0.5


def test_it_is_shown_the_images_that_a_prompt_names(place: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(place)
    counts = []
    for prompt in ("What is it?", "What is it? ./page.png"):
        assert main(["run", "eye/", prompt, "--num-predict", "2", "--threads", "1", "--json"]) == 0
        counts.append(json.loads(capsys.readouterr().out)["metrics"]["prompt_tokens"])
    assert counts[1] > counts[0] + TINY["PLACES"]
