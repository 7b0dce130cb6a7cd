"""The hub, against a real server on this machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound, SourceUnavailable, Unsupported
from smidgen.models.reference import parse
from smidgen.models.sources import fetch, pull
from smidgen.models.store import Store
from smidgen.progress import Event

Files = dict[str, bytes]


def test_a_model_is_fetched_without_code_and_pickles(
    hub: Any, store: Store, model_files: Files, kept: set[str]
) -> None:
    commit = hub.publish("Org/Name", model_files)
    events: list[Event] = []
    model = fetch(parse("hf:Org/Name"), store, progress=events.append)
    assert set(hub.downloads()) == kept
    assert {path.name: path.read_bytes() for path in model.path.iterdir()} == {key: model_files[key] for key in kept}
    assert (model.kind, model.licence, model.base_model) == ("safetensors", "apache-2.0", "Org/Name")
    assert (model.name, model.facts["commit"]) == (f"hf:org/name@{commit}", commit)
    assert {path.name for path in model.files} == {"LICENSE", "README.md"}
    sizes = [event.done for event in events if event.stage == "downloading hf:Org/Name"]
    assert sizes == sorted(sizes) and sizes[-1] == sum(len(model_files[key]) for key in kept)
    assert not list((store.root / "downloads").iterdir())


def test_the_digest_is_that_of_the_same_folder_on_disk(
    hub: Any, store: Store, model_files: Files, tmp_path: Path
) -> None:
    hub.publish("org/name", model_files)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in model_files.items():
        if "/" not in name:
            (folder / name).write_bytes(content)
    assert fetch(parse("hf:org/name"), store).sha256 == fetch(parse(str(folder)), store).sha256


def test_a_stored_commit_is_not_downloaded_again(hub: Any, store: Store, model_files: Files) -> None:
    commit = hub.publish("org/name", model_files)
    first = fetch(parse("hf:org/name"), store)
    hub.requests.clear()
    assert fetch(parse("hf:org/name"), store).path == first.path
    assert len(hub.requests) == 1
    hub.requests.clear()
    assert fetch(parse(f"hf:org/name@{commit}"), store).path == first.path
    assert fetch(parse("hf:org/name"), store, offline=True).path == first.path
    assert fetch(parse(f"hf:org/name@{commit[:10]}"), store, offline=True).path == first.path
    assert not hub.requests


def test_a_branch_that_moved_is_fetched_anew(hub: Any, store: Store, model_files: Files) -> None:
    old = hub.publish("org/name", model_files)
    fetch(parse("hf:org/name"), store)
    new = hub.publish("org/name", {**model_files, "tokenizer.json": b"{ }"})
    assert fetch(parse("hf:org/name"), store).facts["commit"] == new
    assert fetch(parse("hf:org/name"), store, offline=True).facts["commit"] == new
    assert fetch(parse(f"hf:org/name@{old}"), store, offline=True).facts["commit"] == old
    hub.repositories["org/name"].reverse()
    assert fetch(parse("hf:org/name"), store).facts["commit"] == old
    assert fetch(parse("hf:org/name"), store, offline=True).facts["commit"] == old


def test_offline_takes_only_what_is_stored(hub: Any, store: Store, model_files: Files) -> None:
    hub.publish("org/name", model_files)
    with pytest.raises(SourceUnavailable, match="not in the store yet"):
        fetch(parse("hf:org/name"), store, offline=True)
    assert not hub.requests


def test_an_unreachable_hub_is_named_and_the_store_helps_out(
    hub: Any, store: Store, model_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("org/name", model_files)
    stored = fetch(parse("hf:org/name"), store)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said: list[str] = []
    assert fetch(parse("hf:org/name"), store, progress=lambda event: said.append(event.stage)).path == stored.path
    assert "cannot be reached" in said[0]
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1:9 could not be reached") as raised:
        fetch(parse("hf:org/other"), store)
    assert "HF_ENDPOINT" in str(raised.value)


def test_a_gated_model_says_what_to_do_and_opens_with_the_token(
    hub: Any, store: Store, model_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("org/name", model_files)
    hub.gated.add("org/name")
    with pytest.raises(SourceUnavailable, match=r"gated.*/org/name and set HF_TOKEN"):
        fetch(parse("hf:org/name"), store)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    assert fetch(parse("hf:org/name"), store).kind == "safetensors"


def test_what_the_hub_does_not_have_is_named(hub: Any, store: Store, model_files: Files) -> None:
    hub.publish("org/name", model_files)
    with pytest.raises(ReferenceNotFound, match="no repository hf:org/nmae"):
        fetch(parse("hf:org/nmae"), store)
    with pytest.raises(ReferenceNotFound, match="no such revision"):
        fetch(parse("hf:org/name@v9"), store)
    assert store.names() == ()


def without(files: Files, *names: str) -> Files:
    return {key: value for key, value in files.items() if key not in names}


def test_pickles_only_are_refused(hub: Any, store: Store, model_files: Files) -> None:
    hub.publish("org/name", without(model_files, "model.safetensors", "consolidated.safetensors"))
    with pytest.raises(Unsupported, match=r"only as pickles \(pytorch_model\.bin\)"):
        fetch(parse("hf:org/name"), store)
    assert hub.downloads() == []


def test_an_adapter_alone_is_refused(hub: Any, store: Store, model_files: Files) -> None:
    hub.publish("org/name", without(model_files, "config.json"))
    with pytest.raises(InvalidInput, match=r"no config\.json"):
        fetch(parse("hf:org/name"), store)


@pytest.mark.parametrize("known", [True, False])
def test_remote_code_is_never_needed_or_refused(hub: Any, store: Store, model_files: Files, known: bool) -> None:
    config = {"model_type": "phi3" if known else "mine", "auto_map": {"AutoModel": "modeling_custom.Model"}}
    hub.publish("org/name", {**model_files, "config.json": json.dumps(config).encode()})
    if known:
        assert not [path for path in fetch(parse("hf:org/name"), store).path.iterdir() if path.suffix == ".py"]
        return
    with pytest.raises(Unsupported, match="remote code is never executed"):
        fetch(parse("hf:org/name"), store)
    assert hub.downloads() == ["config.json"]


def test_one_gguf_file_is_fetched_where_it_is_asked_for(hub: Any, store: Store) -> None:
    files = {"q4.gguf": b"GGUF4", "q8.gguf": b"GGUF8", "LICENSE": b"terms", "README.md": b"---\nbase_model: a/b\n---"}
    hub.publish("org/name", files)
    with pytest.raises(InvalidInput, match=r"Name one file: 'hf:org/name/q4\.gguf', 'hf:org/name/q8\.gguf'"):
        fetch(parse("hf:org/name"), store)
    model = fetch(parse("hf:org/name/q4.gguf"), store)
    assert (model.kind, model.path.read_bytes(), model.base_model) == ("gguf", b"GGUF4", "a/b")
    assert model.sha256 == hashlib.sha256(b"GGUF4").hexdigest()
    assert "q8.gguf" not in hub.downloads()
    with pytest.raises(ReferenceNotFound, match=r"Did you mean 'q8\.gguf'"):
        fetch(parse("hf:org/name/q5.gguf"), store)


def test_an_altered_file_is_found_out(hub: Any, store: Store, model_files: Files) -> None:
    hub.publish("org/name", model_files)
    altered = bytearray(model_files["model.safetensors"])
    altered[-1] ^= 1
    hub.served["model.safetensors"] = bytes(altered)
    with pytest.raises(DamagedFile, match="not the file that the hub promised"):
        fetch(parse("hf:org/name"), store)
    assert store.names() == ()
    hub.served.clear()
    assert fetch(parse("hf:org/name"), store).kind == "safetensors"


def test_a_missing_shard_is_named(hub: Any, store: Store, model_files: Files) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    hub.publish("org/name", {**model_files, "model.safetensors.index.json": json.dumps(index).encode()})
    with pytest.raises(DamagedFile, match=r"lacks model-00002-of-00002\.safetensors"):
        fetch(parse("hf:org/name"), store)


def test_an_interrupted_download_goes_on_where_it_stopped(hub: Any, store: Store, model_files: Files) -> None:
    hub.publish("org/name", model_files)

    def stop(event: Event) -> None:
        if event.done > 2000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(parse("hf:org/name"), store, progress=stop)
    assert store.names() == ()
    hub.requests.clear()
    fetch(parse("hf:org/name"), store)
    assert hub.downloads() == ["model.safetensors"]


def test_pull_keeps_a_second_name(hub: Any, store: Store, model_files: Files) -> None:
    commit = hub.publish("org/name", model_files)
    assert pull("hf:org/name", store).name == f"hf:org/name@{commit}"
    assert pull("hf:org/name", store, name="mine").name == "mine:latest"
    assert fetch(parse("mine", store), store).facts["commit"] == commit
