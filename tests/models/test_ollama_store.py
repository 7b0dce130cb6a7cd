"""The models that Ollama keeps on this machine: read, run, taken in, and never written to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from smidgen.cli.main import main
from smidgen.errors import DamagedFile, InvalidInput
from smidgen.models.reference import parse
from smidgen.models.sources import fetch
from smidgen.models.store import Store


@pytest.fixture
def ollama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "ollama"
    monkeypatch.setenv("OLLAMA_MODELS", str(root))
    add(root, "registry.ollama.ai/library/llama3.2/3b", {"model": b"GGUF three", "system": b"Be brief."})
    add(root, "registry.ollama.ai/me/mine/latest", {"model": b"GGUF mine", "adapter": b"GGUF lora"})
    add(root, "example.org/me/far/v1", {"model": b"GGUF far"})
    add(root, "registry.ollama.ai/library/odd/latest", {"tensor": b"x"})
    return root


def add(root: Path, place: str, layers: dict[str, bytes]) -> None:
    (root / "blobs").mkdir(parents=True, exist_ok=True)

    def put(content: bytes, media_type: str) -> dict[str, Any]:
        sha256 = hashlib.sha256(content).hexdigest()
        (root / "blobs" / f"sha256-{sha256}").write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": len(content)}

    described = [put(content, f"application/vnd.ollama.image.{kind}") for kind, content in layers.items()]
    manifest = {"schemaVersion": 2, "config": put(b"{}", "application/vnd.docker.container.image.v1+json")}
    (root / "manifests" / place).parent.mkdir(parents=True, exist_ok=True)
    (root / "manifests" / place).write_text(json.dumps({**manifest, "layers": described}))


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_its_models_are_listed_beside_the_own_ones(ollama: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    store.add("own", {"a.gguf": tmp_path / "a.gguf"}, {})
    assert [model.name for model in store.list()] == [
        "example.org/me/far:v1",
        "llama3.2:3b",
        "me/mine:latest",
        "own:latest",
    ]
    assert [model.name for model in store.list() if model.facts.get("read_only")] == [
        "example.org/me/far:v1",
        "llama3.2:3b",
        "me/mine:latest",
    ]


def test_its_models_are_found_by_their_names(ollama: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    local = fetch(parse("Me/Mine", store), store)
    assert local.path.read_bytes() == b"GGUF mine" and local.kind == "gguf"
    assert [(local.path.parent / name).read_bytes() for name in local.facts["adapters"]] == [b"GGUF lora"]
    assert store.resolve("llama3.2:3b").facts["system"] == "Be brief."
    assert fetch(parse("ollama:llama3.2:3b", store), store, offline=True).path.parent == ollama / "blobs"


def test_an_own_model_of_the_same_name_comes_first(ollama: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "a.gguf").write_bytes(b"GGUF own")
    store.add("me/mine", {"a.gguf": tmp_path / "a.gguf"}, {})
    assert store.resolve("me/mine").folder.is_relative_to(store.root)
    assert len([model for model in store.list() if model.name == "me/mine:latest"]) == 1


def test_nothing_in_it_is_ever_changed(ollama: Path, tmp_path: Path) -> None:
    store, before = Store(tmp_path / "store"), files(ollama)
    for change in (store.remove, lambda name: store.describe(name, {})):
        with pytest.raises(InvalidInput, match="kept by Ollama"):
            change("me/mine")
    copied = store.copy("me/mine", "taken")
    assert copied.folder.is_relative_to(store.root) and "read_only" not in copied.facts
    assert fetch(parse("taken", store), store).path.read_bytes() == b"GGUF mine"
    store.remove("taken")
    store.collect_garbage()
    assert files(ollama) == before


def test_a_model_that_lost_a_part_is_said_to_be_damaged_and_not_listed(ollama: Path, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"GGUF three").hexdigest()
    (ollama / "blobs" / f"sha256-{sha256}").unlink()
    store = Store(tmp_path / "store")
    with pytest.raises(DamagedFile, match=r"ollama pull llama3\.2:3b"):
        store.resolve("llama3.2:3b")
    assert "llama3.2:3b" not in [model.name for model in store.list()]


def test_the_command_line_lists_its_models_and_shows_who_keeps_them(ollama: Path, capsys: Any) -> None:
    assert main(["list", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)["models"]}
    assert (listed["me/mine:latest"]["format"], listed["me/mine:latest"]["kept_by"]) == ("gguf", "ollama")
    assert main(["list"]) == 0
    assert "kept by" in capsys.readouterr().out
    assert main(["rm", "me/mine"]) == 2
    assert "kept by Ollama" in capsys.readouterr().err


def test_its_models_run_where_they_lie(ollama: Path, smollm2_gguf: Path, capsys: Any) -> None:
    layers = {"model": b"", "template": b"{{ .Prompt }}", "params": b'{"temperature": 0, "num_predict": 2}'}
    add(ollama, "registry.ollama.ai/library/tiny/latest", layers)
    place = ollama / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    manifest = json.loads(place.read_text())
    digest = smollm2_gguf.resolve().name.removeprefix("sha256-")
    (ollama / "blobs" / f"sha256-{digest}").symlink_to(smollm2_gguf)
    manifest["layers"][0] |= {"digest": f"sha256:{digest}", "size": smollm2_gguf.stat().st_size}
    place.write_text(json.dumps(manifest))
    assert main(["run", "tiny", "The capital of France is", "--json", "--quiet", "--num-ctx", "64"]) == 0
    assert "Paris" in json.loads(capsys.readouterr().out)["response"]
