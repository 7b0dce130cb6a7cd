"""A registry of the OCI protocol for tests: a real HTTP server on a loopback port, with faults to order."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import urllib.parse
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Registry:
    """The stand-in; a context manager.

    Attributes:
        manifests: Content by "repository:tag".
        blobs: Content by digest.
        cuts: How many more downloads of blobs are cut off.
        share: After which share of what is left.
        altered: Digests that are answered with other bytes of the same length.
        ranges: Whether ranges are honoured.
        login: User and password that a token is given for; no token is wanted where None.
        asked: Every request as "METHOD path", in order.
    """

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.cuts = 0
        self.share = 0.5
        self.altered: set[str] = set()
        self.ranges = True
        self.login: tuple[str, str] | None = None
        self.asked: list[str] = []
        self.sent: Counter[str] = Counter()
        self.uploads: dict[str, bytes] = {}
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Registry:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, layers: dict[str, Any], config: dict[str, Any] | None = None) -> dict[str, Any]:
        """Publish a model: kind of layer to its bytes, text, JSON value, path, or a list of these."""
        described = []
        for kind, value in layers.items():
            for content in value if isinstance(value, list) and kind != "messages" else [value]:
                described.append(self._put(f"application/vnd.ollama.image.{kind}", _bytes(content)))
        base = self._put("application/vnd.docker.container.image.v1+json", _bytes(config or {"model_format": "gguf"}))
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": base, "layers": described}
        self.manifests[name] = json.dumps(manifest).encode()
        return manifest

    def _put(self, media_type: str, content: bytes) -> dict[str, Any]:
        self.blobs[digest_of(content)] = content
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _bytes(value: Any) -> bytes:
    if isinstance(value, Path):
        return value.read_bytes()
    return (
        value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else json.dumps(value).encode()
    )


class _Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PATCH = do_PUT = do_GET

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path, _, query = self.path.partition("?")
        self.registry.asked.append(f"{self.command} {path}")
        if path == "/token":
            self._token(urllib.parse.parse_qs(query))
            return
        if self.registry.login and self.headers.get("authorization") != "Bearer let-me-in":
            realm = f'Bearer realm="{self.registry.address}/token",service="standin",scope="repository:x:pull"'
            self._say(401, b"", {"WWW-Authenticate": realm})
            return
        if match := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
            self._manifest(f"{match[1]}:{match[2]}", body)
        elif match := re.fullmatch(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})", path):
            self._blob(match[1])
        elif re.search(r"/blobs/uploads/", path):
            self._upload(path, urllib.parse.parse_qs(query), body)
        else:
            self._say(404)

    def _token(self, asked: dict[str, list[str]]) -> None:
        import base64

        given = base64.b64decode(self.headers.get("authorization", "Basic ").partition(" ")[2]).decode()
        right = given == ":".join(self.registry.login or ()) and asked["service"] == ["standin"]
        self._say(200, json.dumps({"token": "let-me-in"}).encode()) if right else self._say(401)

    def _manifest(self, name: str, body: bytes) -> None:
        if self.command == "PUT":
            wanted = {layer["digest"] for layer in json.loads(body)["layers"]}
            if not wanted <= set(self.registry.blobs):
                self._say(400, b"a blob is unknown")
                return
            self.registry.manifests[name] = body
            self._say(201)
        elif name in self.registry.manifests and MANIFEST in self.headers.get("accept", ""):
            self._say(200, self.registry.manifests[name], {"Content-Type": MANIFEST})
        else:
            self._say(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')

    def _blob(self, digest: str) -> None:
        content = self.registry.blobs.get(digest)
        if content is None:
            self._say(404)
            return
        if digest in self.registry.altered:
            content = bytes(255 - byte for byte in content)
        begin = 0
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        if span and self.registry.ranges:
            begin = int(span[1])
        rest = content[begin:]
        cut = self.command == "GET" and self.registry.cuts > 0 and len(rest) > 1
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut:
            self.registry.cuts -= 1
            rest = rest[: int(len(rest) * self.registry.share)]
        self.registry.sent[digest] += len(rest)
        self.wfile.write(rest)
        if cut:
            self.wfile.flush()
            self.close_connection = True

    def _upload(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if self.command == "POST":
            place = f"{path}{uuid.uuid4().hex}"
            self.registry.uploads[place] = b""
            self._say(202, b"", {"Location": place})
        elif path not in self.registry.uploads:
            self._say(404)
        elif self.command == "PATCH":
            begin = int(self.headers["content-range"].partition("-")[0])
            if begin != len(self.registry.uploads[path]):
                self._say(416)
                return
            self.registry.uploads[path] += body
            self._say(202, b"", {"Location": path})
        else:
            content = self.registry.uploads.pop(path) + body
            if digest_of(content) != query["digest"][0]:
                self._say(400, b"digest mismatch")
                return
            self.registry.blobs[digest_of(content)] = content
            self._say(201)

    def _say(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
