"""What cannot be made is refused with one clear message, and nothing half-written stays."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from smidgen.errors import BudgetNotMet, DamagedFile, InvalidInput, RecipeError, ReferenceNotFound, SmidgenError
from smidgen.recipe.make import apply, forecast, make

FIT = 140_000


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_size_that_cannot_be_reached_names_the_smallest(source, tmp_path, hurried):
    with pytest.raises(BudgetNotMet, match=r"10\.0 KB cannot be reached .* the smallest .* is 37\.\d KB") as caught:
        make(str(source), fit="10KB", within="30s", out=tmp_path / "out", threads=1)
    assert caught.value.exit_code == 3 and "Allow at least 37" in str(caught.value)
    assert not (tmp_path / "out").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(BudgetNotMet):
        make(str(source), fit="10KB", within="30s", out=tmp_path / "there", threads=1)
    assert (tmp_path / "there").is_dir() and not contents(tmp_path / "there")


def test_a_budget_without_units_or_limits_is_refused_before_anything_is_written(source, tmp_path):
    with pytest.raises(RecipeError) as caught:
        make(str(source), fit="80", keep="120%", within="soon", out=tmp_path / "out")
    assert len(caught.value.problems) == 3
    with pytest.raises(RecipeError, match="--fit"):
        make(str(source), out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_out_folder_that_cannot_be_written_is_refused(source, tmp_path):
    (tmp_path / "file").write_text("kept")
    for out in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out"):
        with pytest.raises(InvalidInput, match="file"):
            make(str(source), fit=FIT, out=out, threads=1)
    assert contents(tmp_path) == {"file": b"kept"}


def test_a_foreign_folder_is_not_touched(source, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    with pytest.raises(InvalidInput, match="not empty"):
        make(str(source), fit=FIT, out=tmp_path / "letters", threads=1)
    assert contents(tmp_path) == {"letters/dear.txt": b"dear"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.txt", b""),
        ("blank.txt", b" \n\n \n"),
        ("binary.txt", bytes(range(256)) * 64),
        ("empty.jsonl", b""),
        ("broken.jsonl", b'{"text": "a"\n' * 50),
        ("short.txt", b"A few words only."),
    ],
)
def test_data_that_cannot_be_used_are_refused(source, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SmidgenError, match=name.partition(".")[0]) as caught:
        make(str(source), fit=FIT, data=str(tmp_path / name), out=tmp_path / "out", threads=1)
    assert caught.value.exit_code == 2
    assert contents(tmp_path) == {name: content} and not (tmp_path / "out").exists()


def test_a_model_or_text_that_does_not_exist_is_named(source, tmp_path):
    for words in ({"source": str(tmp_path / "none.gguf")}, {"source": str(source), "data": str(tmp_path / "none.txt")}):
        with pytest.raises(ReferenceNotFound, match="none"):
            make(**words, fit=FIT, out=tmp_path / "out", threads=1)
    assert not list(tmp_path.iterdir())


def test_a_file_cut_anywhere_is_named_damaged(source, tmp_path):
    whole, generator = source.read_bytes(), random.Random(3)
    for at in [0, 3, 8, len(whole) - 1, *(generator.randrange(len(whole)) for _ in range(6))]:
        (tmp_path / "cut.gguf").write_bytes(whole[:at])
        with pytest.raises(SmidgenError, match=r"cut\.gguf") as caught:
            make(str(tmp_path / "cut.gguf"), fit=FIT, out=tmp_path / "out", threads=1)
        assert caught.value.exit_code == 2 and (at < 8 or isinstance(caught.value, DamagedFile)), at
        assert not (tmp_path / "out").exists()


def test_a_recipe_that_does_not_fit_the_model_leaves_nothing(source, tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        f"source: {source}\nwindows: 2\nsteps:\n  - {{operation: quantize, default: q4_k}}\n"
    )
    with pytest.raises(RecipeError, match="which q4_k cannot hold"):
        apply(tmp_path / "recipe.yaml", out=tmp_path / "out", threads=1)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_an_error_later_on_keeps_the_steps_that_were_made(source, tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        f"source: {source}\nwindows: 2\nsteps:\n"
        "  - {operation: prune, structure: layer, criterion: block_influence, keep: 3}\n"
        "  - {operation: quantize, default: q4_k}\n"
    )
    with pytest.raises(RecipeError, match="which q4_k cannot hold"):
        apply(tmp_path / "recipe.yaml", out=tmp_path / "out", threads=1)
    assert len(list((tmp_path / "out" / ".smidgen" / "steps").glob("*/done.json"))) == 1


def test_a_forecast_writes_nothing_and_tells_what_would_be_done(source, tmp_path, hurried):
    found = forecast(str(source), fit=80_000, within="30s", out=tmp_path / "out", threads=1)
    assert not list(tmp_path.iterdir())
    assert found.steps[0].startswith("Cut to ") and len(found.steps) == 5
    assert found.predicted["bytes"] == 80_000 and found.predicted["kl_mean"] > 0 and found.seconds == 30
    assert found.memory_bytes > 0 and found.disk_bytes > 0 and found.to_dict()["mixes"] == found.mixes
