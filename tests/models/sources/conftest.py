"""A stand-in for the hub: a real HTTP server that speaks the routes huggingface_hub uses."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from smidgen.models.store import Store

TOKEN = "hf_test"


@dataclass
class HubServer:
    """Repositories by name; each is a list of commits, the last one is main."""

    repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    served: dict[str, bytes] = field(default_factory=dict)
    address: str = ""

    def publish(self, name: str, files: dict[str, bytes]) -> str:
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.repositories.setdefault(name, []).append((commit, files))
        return commit

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories.get(name, [])
        if revision == "main":
            return commits[-1]
        return next(((commit, files) for commit, files in commits if commit == revision), None)

    def downloads(self) -> list[str]:
        return [line.rpartition("/")[2] for line in self.requests if line.startswith("GET") and "/resolve/" in line]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.respond(body=False)

    def do_GET(self) -> None:
        self.respond(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def respond(self, body: bool) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, revision, file = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main", None
        else:
            name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        if name not in self.hub.repositories:
            return self.fail(401, "RepoNotFound")
        if name in self.hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.fail(401, "GatedRepo")
        found = self.hub.find(name, revision)
        if found is None:
            return self.fail(404, "RevisionNotFound")
        commit, files = found
        if file is None:
            return self.send(200, json.dumps(describe(name, commit, files)).encode(), {}, body)
        if file not in files:
            return self.fail(404, "EntryNotFound")
        headers = {"ETag": f'"{hashlib.sha256(files[file]).hexdigest()}"', "X-Repo-Commit": commit}
        self.send(200, self.hub.served.get(file, files[file]), headers, body)

    def fail(self, status: int, code: str) -> None:
        self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code}, True)

    def send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


def describe(name: str, commit: str, files: dict[str, bytes]) -> dict[str, object]:
    siblings = []
    for file, content in files.items():
        entry: dict[str, object] = {"rfilename": file, "size": len(content), "blobId": "0" * 40}
        if file.endswith((".safetensors", ".gguf", ".bin")):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
        siblings.append(entry)
    return {"id": name, "modelId": name, "sha": commit, "private": False, "siblings": siblings, "tags": []}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    state = HubServer()
    handler = type("Handler", (_Handler,), {"hub": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", state.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model_files() -> dict[str, bytes]:
    """A repository's files: a model, and beside it everything that must stay where it is."""
    weights = save({"weight": torch.arange(1000, dtype=torch.float32)})
    card = "---\nlicense: apache-2.0\nbase_model: org/base\n---\n# A model\n"
    return {
        "config.json": json.dumps({"model_type": "llama"}).encode(),
        "generation_config.json": b"{}",
        "model.safetensors": weights,
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
        "merges.txt": b"a b",
        "chat_template.jinja": b"{{ messages }}",
        "LICENSE": b"terms",
        "README.md": card.encode(),
        "consolidated.safetensors": weights,
        "pytorch_model.bin": b"\x80\x04pickle",
        "modeling_custom.py": b"raise SystemExit",
        "original/params.json": b"{}",
        "logo.png": b"png",
    }


KEPT = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "merges.txt",
    "chat_template.jinja",
    "LICENSE",
    "README.md",
}


@pytest.fixture
def kept() -> set[str]:
    """Which of `model_files` belong to the model."""
    return KEPT
