"""Who may ask: the Host header against DNS rebinding, web origins, and the key."""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import psutil
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from smidgen.errors import InvalidInput
from smidgen.serving.faults import NotAllowed
from smidgen.serving.settings import ServingSettings
from smidgen.serving.web import EXTRACT, PREFIX
from smidgen.serving.wire import Holdings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from smidgen.errors import SmidgenError

OPEN_PATHS = ("/", "/health", EXTRACT)
"""Paths that may be read without the key: they tell nothing but that the server is there. So may the pages' files."""

_OWN_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")
_OWN_SUFFIXES = (".localhost", ".local", ".internal")
_OWN_ORIGINS = (
    *(f"{scheme}://{host}{port}" for scheme in ("http", "https") for host in _OWN_HOSTS for port in ("", ":*")),
    "http://[::1]",
    "http://[::1]:*",
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
    "chrome-extension://*",
    "moz-extension://*",
    "safari-web-extension://*",
)
_HEADERS = (
    "Authorization, Content-Type, User-Agent, Accept, X-Requested-With, X-Api-Key, Anthropic-Version, OpenAI-Beta"
)
_STAINLESS = re.compile(r"x-stainless-[a-z-]+", re.IGNORECASE)
_METHODS = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"

Refuse = Callable[[str, "SmidgenError"], Response]
"""Makes the answer for a path and an error."""


def require_safe(settings: ServingSettings) -> None:
    """Refuse to be reached from other machines without a key.

    Raises:
        InvalidInput: The server would bind elsewhere than to this machine, with no key and no consent.
    """
    if not settings.on_loopback and settings.api_key is None and not settings.insecure:
        raise InvalidInput(
            f"At {settings.host} other machines could use this server without a key.",
            remedy="Set SMIDGEN_API_KEY, bind to 127.0.0.1, or say --insecure.",
        )


class Guard:
    """Refuses requests before anything else sees them, counts all, and the bytes that they keep.

    Args:
        app: What answers the others.
        settings: The server's bounds.
        refuse: Words a refusal.
        count: Told each answer's method and status.
    """

    def __init__(
        self, app: ASGIApp, *, settings: ServingSettings, refuse: Refuse, count: Callable[[str, int], None]
    ) -> None:
        self._app = app
        self._settings = settings
        self._refuse = refuse
        self._count = count
        self._holdings = Holdings(settings.max_bodies)
        self._origins = _pattern((*_OWN_ORIGINS, *settings.origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        allowed = not origin or self._is_allowed(origin, headers.get("host", ""), scope.get("scheme", "http"))

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope["method"], message["status"])
                if origin and allowed:
                    shown = MutableHeaders(scope=message)
                    shown["Access-Control-Allow-Origin"] = origin
                    shown.add_vary_header("Origin")
            await send(message)

        answer = self._refusal(scope, headers, origin, allowed)
        with self._holdings.share(scope):
            await (self._app if answer is None else answer)(scope, receive, counted)

    def _refusal(self, scope: Scope, headers: Headers, origin: str, allowed: bool) -> Response | None:
        path = scope["path"]
        if self._settings.on_loopback and not is_own_host(headers.get("host", "")):
            return Response(status_code=403)
        if not allowed:
            return Response(status_code=403)
        if scope["method"] == "OPTIONS" and origin and "access-control-request-method" in headers:
            return _preflight(headers.get("access-control-request-headers", ""))
        key = self._settings.api_key
        is_open = path in OPEN_PATHS or path.startswith(PREFIX)
        reads_openly = is_open and scope["method"] in ("GET", "HEAD")
        if key is not None and not reads_openly and not has_key(headers, key):
            answer = self._refuse(path, NotAllowed("invalid API key", 401))
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        return None

    def _is_allowed(self, origin: str, host: str, scheme: str) -> bool:
        return origin.lower() == f"{scheme}://{host}".lower() or self._origins.fullmatch(origin) is not None


def has_key(headers: Headers, key: str) -> bool:
    """Say whether a request carries the key, in a time that does not tell how much of it is right."""
    bearer = headers.get("authorization", "")
    given = bearer[7:] if bearer[:7].lower() == "bearer " else headers.get("x-api-key", "")
    return hmac.compare_digest(given.strip().encode("latin-1"), key.encode())  # a header's bytes, as they came


def is_own_host(header: str) -> bool:
    """Say whether a Host header names this machine or its private network, and no name that others could own.

    Example:
        >>> [is_own_host(host) for host in ("localhost:11434", "192.168.0.7", "[::1]:80", "evil.example", "")]
        [True, True, True, False, True]
    """
    host = header.strip().lower()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] if ":" in host else host
    host = host.rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in ("", "localhost", socket.gethostname().lower()) or host.endswith(_OWN_SUFFIXES)
    return address.is_loopback or address.is_private or address.is_unspecified or str(address) in _own_addresses()


@lru_cache(maxsize=1)
def _own_addresses() -> frozenset[str]:
    found = (each.address.partition("%")[0] for card in psutil.net_if_addrs().values() for each in card)
    return frozenset(found)


def _pattern(origins: Iterable[str]) -> re.Pattern[str]:
    """Compile origins in which "*" stands for any text; behind a host's colon for a port's number only."""
    ports = re.compile(r"(?<=:)\\\*$")
    texts = (ports.sub(r"\\d{1,5}", re.escape(origin)).replace(r"\*", ".*") for origin in origins)
    return re.compile("|".join(texts), re.IGNORECASE)


def _preflight(asked: str) -> Response:
    own = [name.strip() for name in asked.split(",") if _STAINLESS.fullmatch(name.strip())]
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": ", ".join([_HEADERS, *own]),
        "Access-Control-Max-Age": "43200",
    }
    return Response(status_code=204, headers=headers)
