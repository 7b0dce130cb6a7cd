"""Requests that no client sends on purpose, as bytes on the wire: each kind a function of a seeded source of chance.

What they have in common: they name the server's own routes and fields, as its OpenAPI schema lists them, so that they
get far into it before something is wrong.
"""

import base64
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
OUTSIDE = ("../../../outside", "/tmp/outside", "..\\..\\outside", "a/../../outside", "~/outside", "%2e%2e/outside")
NAMES = (
    *OUTSIDE,
    "C:\\outside",
    "file:///etc/passwd",
    "./outside.gguf",
    "/etc/passwd",
    "con",
    "a" * 5000,
    "a/b/c/d/e",
    "\x00",
    "..",
    "",
    " ",
    "\ud800",
    "hf:x/y@../z",
    "ollama:../../x",
    "x:y:z",
    "é" * 90,
    "echo:\n",
)
NUMBERS = (-1, 0, -(2**63), 2**63, 2**64, 10**400, 1e308, -1e-320, 0.1, 3.0, True, "7", "NaN", None, [], {})
WORDS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "01", "+1", "1.", ".5", "9" * 5000, "1e-999")
OPTIONS = ("temperature", "top_k", "top_p", "num_ctx", "num_predict", "seed", "stop", "repeat_last_n", "num_batch")
DIGEST = "sha256:" + "0" * 64
BAD_BYTES = (
    b"\xff\xfe",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf8\x88",
    b"\\ud800",
    b"\\u0000",
    b"\x01",
    b"\\x41",
    b"\x80" * 50,
)
CUT_SHORT = ("lengths", "chunks", "encodings", "heads", "blobs")
"""Kinds whose requests may end before they are whole."""


@dataclass(frozen=True)
class Route:
    """One thing that the server does.

    Attributes:
        method: The HTTP method.
        path: The path, perhaps with {places}.
        fields: Names of the fields of its JSON, each with what its schema says.
    """

    method: str
    path: str
    fields: Mapping[str, Any]


def routes_of(schema: Mapping[str, Any]) -> list[Route]:
    """Read every route out of an OpenAPI schema."""
    found = []
    for path, methods in schema["paths"].items():
        for method, described in methods.items():
            content = described.get("requestBody", {}).get("content", {})
            fields = content.get("application/json", {}).get("schema", {}).get("properties", {})
            found.append(Route(method.upper(), path, fields))
    return found


