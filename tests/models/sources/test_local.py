"""Folders and GGUF files on this machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from smidgen.errors import DamagedFile, InvalidInput, SmidgenError, Unsupported
from smidgen.models.reference import Reference, parse
from smidgen.models.sources import fetch, pull
from smidgen.models.store import Store


@pytest.fixture
def folder(tmp_path: Path, model_files: dict[str, bytes]) -> Path:
    place = tmp_path / "My Model"
    place.mkdir()
    for name, content in model_files.items():
        if "/" not in name:
            (place / name).write_bytes(content)
    return place


def test_a_folder_is_used_where_it_lies(folder: Path, store: Store) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    model = fetch(parse(str(folder)), store)
    assert (model.path, model.kind, model.name) == (folder, "safetensors", str(folder))
    assert (model.licence, model.base_model) == ("apache-2.0", "org/base")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert not store.root.exists()


def test_the_digest_follows_the_model_and_not_its_papers(folder: Path, store: Store) -> None:
    def digest() -> str:
        return fetch(parse(str(folder)), store).sha256

    first = digest()
    (folder / "LICENSE").write_text("other terms")
    (folder / "logo.png").write_bytes(b"another")
    assert digest() == first
    (folder / "tokenizer.json").write_text('{"version": 2}')
    assert digest() != first


def test_a_pulled_folder_keeps_its_digest_and_what_is_known(folder: Path, store: Store, kept: set[str]) -> None:
    local = fetch(parse(str(folder)), store)
    stored = pull(str(folder), store)
    assert stored.name == "my-model:latest"
    assert set(stored.paths) == kept
    again = fetch(parse("my-model", store), store)
    assert (again.sha256, again.bytes, again.licence) == (local.sha256, local.bytes, "apache-2.0")
    assert {path.name for path in again.files} == {"LICENSE", "README.md"}
    assert (folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"config.json": b"{"}, DamagedFile, "is not JSON"),
        ({"config.json": b"\xff\xfe"}, DamagedFile, "is not JSON"),
        ({"config.json": b"[1]"}, DamagedFile, "not a JSON object"),
        ({"config.json": b'{"model_type": "mine", "auto_map": {}}'}, Unsupported, "remote code is never executed"),
        ({"model.safetensors": b""}, DamagedFile, "cut short"),
        ({"model.safetensors": None, "consolidated.safetensors": None}, Unsupported, "only as pickles"),
        (
            {"model.safetensors": None, "consolidated.safetensors": None, "pytorch_model.bin": None},
            InvalidInput,
            "holds no safetensors",
        ),
        ({"model.safetensors.index.json": b"{}"}, DamagedFile, "no weight map"),
        (
            {"model.safetensors.index.json": json.dumps({"weight_map": {"a": "model-2.safetensors"}}).encode()},
            DamagedFile,
            "lacks model-2.safetensors",
        ),
    ],
)
def test_a_folder_that_is_not_what_it_claims_is_refused(
    folder: Path, store: Store, change: dict[str, bytes | None], error: type[SmidgenError], message: str
) -> None:
    for name, content in change.items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
    with pytest.raises(error, match=message):
        fetch(parse(str(folder)), store)


@pytest.mark.parametrize("card", [b"no head", b"---\n: [\n---\n", b"---\n- a\n---", b"\xff\xfe---", b"---"])
def test_a_card_that_says_nothing_is_no_error(folder: Path, store: Store, card: bytes) -> None:
    (folder / "README.md").write_bytes(card)
    assert fetch(parse(str(folder)), store).licence is None


def test_a_gguf_file_is_used_where_it_lies(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "Tiny Model.gguf"
    path.write_bytes(b"GGUF rest")
    (tmp_path / "README.md").write_text("of something else")
    model = fetch(parse(str(path)), store)
    assert (model.path, model.kind, model.bytes) == (path, "gguf", 9)
    assert model.sha256 == hashlib.sha256(b"GGUF rest").hexdigest()
    assert model.files == ()
    assert not store.root.exists()


def test_the_card_and_licence_beside_a_gguf_file_travel_with_it(tmp_path: Path, store: Store) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "README.md").write_text("---\nlicense: gemma\nbase_model: google/gemma-3-270m\n---\n")
    (tmp_path / "LICENSE.html").write_text("terms")
    stored = pull(str(tmp_path / "model.gguf"), store, name="kept:v1")
    model = fetch(parse("kept:v1", store), store)
    assert set(stored.paths) == {"model.gguf", "README.md", "LICENSE.html"}
    assert (model.licence, model.base_model, model.path.name) == ("gemma", "google/gemma-3-270m", "model.gguf")


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\3\4", b"FUGG"])
def test_a_file_that_only_bears_the_name_is_refused(tmp_path: Path, store: Store, content: bytes) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(DamagedFile, match="is not a GGUF file"):
        fetch(parse(str(tmp_path / "a.gguf")), store)


def test_a_stored_model_without_weights_is_named(tmp_path: Path, store: Store) -> None:
    (tmp_path / "a").write_bytes(b"x")
    store.add("odd", {"a": tmp_path / "a"}, {})
    with pytest.raises(DamagedFile, match="holds no weights"):
        fetch(Reference("store", "odd:latest"), store)
