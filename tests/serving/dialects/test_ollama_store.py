"""Creating, pulling and pushing over HTTP: the lines, the status codes, and what never touches a foreign file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from smidgen.models.checkpoint import gguf
from smidgen.models.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def client(store: Store, serve: Any) -> Iterator[httpx.Client]:
    with serve(store) as address, httpx.Client(base_url=address, trust_env=False, timeout=30) as opened:
        yield opened


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    metadata = {"general.architecture": "llama", "llama.context_length": 64, "filler": "x" * 100_000}
    gguf.write(tmp_path / "model.gguf", metadata, [])
    return (tmp_path / "model.gguf").read_bytes()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def sent(client: httpx.Client, content: bytes) -> str:
    assert client.post(f"/api/blobs/{digest_of(content)}", content=content).status_code == 201
    return digest_of(content)


def test_a_blob_is_kept_under_its_own_digest_only(client: httpx.Client, store: Store) -> None:
    content = b"GGUF something"
    digest = digest_of(content)
    assert client.head(f"/api/blobs/{digest}").status_code == 404
    wrong = client.post(f"/api/blobs/{digest}", content=b"other")
    assert wrong.status_code == 400 and "digest mismatch" in wrong.json()["error"]
    assert client.head(f"/api/blobs/{digest}").status_code == 404
    assert client.post(f"/api/blobs/{digest}", content=content).status_code == 201
    assert client.post(f"/api/blobs/{digest}", content=content).status_code == 200
    assert client.head(f"/api/blobs/{digest}").status_code == 200
    kept = [path for path in store.root.rglob("*") if path.is_file()]
    assert [path.name for path in kept] == [f"sha256-{digest[7:]}"] and kept[0].read_bytes() == content


@pytest.mark.parametrize("digest", ["sha256:12", "md5:" + "0" * 64, "sha256:" + "g" * 64, "sha256:..%2f..%2fx", "x"])
def test_what_is_no_digest_is_refused(client: httpx.Client, store: Store, digest: str) -> None:
    assert client.head(f"/api/blobs/{digest}").status_code in (400, 404)
    assert client.post(f"/api/blobs/{digest}", content=b"x").status_code in (400, 404)
    assert not store.root.exists()


def test_a_model_is_created_of_what_was_sent(client: httpx.Client, store: Store, weights: bytes) -> None:
    asked = {
        "model": "Mine",
        "files": {"m.gguf": sent(client, weights)},
        "system": "Be brief.",
        "template": "{{ .Prompt }}",
        "license": ["One", "Two"],
        "parameters": {"temperature": 0.5, "stop": ["a", "b"], "use_mmap": False},
        "messages": [{"role": "user", "content": "Hi"}],
        "parser": "plain",
        "unknown": 1,
    }
    answer = client.post("/api/create", json=asked)
    assert answer.status_code == 200
    said = lines(answer)
    assert said[-1] == {"status": "success"} and {"status": "writing manifest"} in said
    stored = store.resolve("mine")
    assert stored.paths["model.gguf"].read_bytes() == weights
    assert stored.facts["parameters"] == {"temperature": 0.5, "stop": ["a", "b"], "use_mmap": False}
    assert stored.facts["license"] == ["One", "Two"] and stored.facts["parser"] == "plain"
    assert not list(store.root.glob("downloads/uploads/*")) and not list(store.root.glob(".tmp-*"))
    assert client.head(f"/api/blobs/{digest_of(weights)}").status_code == 200
    again = client.post("/api/create", json={"model": "other", "from": "mine", "system": "Shout.", "stream": False})
    assert again.headers["content-type"] == "application/json; charset=utf-8" and again.json() == {"status": "success"}
    assert store.resolve("other").facts["system"] == "Shout."
    assert store.resolve("other").facts["template"] == "{{ .Prompt }}"
    shown = client.post("/api/show", json={"model": "other"}).json()
    assert shown["system"] == "Shout." and 'stop                           "a"' in shown["parameters"]


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({"model": "x"}, 400, 'neither "from" or "files" was specified'),
        ({"from": "mine"}, 404, "mine"),
        ({"model": "../x", "from": "mine"}, 404, "mine"),
        ({"model": "x", "from": "/etc/passwd"}, 400, "invalid model name"),
        ({"model": "x", "from": "."}, 400, "invalid model name"),
        ({"model": "x", "from": "m.gguf"}, 400, "invalid model name"),
        ({"model": "x", "from": "C:\\\\m"}, 400, "invalid model name"),
        ({"model": "x", "files": {"../m.gguf": "{digest}"}}, 400, "invalid file name"),
        ({"model": "x", "files": {"m.gguf": "sha256:" + "0" * 64}}, 404, "not found"),
        ({"model": "x", "files": {"m.gguf": "sha256:../../etc/passwd"}}, 400, "invalid digest"),
        ({"model": "../x", "files": {"m.gguf": "{digest}"}}, 400, "not a name"),
        ({"model": "x", "files": {"m.gguf": "{digest}"}, "quantize": "q9"}, 400, "q9"),
        ({"model": "x", "files": {"m.gguf": "{digest}"}, "parameters": {"tempo": 1}}, 400, "tempo"),
        ({"model": "x", "files": {"m.gguf": "{digest}"}, "template": "{{ end }}"}, 400, "closes nothing"),
        ({"model": "x", "files": {"m.gguf": "{digest}"}, "messages": [{"role": "robot"}]}, 400, "robot"),
        ({"model": "x", "files": "m"}, 400, "files"),
    ],
)
def test_what_cannot_be_created_is_refused(
    client: httpx.Client, store: Store, weights: bytes, body: Any, status: int, part: str
) -> None:
    text = json.dumps(body).replace("{digest}", sent(client, weights))
    answer = client.post("/api/create", content=text.encode())
    assert answer.status_code == status and part in answer.json()["error"]
    assert store.names() == ()


def test_a_model_is_pulled_with_its_layers_progress(
    client: httpx.Client, store: Store, registry: Any, weights: bytes
) -> None:
    manifest = registry.add("library/llama3.2:latest", {"model": weights, "system": "Be brief."})
    said = lines(client.post("/api/pull", json={"model": "llama3.2"}))
    assert said[0] == {"status": "pulling manifest"} and said[-1] == {"status": "success"}
    statuses = [line["status"] for line in said]
    assert statuses.index("verifying sha256 digest") < statuses.index("writing manifest")
    digest, size = manifest["layers"][0]["digest"], manifest["layers"][0]["size"]
    reports = [line for line in said if line.get("digest") == digest]
    assert reports[0] == {"status": f"pulling {digest[7:19]}", "digest": digest, "total": size}
    assert reports[-1] == {"status": f"pulling {digest[7:19]}", "digest": digest, "total": size, "completed": size}
    assert store.resolve("llama3.2").facts["system"] == "Be brief."
    assert [model["name"] for model in client.get("/api/tags").json()["models"]] == ["llama3.2:latest"]
    once = client.post("/api/pull", json={"name": "library/llama3.2", "stream": False})
    assert once.json() == {"status": "success"}


def test_a_pull_that_fails_says_so_in_its_last_line(client: httpx.Client, store: Store, registry: Any) -> None:
    (last,) = lines(client.post("/api/pull", json={"model": "ollama:nothing"}))[-1:]
    assert list(last) == ["error"] and "library/nothing:latest" in last["error"]
    once = client.post("/api/pull", json={"model": "ollama:nothing", "stream": False})
    assert once.status_code == 404 and "error" in once.json()
    assert client.post("/api/pull", json={}).status_code == 400
    for place in ("/etc/passwd", "./x", "../../x.gguf", "file:///etc/passwd"):
        refused = client.post("/api/pull", json={"model": place, "stream": False})
        assert refused.status_code in (400, 404) and "error" in refused.json()
    assert store.names() == ()


def test_a_model_is_pushed(client: httpx.Client, store: Store, registry: Any, weights: bytes) -> None:
    client.post("/api/create", json={"model": "me/mine:v1", "files": {"m": sent(client, weights)}})
    said = lines(client.post("/api/push", json={"model": "me/mine:v1"}))
    assert said[0] == {"status": "retrieving manifest"} and said[-2:] == [
        {"status": "pushing manifest"},
        {"status": "success"},
    ]
    assert any(line.get("completed") == len(weights) and line["digest"] == digest_of(weights) for line in said)
    assert registry.manifests["me/mine:v1"]
    assert "error" in lines(client.post("/api/push", json={"model": "nothing"}))[-1]


def test_a_client_that_leaves_stops_the_pull(client: httpx.Client, store: Store, registry: Any, weights: bytes) -> None:
    registry.add("library/llama3.2:latest", {"model": weights})
    registry.cuts, registry.share = 10**6, 0.0
    with client.stream("POST", "/api/pull", json={"model": "llama3.2"}) as answer:
        next(answer.iter_lines())
    registry.cuts = 0
    assert client.post("/api/pull", json={"model": "llama3.2", "stream": False}).json() == {"status": "success"}


def test_ollama_s_own_client_creates_pulls_and_pushes(
    store: Store, serve: Any, registry: Any, weights: bytes, tmp_path: Path
) -> None:
    registry.add("library/llama3.2:latest", {"model": weights})
    with serve(store) as address, ollama.Client(host=address, trust_env=False) as client:
        assert [part.status for part in client.pull("llama3.2", stream=True)][-1] == "success"
        blob = client.create_blob(tmp_path / "model.gguf")
        assert client.create("me/mine", files={"m.gguf": blob}, system="Shout.").status == "success"
        parts = list(client.create("me/second", from_="me/mine", parameters={"top_k": 3}, stream=True))
        assert parts[-1].status == "success"
        assert client.push("me/second").status == "success" and registry.manifests["me/second:latest"]
        with pytest.raises(ollama.ResponseError, match="nothing"):
            client.pull("ollama:nothing")
    assert store.resolve("me/second").facts["system"] == "Shout."
    assert store.resolve("me/second").facts["parameters"] == {"top_k": 3}
