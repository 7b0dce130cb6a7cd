"""`verify` measures a receipt again, and notices what changed."""

from __future__ import annotations

import json
import shutil

import pytest

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound, SmidgenError
from smidgen.recipe import shortcomings
from smidgen.recipe.make import apply
from smidgen.recipe.verify import verify


@pytest.fixture(scope="module")
def original(source, hurried, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verified")
    (folder / "source.gguf").write_bytes(source.read_bytes())
    (folder / "recipe.yaml").write_text(
        f"source: {folder / 'source.gguf'}\nwindows: 2\nsteps:\n"
        "  - {operation: quantize, default: q4_0, solver: nearest}\n"
    )
    apply(folder / "recipe.yaml", out=folder / "out", threads=1)
    return folder / "out"


@pytest.fixture
def folder(original, tmp_path):
    shutil.copytree(original, tmp_path / "out")
    return tmp_path / "out"


def change(folder, edit) -> None:
    content = json.loads((folder / "receipt.json").read_text())
    edit(content)
    (folder / "receipt.json").write_text(json.dumps(content))


def failed(folder) -> list[str]:
    found = verify(folder)
    names = [check["name"] for check in found.checks if not check["ok"]]
    assert found.ok == (not names)
    return names


def test_a_copy_is_still_what_its_receipt_says(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = verify(folder)
    assert found.ok and found.folder == folder
    assert [check["name"] for check in found.checks] == [
        "sha256",
        "held-out: kl_mean",
        "held-out: same_top",
        "held-out: ppl_ratio",
    ]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["kl_mean", "same_top", "ppl_ratio"])
def test_a_figure_beyond_its_interval_is_noticed_and_one_within_is_not(folder, name):
    width = next(check["tolerance"] for check in verify(folder).checks if check["name"].endswith(name))

    def embellish(content, by):
        content["quality"][0][name] += by * width

    change(folder, lambda content: embellish(content, 0.9))
    assert failed(folder) == []
    change(folder, lambda content: embellish(content, 0.4))
    assert failed(folder) == [f"held-out: {name}"]


def test_the_interval_is_that_of_the_receipt(folder):
    (one,) = [check for check in verify(folder).checks if check["name"].endswith("kl_mean")]
    written = json.loads((folder / "receipt.json").read_text())["quality"][0]
    assert one["tolerance"] == pytest.approx(max(1.96 * written["kl_mean_se"], 0.02 * written["kl_mean"]), rel=1e-3)


def test_kept_weaknesses_stand_in_receipt_and_report_and_are_measured_again(folder):
    setting = shortcomings.Setting(("capacity",), 2, 512)
    found = shortcomings.look(folder, setting, threads=1)
    shortcomings.keep(folder, found, setting)
    assert "Over 8 skills" in (folder / "report.html").read_text()
    (check,) = [check for check in verify(folder).checks if check["name"] == "weaknesses: capacity"]
    assert check["ok"] and check["measured"] == check["receipt"] == found.findings[0].value

    def embellish(content):
        for name in ("value", "low", "high"):
            content["findings"][0][name] += 50

    change(folder, embellish)
    assert failed(folder) == ["weaknesses: capacity"]
    change(folder, lambda content: content.pop("findings_setting"))
    with pytest.raises(DamagedFile, match="how its findings"):
        verify(folder)


def test_speed_is_held_against_the_receipt_only_on_its_machine(folder):
    found = verify(folder, speed=True)
    names = [check["name"] for check in found.checks[-3:]]
    assert names == ["speed: tg128", "speed: pp512", "memory: peak"] and found.checks[-1]["ok"]

    def slow_down(content):
        for name in ("tg128", "pp512"):
            content["speed"][name] |= {"low": 1e9, "median": 1e9}

    change(folder, slow_down)
    found = verify(folder, speed=True)
    judged = {check["name"] for check in found.checks if not check["ok"]}
    assert judged == {"speed: tg128", "speed: pp512"} or "noisy" in found.notes[0]
    change(folder, lambda content: content["machine"].update(processor="another"))
    found = verify(folder, speed=True)
    assert found.ok and "another machine" in found.notes[0]


def test_a_byte_of_the_weights_is_noticed(folder):
    content = bytearray((folder / "model.gguf").read_bytes())
    content[-1000] ^= 1
    (folder / "model.gguf").write_bytes(bytes(content))
    assert "sha256" in failed(folder)


def test_many_bytes_of_the_weights_move_the_figures(folder):
    content = bytearray((folder / "model.gguf").read_bytes())
    for place in range(len(content) - 40_000, len(content) - 18, 18):
        content[place + 7] ^= 0x3C
    (folder / "model.gguf").write_bytes(bytes(content))
    names = failed(folder)
    assert "sha256" in names and any("kl_mean" in name for name in names)


def test_a_file_cut_short_is_an_error_or_noticed(folder):
    (folder / "model.gguf").write_bytes((folder / "model.gguf").read_bytes()[:20_000])
    with pytest.raises(SmidgenError):
        verify(folder)


def test_what_is_missing_or_changed_is_named(folder):
    evidence = folder / "evidence" / "held-out.txt"
    text = evidence.read_text()
    evidence.write_text(text + "More.")
    with pytest.raises(DamagedFile, match=r"held-out\.txt is not the text"):
        verify(folder)
    evidence.unlink()
    with pytest.raises(ReferenceNotFound, match=r"held-out\.txt is gone"):
        verify(folder)
    (folder / "model.gguf").unlink()
    with pytest.raises(ReferenceNotFound, match=r"no model\.gguf"):
        verify(folder)
    (folder / "receipt.json").unlink()
    with pytest.raises(ReferenceNotFound, match=r"no receipt\.json"):
        verify(folder)
    with pytest.raises(ReferenceNotFound):
        verify(folder / "nowhere")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        b'{"format": 2}',
        b'{"format": 1}',
        b'{"format": 1, "result": {}}',
        b'{"format": 1, "result": {"sha256": "0"}, "source": {"name": "a"}, "quality": []}',
        b'{"format": 1, "result": 3, "source": {}, "quality": [{}]}',
    ],
)
def test_a_damaged_receipt_is_named(folder, content):
    (folder / "receipt.json").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"receipt\.json"):
        verify(folder)


def test_a_quality_that_is_no_number_is_a_damaged_receipt(folder):
    change(folder, lambda content: content["quality"][0].update(kl_mean="small"))
    with pytest.raises(DamagedFile, match=r"receipt\.json"):
        verify(folder)


def test_another_source_is_refused(folder, tmp_path, source):
    other = tmp_path / "other.gguf"
    content = bytearray(source.read_bytes())
    content[-1] ^= 1
    other.write_bytes(bytes(content))
    change(folder, lambda content: content["source"].update(name=str(other)))
    with pytest.raises(InvalidInput, match="has changed"):
        verify(folder)
    change(folder, lambda content: content["source"].update(name=str(tmp_path / "gone.gguf")))
    with pytest.raises(ReferenceNotFound, match="gone"):
        verify(folder)
