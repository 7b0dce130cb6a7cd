"""What a person may write where a model is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.errors import InvalidInput, ReferenceNotFound, SmidgenError, Unsupported
from smidgen.models.reference import Reference, parse, similar_names
from smidgen.models.store import Store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A folder of its own inside the test's: what lies beside the test's folder is not known.
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "tiny.gguf").write_bytes(b"GGUF\3\0\0\0")
    (folder / "blob").write_bytes(b"GGUF\3\0\0\0")
    (folder / "weights.bin").write_bytes(b"\x80\4")
    (folder / "text.txt").write_text("no model")
    (folder / "out" / "model").mkdir(parents=True)
    (folder / "out" / "model" / "config.json").write_text("{}")
    for name in ("out", "my models"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text("{}")
    (folder / "made").mkdir()
    (folder / "made" / "model.gguf").write_bytes(b"GGUF")
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smollm2:135m", Reference("catalog", "smollm2:135m")),
        ("  SmolLM2:135M ", Reference("catalog", "smollm2:135m")),
        ("Qwen3:0.6B", Reference("hub", "Qwen/Qwen3-0.6B", "main")),
        ("org/Name", Reference("hub", "org/Name", "main")),
        ("org/name@refs/pr/1", Reference("hub", "org/name", "refs/pr/1")),
        ("hf:org/name@v1.0", Reference("hub", "org/name", "v1.0")),
        ("HF:org/name", Reference("hub", "org/name", "main")),
        ("hf:org/name/q4.gguf@abc", Reference("hub", "org/name", "abc", Path("q4.gguf"))),
        ("ollama:llama3.2", Reference("ollama", "llama3.2")),
        ("Ollama:me/mine:v1", Reference("ollama", "me/mine:v1")),
        ("ollama:localhost:5000/me/mine", Reference("ollama", "localhost:5000/me/mine")),
        ("llama3.2", Reference("ollama", "llama3.2")),
        ("phi3.5", Reference("ollama", "phi3.5")),
        ("qwen2", Reference("ollama", "qwen2")),
        ("gemma2", Reference("ollama", "gemma2")),
        ("mistral", Reference("ollama", "mistral")),
    ],
)
def test_names_are_understood(text: str, expected: Reference) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["hf:org/name", "hf:org/name@v1", "hf:org/name/q4.gguf@v1", "smollm2:135m"])
def test_a_reference_reads_as_it_was_written(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("tiny.gguf", "gguf", "tiny.gguf"),
        ("./tiny.gguf", "gguf", "tiny.gguf"),
        ("./blob", "gguf", "blob"),
        ("./out/model", "folder", "out/model"),
        ("out/model", "folder", "out/model"),
        ("out/model/", "folder", "out/model"),
        ("./made", "gguf", "made/model.gguf"),
        ("made", "gguf", "made/model.gguf"),
        ("out", "folder", "out"),
        ("my models", "folder", "my models"),
        ("blob", "gguf", "blob"),
    ],
)
def test_places_are_understood(here: Path, text: str, kind: str, place: str) -> None:
    reference = parse(text)
    assert (reference.kind, reference.path) == (kind, here / place)
    assert parse(str(here / place)).path == here / place


def test_stored_names_are_found_in_any_case_and_default_to_latest(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    store.add("My-Model", {"a.gguf": tmp_path / "a.gguf"}, {})
    store.add("my-model:v2", {"a.gguf": tmp_path / "a.gguf"}, {})
    assert parse("MY-model", store) == Reference("store", "my-model:latest")
    assert parse("my-model:V2", store) == Reference("store", "my-model:v2")
    with pytest.raises(ReferenceNotFound, match=r"Did you mean 'my-model:v2'\?"):
        parse("my-modle:v2", store)


def test_a_name_counts_before_a_folder_of_that_name(here: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.add("made", {"tiny.gguf": here / "tiny.gguf"}, {})
    assert parse("made", store) == Reference("store", "made:latest")
    assert parse("./made", store).path == here / "made" / "model.gguf"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", InvalidInput, "No model is named"),
        ("  ", InvalidInput, "names no model"),
        ("a\0b", InvalidInput, "names no model"),
        ("smolm2:135m", ReferenceNotFound, "Did you mean 'smollm2:135m'"),
        ("smolm2", ReferenceNotFound, "Did you mean 'smollm2:135m' or"),
        ("empty", InvalidInput, "no config.json"),
        ("text.txt", InvalidInput, "not a GGUF"),
        ("a b", InvalidInput, "is not a name"),
        ("a:b:c", InvalidInput, "is not a name"),
        ("..:x", InvalidInput, "is not a name"),
        ("../x", ReferenceNotFound, "no file or folder"),
        ("..", InvalidInput, "no config.json"),
        ("tny.gguf", ReferenceNotFound, "Did you mean 'tiny.gguf'"),
        ("a/b/c", ReferenceNotFound, "no file or folder"),
        ("./" + "x" * 5000, ReferenceNotFound, "no file or folder"),
        ("./empty", InvalidInput, "no config.json"),
        ("./text.txt", InvalidInput, "not a GGUF"),
        ("./weights.bin", Unsupported, "pickle"),
        ("hf:name", InvalidInput, "not a repository"),
        ("hf:../name", InvalidInput, "not a repository"),
        ("hf:org/name@", InvalidInput, "not a repository"),
        ("hf:org/name@../..", InvalidInput, "not a repository"),
        ("hf:org/name/../x.gguf", InvalidInput, "not a repository"),
        ("https://example.org/x", InvalidInput, "web address"),
        ("ollama:", InvalidInput, "not a name"),
        ("ollama:a/b/c/d", InvalidInput, "no name in a registry"),
        ("ollama:../../etc/passwd", InvalidInput, "n"),
        ("ollama:no_host!/a/b", InvalidInput, "no name in a registry"),
    ],
)
def test_what_cannot_be_meant_is_said_clearly(here: Path, text: str, error: type[SmidgenError], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        parse(text)
    assert raised.value.remedy


def test_several_gguf_files_in_a_folder_are_listed(here: Path) -> None:
    (here / "made" / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(InvalidInput, match=r"model\.gguf, other\.gguf"):
        parse("./made")


@pytest.mark.parametrize(
    ("text", "similar"),
    [
        ("smollm2:135", ["smollm2:135m"]),
        ("SmolLM2:135", ["smollm2:135m"]),
        ("tikets", ["tickets:v2"]),
        ("tickets:v1", ["tickets:v2"]),
        ("llama3.2:5b", ["llama3.2:3b", "llama3.2:1b"]),
        ("llama3.2", ["llama3.2:1b", "llama3.2:3b"]),
        ("smollm2:135m", []),
        ("something:else", []),
        ("smollm2:135" + "5" * 10**6, []),
    ],
)
def test_names_like_one_that_names_nothing(text: str, similar: list[str]) -> None:
    assert similar_names(text, ["tickets:v2"]) == similar