class Malformed:
    """Makes requests that are wrong in many ways.

    Args:
        routes: What the server does.
        models: Names of models that are there.
        seed: Where chance begins.
    """

    def __init__(self, routes: list[Route], models: tuple[str, ...], seed: int = 0) -> None:
        self._routes = [route for route in routes if route.fields]
        self._all = routes
        self._models = models
        self._chance = random.Random(seed)
        self.kinds: dict[str, Callable[[], bytes]] = {
            "wrong types": self.wrong_types,
            "wrong options": self.wrong_options,
            "odd names": self.odd_names,
            "odd numbers": self.odd_numbers,
            "deep": self.deep,
            "doubled keys": self.doubled_keys,
            "bad text": self.bad_text,
            "broken JSON": self.broken_json,
            "images": self.images,
            "templates and schemas": self.templates,
            "lengths": self.lengths,
            "chunks": self.chunks,
            "encodings": self.encodings,
            "heads": self.heads,
            "paths": self.paths,
            "blobs": self.blobs,
        }

    def make(self, number: int) -> tuple[str, bytes]:
        """Return the kind and the bytes of one request."""
        names = list(self.kinds)
        kind = names[number % len(names)]
        return kind, self.kinds[kind]()

    def wrong_types(self) -> bytes:
        """Fields of the right names with values of any type."""
        route = self._route()
        body = self._plausible(route)
        for name in self._some(list(route.fields)):
            body[name] = self._value(3)
        return self._send(route, _dumps(body))

    def wrong_options(self) -> bytes:
        """Options of the right names with values that cannot be."""
        route = self._route(lambda route: "options" in route.fields)
        options = {name: self._chance.choice(NUMBERS) for name in self._some(list(OPTIONS))}
        body = self._plausible(route) | {"options": options, "keep_alive": self._chance.choice((*NUMBERS, "-5", "9h"))}
        return self._send(route, _dumps(body))

    def odd_names(self) -> bytes:
        """Names of models and files that are paths, or none."""
        route = self._route()
        name = self._chance.choice(NAMES)
        body = self._plausible(route)
        for field in ("model", "name", "source", "destination", "from"):
            if field in route.fields and self._chance.random() < 0.7:
                body[field] = name
        for field in ("files", "adapters", "draft_files"):
            if field in route.fields and self._chance.random() < 0.5:
                body[field] = {name: self._chance.choice((DIGEST, name, "sha256:../../x"))}
        return self._send(route, _dumps(body))

    def odd_numbers(self) -> bytes:
        """Numbers that JSON does not have, or that no field holds."""
        route = self._route()
        fields = [name for name in route.fields if name not in ("model", "messages", "prompt")]
        if not fields:
            return self.wrong_types()
        name = self._chance.choice(fields)
        body = {**self._plausible(route), name: "@"}
        text = _dumps(body).replace(b'"@"', self._chance.choice(WORDS).encode())
        return self._send(route, text)

    def deep(self) -> bytes:
        """Values within values."""
        route = self._route()
        depth = self._chance.choice((30, 120, 250, 1000, 20_000, 200_000))
        opening, closing = self._chance.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"properties":{"a":', b"}}")))
        inner = opening * depth + b"1" + (closing * depth if self._chance.random() < 0.8 else b"")
        name = self._chance.choice(list(route.fields))
        text = _dumps({**self._plausible(route), name: "@"}).replace(b'"@"', inner)
        return self._send(route, self._chance.choice((text, inner)))

    def doubled_keys(self) -> bytes:
        """The same key several times, with different values."""
        route = self._route()
        parts = [_dumps(self._plausible(route))[1:-1]]
        for name in self._some(list(route.fields)):
            parts += [_dumps(name) + b":" + _dumps(self._value(1)) for _ in range(2)]
        self._chance.shuffle(parts)
        return self._send(route, b"{" + b",".join(part for part in parts if part) + b"}")

    def bad_text(self) -> bytes:
        """Bytes that are no UTF-8, halves of characters, control characters."""
        route = self._route()
        bad = self._chance.choice(BAD_BYTES)
        text = _dumps(self._plausible(route) | {self._chance.choice(list(route.fields)): "x@y"})
        return self._send(route, text.replace(b"x@y", b"x" + bad + b"y"))

    def broken_json(self) -> bytes:
        """JSON with bytes left out, doubled or changed."""
        route = self._route()
        text = bytearray(_dumps(self._plausible(route)))
        for _ in range(self._chance.randint(1, 4)):
            place = self._chance.randrange(len(text))
            text[place : place + self._chance.randint(0, 3)] = self._chance.randbytes(self._chance.randint(0, 2))
            text = text or bytearray(b"{")
        return self._send(route, bytes(text))

    def images(self) -> bytes:
        """What is no image, or too much of it."""
        route = self._route(lambda route: "images" in route.fields or "messages" in route.fields)
        heads = (b"", b"x", b"\x89PNG\r\n\x1a\n", b"GIF89a\xff\xff\xff\xff", b"RIFF\xff\xff\xff\xffWEBPVP8X", b"BM")
        data = self._chance.choice(heads) + self._chance.randbytes(self._chance.choice((0, 5, 200)))
        text = self._chance.choice((base64.b64encode(data).decode(), "%%%", "A" * 300_000, "data:,x", "A" * 5))
        count = self._chance.choice((1, 2, 40))
        url = self._chance.choice((f"data:image/png;base64,{text}", "http://127.0.0.1:1/x", "file:///etc/passwd", text))
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "image", "source": {"data": text}}]
        turn = {"role": "user", "content": self._chance.choice(("x", parts)), "images": [text] * count}
        body = {**self._plausible(route), "images": [text] * count, "messages": [turn]}
        return self._send(route, _dumps(body))

    def templates(self) -> bytes:
        """Templates, schemas and grammars that break, grow or never end."""
        route = self._route(lambda route: {"template", "format", "response_format", "grammar"} & set(route.fields))
        template = self._chance.choice(
            (
                "{{ range .Messages }}" * 60,
                '{{ printf "%d %f" "a" .Messages }}',
                '{{ printf "%999d" 1 }}{{ lt nil 1 }}',
                "{{ index .Messages 99 }}{{ slice .X 5 1 }}",
                '{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}',
                "{{ .A.B.C }}{{ len 5 }}{{ and }}{{ eq }}",
                "{{",
            )
        )
        schema = self._chance.choice(
            (
                {"$ref": "#"},
                {"$ref": "file:///etc/passwd"},
                {"type": "string", "pattern": "(a{1,999}){1,999}"},
                {"type": "string", "pattern": "(?<=x)[" * 40},
                {"type": "array", "minItems": 10**9},
                {"type": "string", "minLength": 10**12},
                {"enum": []},
                {"anyOf": [{"$ref": "#"}] * 50},
                {"type": 5, "properties": []},
                {"const": self._value(2)},
            )
        )
        wrapped = {"type": "json_schema", "json_schema": {"schema": schema}}
        more = {"template": template, "format": schema, "response_format": wrapped, "grammar": 'root ::= root "a" | ('}
        body = self._plausible(route)
        body |= {name: value for name, value in more.items() if name in route.fields and self._chance.random() < 0.7}
        if "tools" in route.fields and self._chance.random() < 0.5:
            body |= self._demanded(schema)
        return self._send(route, _dumps(body))

    def _demanded(self, schema: Any) -> dict[str, Any]:
        """Return a function with this schema that must be called, in all notations at once."""
        described = {"name": "f", "parameters": schema, "input_schema": schema}
        kind = self._chance.choice(({"type": "function"}, {}))
        named = {"type": self._chance.choice(("function", "tool", "any")), "name": "f", "function": {"name": "f"}}
        tools = [kind | described | {"function": described}] * self._chance.choice((1, 2, 200))
        return {"tools": tools, "tool_choice": self._chance.choice(("required", "f", named, {}, 5))}

    def lengths(self) -> bytes:
        """A Content-Length that is not true."""
        body = _dumps(self._plausible(route := self._route()))
        length = self._chance.choice((b"-1", b"0", b"1", b"abc", b"1e3", b"99999999999999999999", b" ", b"5, 6", b"+4"))
        head = self._head(route.method, route.path, b"Content-Length: " + length)
        if self._chance.random() < 0.3:
            head = self._head(route.method, route.path, b"Content-Length: 5\r\nContent-Length: " + length)
        return head + body

    def chunks(self) -> bytes:
        """Bodies in pieces that are cut short, or whose sizes are none."""
        body = _dumps(self._plausible(route := self._route()))
        size = self._chance.choice((b"%x" % len(body), b"%x" % (len(body) + 9), b"-5", b"zz", b"f" * 40, b"", b"2"))
        end = self._chance.choice((b"\r\n0\r\n\r\n", b"\r\n", b"", b"\r\n0\r\nX: y\r\n\r\n", b"\r\n0"))
        return self._head(route.method, route.path, b"Transfer-Encoding: chunked") + size + b"\r\n" + body + end

    def encodings(self) -> bytes:
        """Encodings and types that the body does not have."""
        body = _dumps(self._plausible(route := self._route()))
        name = self._chance.choice((b"Content-Encoding", b"Transfer-Encoding", b"Content-Type", b"Expect", b"Upgrade"))
        values = (b"gzip", b"br", b"identity", b"multipart/form-data", b"100-continue", b"h2c", b"\xff")
        value = self._chance.choice(values)
        return self._head(route.method, route.path, name + b": " + value, len(body)) + body

    def heads(self) -> bytes:
        """Heads that are none, or too long."""
        return self._chance.choice(
            (
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET /\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                b"POST /api/chat HTTP/1.1\r\n\r\n",
                b"FROB /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                b"GET /api/tags HTTP/1.1\r\nHost: " + b"a" * 70_000 + b"\r\n\r\n",
                b"GET /api/tags HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
                b"GET /api/tags HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: \xff\r\n\r\n",
                b"GET /api/tags HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
                b"GET /api/tags HTTP/1.1\r\nHost: [::1\r\n\r\n",
                b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                b"GET http://127.0.0.1/../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                self._chance.randbytes(300),
            )
        )

    def paths(self) -> bytes:
        """Paths that lead elsewhere, and methods that a path does not have."""
        odds = ("../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "%00", "%ff", "a" * 9000, "..;/", "{digest}")
        odd = self._chance.choice(odds)
        begin = self._chance.choice(("/web/", "/api/blobs/", "/v1/models/", "/", "/api/", "//"))
        method = self._chance.choice(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"))
        route = self._chance.choice(self._all)
        path = self._chance.choice((begin + odd, route.path, route.path + "/" + odd, route.path + "?x=" + odd))
        return self._head(method, path, b"", 2) + b"{}"

    def blobs(self) -> bytes:
        """Contents under digests that they do not have."""
        digests = (DIGEST, "sha256:" + "z" * 64, "sha256-" + "1" * 64, "md5:00", "../../x", "%2e%2e%2fx")
        digest = self._chance.choice(digests)
        method = self._chance.choice(("POST", "POST", "HEAD", "GET"))
        body = self._chance.randbytes(self._chance.choice((0, 10, 50_000)))
        length = self._chance.choice((len(body), len(body), len(body) + 10, 10**15))
        return self._head(method, f"/api/blobs/{digest}", b"", length) + body

    def _route(self, fits: Callable[[Route], Any] = lambda route: True) -> Route:
        return self._chance.choice([route for route in self._routes if fits(route)])

    def _plausible(self, route: Route) -> dict[str, Any]:
        """Return fields that would be answered."""
        turn = {"role": "user", "content": self._chance.choice(("hi", "word " * 20))}
        usual: dict[str, Any] = {
            "model": self._chance.choice(self._models),
            "source": self._models[0],
            "destination": "copy",
            "from": self._models[0],
            "prompt": "hi",
            "messages": [turn],
            "input": "hi",
            "query": "hi",
            "documents": ["a", "b"],
            "max_tokens": 3,
            "options": {"num_predict": 3},
            "stream": self._chance.random() < 0.5,
        }
        if route.method == "DELETE":
            usual["model"] = "copy"  # what is attacked stays
        return {name: value for name, value in usual.items() if name in route.fields}

    def _value(self, depth: int) -> Any:
        kind = self._chance.randrange(6 if depth else 4)
        if kind == 0:
            return self._chance.choice(NUMBERS)
        if kind == 1:
            return self._chance.choice(NAMES)
        if kind == 2:
            return self._chance.choice((True, False, None, "", "json", "5m", "user", "echo"))
        if kind == 3:
            return self._chance.choice(WORDS)
        if kind == 4:
            return [self._value(depth - 1) for _ in range(self._chance.randrange(4))]
        names = ("role", "content", "type", "function", "name", "arguments", "text", "url", "source", "schema", "id")
        return {self._chance.choice(names): self._value(depth - 1) for _ in range(self._chance.randrange(4))}

    def _some(self, names: list[str]) -> list[str]:
        return self._chance.sample(names, self._chance.randint(1, min(3, len(names))))

    def _send(self, route: Route, body: bytes) -> bytes:
        return self._head(route.method, route.path, b"Content-Type: application/json", len(body)) + body

    @staticmethod
    def _head(method: str, path: str, more: bytes, length: int | None = None) -> bytes:
        lines = [f"{method} {path} HTTP/1.1".encode("utf-8", "replace"), f"Host: {HOST}".encode(), b"Connection: close"]
        lines += [more] if more else []
        lines += [b"Content-Length: %d" % length] if length is not None else []
        return b"\r\n".join(lines) + b"\r\n\r\n"


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()
