from pathlib import Path

import datasets
import pytest

from smidgen.data.hf import from_dataset, parse
from smidgen.data.loading import load
from smidgen.data.rows import Corpus, Row
from smidgen.errors import InvalidInput, MissingExtra, SourceUnavailable


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("hf:org/name", ("org/name", None, None, "train")),
        ("hf:imdb:test", ("imdb", None, None, "test")),
        ("hf:org/name:main", ("org/name", None, "main", "train")),
        ("hf:org/name@v1.0:main:validation", ("org/name", "v1.0", "main", "validation")),
        ("hf:org/name:main:train[10%:20%]", ("org/name", None, "main", "train[10%:20%]")),
        ("hf:org/name:wikitext-2-raw-v1:test[:5]", ("org/name", None, "wikitext-2-raw-v1", "test[:5]")),
    ],
)
def test_references(spec: str, parts: tuple[str, ...]) -> None:
    assert parse(spec) == parts


@pytest.mark.parametrize("spec", ["hf:", "hf:a/b/c", "hf:a/b:c:d:e", "hf:a b", "hf:../x/y"])
def test_bad_references(spec: str) -> None:
    with pytest.raises(InvalidInput, match="is not a data set of the hub"):
        load(spec)


def test_rows_and_class_names_of_a_data_set() -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    records = [{"text": "a fox", "label": 1}, {"text": "", "label": 0}, {"text": "a dog", "label": -1}]
    corpus = from_dataset(datasets.Dataset.from_list(records, features=features), "hf:org/name")
    assert corpus.sha256 == Corpus("x", (Row("a fox", label="good"), Row("a dog", label="-1"))).sha256
    assert corpus.warnings == ("1 empty row was left out (first: hf:org/name, row 2).",)


def test_offline_without_a_cached_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(SourceUnavailable, match="'org/nothing' cannot be had: offline is asked for"):
        load("hf:org/nothing", offline=True)
    assert not datasets.config.HF_HUB_OFFLINE


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'smidgen\[data\]'"):
        load("hf:org/name")


@pytest.fixture
def local_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set that the library finds by name without the hub: a folder in the working folder."""
    (tmp_path / "animals").mkdir()
    (tmp_path / "animals" / "test.jsonl").write_text('{"text": "a fox"}\n{"text": "a dog"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("local_data_set")
def test_the_library_loads_the_rows_without_progress_bars(capfd: pytest.CaptureFixture[str]) -> None:
    corpus = load("hf:animals:test", offline=True)
    assert [row.text for row in corpus.rows] == ["a fox", "a dog"]
    assert corpus.name == "hf:animals:test"
    assert not capfd.readouterr().err
    assert not datasets.are_progress_bars_disabled()


@pytest.mark.usefixtures("local_data_set")
def test_a_split_or_configuration_that_does_not_exist_is_explained() -> None:
    with pytest.raises(InvalidInput, match=r'Unknown split "train".*test.*Name configuration and split'):
        load("hf:animals", offline=True)
    with pytest.raises(InvalidInput, match="nosuch"):
        load("hf:animals:nosuch:test", offline=True)
