"""Models of a registry of Ollama's protocol, against a real HTTP server that can fail as registries do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound, SmidgenError, SourceUnavailable, Unsupported
from smidgen.models.checkpoint import gguf
from smidgen.models.reference import parse
from smidgen.models.sources import fetch, pull
from smidgen.models.sources.ollama_registry import DEFAULT_HOST, Address, push
from smidgen.models.store import Store

LAYERS = {
    "template": "{{ .Prompt }}",
    "system": "Be brief.",
    "params": {"stop": ["<a>"], "temperature": 0.5},
    "messages": [{"role": "user", "content": "Hi"}],
    "license": ["Do as you like.", "Second"],
}
NAME = "library/mine:latest"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    metadata = {"general.architecture": "llama", "llama.context_length": 64, "filler": "x" * 300_000}
    gguf.write(tmp_path / "model.gguf", metadata, [])
    return tmp_path / "model.gguf"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_model_comes_whole_with_what_its_layers_say(registry: Any, weights: Path, store: Store) -> None:
    registry.add(NAME, {"model": weights, **LAYERS, "projector": b"GGUF eyes"}, {"parser": "plain"})
    seen: list[Any] = []
    stored = pull("ollama:mine", store, progress=seen.append)
    assert stored.name == "mine:latest" and stored.paths["model.gguf"].read_bytes() == weights.read_bytes()
    facts = stored.facts
    assert (facts["template"], facts["system"], facts["parser"]) == ("{{ .Prompt }}", "Be brief.", "plain")
    assert facts["parameters"] == LAYERS["params"] and facts["messages"] == LAYERS["messages"]
    assert facts["license"] == LAYERS["license"] and facts["projectors"] == ["projector-0.gguf"]
    assert stored.paths["LICENSE"].read_text() == "Do as you like."
    stages = list(dict.fromkeys(event.stage.split()[0] for event in seen))
    assert stages[:2] == ["pulling", "verifying"] and "writing" in stages
    digests = [event.digest for event in seen if event.done and event.done == event.total and hasattr(event, "digest")]
    assert len(set(digests)) == len(json.loads(registry.manifests[NAME])["layers"]) + 1


def test_what_is_stored_is_not_asked_for_again(registry: Any, weights: Path, store: Store) -> None:
    registry.add(NAME, {"model": weights})
    reference = parse("ollama:mine", store)
    first = fetch(reference, store)
    asked = len(registry.asked)
    assert fetch(reference, store).sha256 == first.sha256 and fetch(reference, store, offline=True).path == first.path
    assert len(registry.asked) == asked
    assert parse("mine", store).kind == "store"


def test_pulling_again_fetches_only_what_changed(registry: Any, weights: Path, store: Store) -> None:
    registry.add(NAME, {"model": weights, "system": "old"})
    pull("ollama:mine", store)
    registry.add(NAME, {"model": weights, "system": "new"})
    before = dict(registry.sent)
    assert pull("ollama:mine", store).facts["system"] == "new"
    (digest,) = (layer["digest"] for layer in json.loads(registry.manifests[NAME])["layers"] if layer["size"] > 1000)
    assert registry.sent[digest] == before[digest]


@pytest.mark.parametrize("ranges", [True, False])
def test_cut_downloads_go_on_where_they_stopped(registry: Any, weights: Path, store: Store, ranges: bool) -> None:
    manifest = registry.add(NAME, {"model": weights})
    registry.cuts, registry.ranges = 3, ranges
    stored = pull("ollama:mine", store)
    assert stored.paths["model.gguf"].read_bytes() == weights.read_bytes() and registry.cuts == 0
    digest, size = manifest["layers"][0]["digest"], manifest["layers"][0]["size"]
    assert registry.sent[digest] == size if ranges else registry.sent[digest] > 2 * size


def test_a_download_that_was_given_up_goes_on_next_time(
    registry: Any, weights: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.models.oci._PAUSE", 0.0)
    manifest = registry.add(NAME, {"model": weights})
    digest, size = manifest["layers"][0]["digest"], manifest["layers"][0]["size"]
    registry.cuts = 1

    def watch(event: Any) -> None:
        if event.unit == "bytes" and 0 < event.done < size:
            registry.cuts, registry.share = 10**6, 0.0

    with pytest.raises(SourceUnavailable, match="goes on from there"):
        pull("ollama:mine", store, progress=watch)
    assert store.names() == ()
    registry.cuts = 0
    pull("ollama:mine", store)
    assert registry.sent[digest] == size


def test_other_bytes_than_promised_are_thrown_away(registry: Any, weights: Path, store: Store) -> None:
    manifest = registry.add(NAME, {"model": weights})
    registry.altered = {manifest["layers"][0]["digest"]}
    with pytest.raises(DamagedFile, match="altered"):
        pull("ollama:mine", store)
    registry.altered.clear()
    assert pull("ollama:mine", store).paths["model.gguf"].read_bytes() == weights.read_bytes()


def test_longer_bytes_than_promised_are_not_taken(registry: Any, weights: Path, store: Store) -> None:
    manifest = registry.add(NAME, {"model": weights})
    registry.blobs[manifest["layers"][0]["digest"]] += b"more"
    with pytest.raises(DamagedFile, match="more of"):
        pull("ollama:mine", store)


@pytest.mark.parametrize(
    ("host", "kind", "part"),
    [("here", ReferenceNotFound, "has no model library/smollm2:135"), ("nowhere", SourceUnavailable, "be reached")],
)
def test_a_misspelt_name_brings_names_like_it(
    registry: Any, store: Store, monkeypatch: pytest.MonkeyPatch, host: str, kind: type[SmidgenError], part: str
) -> None:
    if host == "nowhere":
        monkeypatch.setenv("SMIDGEN_OLLAMA_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(kind, match=f"No model 'smollm2:135' is on this machine .*{part}") as caught:
        pull("smollm2:135", store)
    assert caught.value.remedy.startswith("Did you mean 'smollm2:135m'? Check")
    with pytest.raises(SourceUnavailable, match="nothing may be fetched offline") as caught:
        fetch(parse("smollm2:135", store), store, offline=True)
    assert "Did you mean 'smollm2:135m'? Run" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        ("ollama:nothing", ReferenceNotFound, "has no model library/nothing:latest"),
        ("ollama:mine:v9", ReferenceNotFound, "library/mine:v9"),
        ("ollama:tensors", Unsupported, "'tensor'"),
        ("ollama:broken", DamagedFile, "manifest of broken"),
        ("ollama:paths", DamagedFile, "no digest"),
    ],
)
def test_what_the_registry_has_not_or_holds_otherwise(
    registry: Any, store: Store, name: str, kind: type[SmidgenError], part: str
) -> None:
    registry.add("library/tensors:latest", {"tensor": b"x"})
    registry.manifests["library/broken:latest"] = b"{"
    paths = registry.add("library/paths:latest", {"model": b"x"})
    paths["layers"][0]["digest"] = "sha256:../../../etc/passwd"
    registry.manifests["library/paths:latest"] = json.dumps(paths).encode()
    with pytest.raises(kind) as caught:
        pull(name, store)
    assert part in str(caught.value) and store.names() == ()


def test_a_token_is_asked_for_where_it_is_wanted(
    registry: Any, weights: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add(NAME, {"model": weights})
    registry.login = ("ann", "secret")
    with pytest.raises(SourceUnavailable, match="SMIDGEN_REGISTRY_USER"):
        pull("ollama:mine", store)
    monkeypatch.setenv("SMIDGEN_REGISTRY_USER", "ann")
    monkeypatch.setenv("SMIDGEN_REGISTRY_PASSWORD", "secret")
    assert pull("ollama:mine", store).name == "mine:latest"


def test_a_registry_that_is_away_or_unencrypted_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(InvalidInput, match="--insecure"):
        pull("ollama:http://127.0.0.1:9/a/b", store)
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        pull("ollama:127.0.0.1:9/a/b", store, insecure=True)


def test_a_host_may_stand_before_the_name(registry: Any, weights: Path, store: Store, monkeypatch: Any) -> None:
    monkeypatch.delenv("SMIDGEN_OLLAMA_REGISTRY")
    registry.add("me/mine:v1", {"model": weights})
    host = registry.address.removeprefix("http://")
    stored = pull(f"ollama:{host}/me/mine:v1", store, insecure=True)
    assert stored.name == f"{host.replace(':', '-')}/me/mine:v1" and parse(stored.name, store).kind == "store"
    assert Address.parse("mine").host == DEFAULT_HOST


def test_what_is_pushed_comes_back_the_same(registry: Any, weights: Path, store: Store, tmp_path: Path) -> None:
    registry.add(
        "me/mine:latest", {"model": weights, **LAYERS, "adapter": [b"GGUF one", b"GGUF two"], "projector": b"GGUF eyes"}
    )
    first = pull("ollama:me/mine", store)
    store.copy("me/mine", "me/other:v2")
    for digest in [digest for digest, content in registry.blobs.items() if len(content) < 1000]:
        del registry.blobs[digest]
    seen: list[Any] = []
    assert push("me/other:v2", store, progress=seen.append) == f"{registry.address}/me/other:v2"
    assert seen[0].stage == "retrieving manifest" and seen[-1].stage == "pushing manifest"
    assert sum(line.startswith("PATCH") for line in registry.asked) == 10  # the weights were there already
    again = pull("ollama:me/other:v2", Store(tmp_path / "second"))
    assert again.digests == first.digests
    for name in ("template", "system", "parameters", "messages", "license", "adapters", "projectors", "modelfile"):
        assert again.facts[name] == first.facts[name]


def test_what_cannot_be_pushed(registry: Any, store: Store, tmp_path: Path) -> None:
    with pytest.raises(ReferenceNotFound, match="no stored model"):
        push("nothing", store)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    store.add("folder", {name: tmp_path / name for name in ("config.json", "model.safetensors")}, {})
    with pytest.raises(InvalidInput, match="GGUF"):
        push("folder", store)
