"""Images by their paths, to a real model of random weights that sees."""

import json
import runpy
from pathlib import Path

import pytest
from PIL import Image

from smidgen.cli._pictures import take_out
from smidgen.cli.main import main
from smidgen.errors import ReferenceNotFound

video = runpy.run_path(str(Path(__file__).parents[1] / "inference" / "test_video.py"))["video"]
tiny_projector = runpy.run_path(str(Path(__file__).parents[1] / "tiny_projector.py"))
GREEDY = ["--temperature", "0", "--num-predict", "4", "--threads", "1"]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("red", "blue"):
        Image.new("RGB", (40, 30), name).save(f"{name}.png")
    Image.new("RGB", (40, 30), "red").save("a cat.jpg")
    return tmp_path


@pytest.fixture
def seeing(tiny_gguf, pictures, capsys):
    tiny_projector["write"](pictures / "eyes.gguf", 64)
    (pictures / "Modelfile").write_text(f"FROM {tiny_gguf}\nFROM ./eyes.gguf\n")
    assert main(["create", "seeing", "-f", "Modelfile"]) == 0
    (pictures / "Modelfile").write_text(
        f'FROM {tiny_gguf}\nFROM ./eyes.gguf\nTEMPLATE "{{{{ range .Messages }}}}{{{{ .Content }}}}{{{{ end }}}}"\n'
    )
    assert main(["create", "laid-out", "-f", "Modelfile"]) == 0
    capsys.readouterr()


def ask(capsys, *words):
    assert main(["run", *words, *GREEDY, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_model_that_sees_gets_the_images_that_a_prompt_names(seeing, capsys):
    for model in ("seeing", "laid-out"):
        blind, red, blue = (ask(capsys, model, f"def {image}".strip()) for image in ("", "./red.png", "blue.png"))
        assert red["metrics"]["prompt_tokens"] == blind["metrics"]["prompt_tokens"] + tiny_projector["TOKENS"]
        assert red["response"] != blue["response"]
        assert ask(capsys, model, "def red.png")["response"] == red["response"]
    raw = ask(capsys, "seeing", "def ./red.png", "--raw")
    assert raw["metrics"]["prompt_tokens"] == red["metrics"]["prompt_tokens"]


def test_it_says_which_images_it_took_and_refuses_what_is_none(seeing, pictures, capsys):
    assert main(["run", "seeing", "def ./red.png", *GREEDY]) == 0
    assert "Added image ./red.png" in capsys.readouterr().err
    (pictures / "no.png").write_text("no image")
    assert main(["run", "seeing", "What is ./no.png?", *GREEDY]) == 2
    assert "no.png: an image cannot be read as PNG" in capsys.readouterr().err
    assert main(["run", "seeing", "What is ./gone.png?", *GREEDY]) == 2
    assert "There is no image ./gone.png" in capsys.readouterr().err


def test_frames_of_a_video_are_looked_at(seeing, pictures, capsys):
    (pictures / "clip.mp4").write_bytes(video(16))
    blind = ask(capsys, "seeing", "def")
    assert main(["run", "seeing", "def ./clip.mp4 red.png", *GREEDY, "--json"]) == 0
    told, noted = capsys.readouterr()
    tokens = json.loads(told)["metrics"]["prompt_tokens"]
    assert tokens == blind["metrics"]["prompt_tokens"] + 9 * tiny_projector["TOKENS"]
    assert "Added 8 frames of ./clip.mp4, from 0.1 s to 1.5 s" in noted


def test_a_document_is_extracted_by_a_model_that_sees(seeing, pictures, capsys):
    schema = {"properties": {"hue": {"enum": ["red", "blue"], "x-kind": "seen"}}}
    (pictures / "hue.json").write_text(json.dumps(schema))
    words = ["--schema", "hue.json", "--json", "--quiet", "--threads", "1"]
    assert main(["extract", "red.png", *words, "--model", "seeing"]) == 0
    found = json.loads(capsys.readouterr().out)["fields"]["hue"]
    assert found["value"] in ("red", "blue") and found["status"] == "ungrounded" and found["box"] is None
    assert main(["extract", "red.png", *words, "--model", "none"]) == 2
    assert "only a model that sees" in capsys.readouterr().out


class Said:
    """A conversation as far as images go."""

    def __init__(self, sees):
        self.sees = sees


@pytest.mark.parametrize(
    ("text", "kept", "count"),
    [
        ("What is in ./red.png?", "What is in ?", 1),
        ("red.png blue.png", "", 2),
        ("'a cat.jpg' and \"a cat.jpg\"", "and", 2),
        (r"see a\ cat.jpg.", "see .", 1),
        ("Rename photo.png to other.png.", "Rename photo.png to other.png.", 0),
        ("See https://example.org/red.png", "See https://example.org/red.png", 0),
        ("no path", "no path", 0),
    ],
)
def test_paths_are_found_between_words(pictures, text, kept, count):
    found, images = take_out(Said(True), text, lambda note: None)
    assert (found, len(images)) == (kept, count)


def test_a_whole_path_may_begin_at_home(pictures, monkeypatch):
    monkeypatch.setenv("HOME", str(pictures))
    monkeypatch.setenv("USERPROFILE", str(pictures))
    assert len(take_out(Said(True), f"~/red.png {pictures}/blue.png", lambda note: None)[1]) == 2
    with pytest.raises(ReferenceNotFound, match=r"no image ~/gone\.png"):
        take_out(Said(True), "~/gone.png", lambda note: None)


def test_to_a_model_of_texts_a_path_is_a_name(pictures):
    notes = []
    assert take_out(Said(False), "Look at ./red.png and ./gone.png", notes.append) == (
        "Look at ./red.png and ./gone.png",
        (),
    )
    assert notes == ["This model reads no images: ./red.png is to it the name alone."]
