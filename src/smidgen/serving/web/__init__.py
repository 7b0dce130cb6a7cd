"""The web pages at ``/`` and ``/extract`` and their files, as they are served from the installed package.

The files are read once and found by name in a table, so no request ever names a path on this machine. The pages ask
nobody but the server they came from: `POLICY` forbids other origins, inline scripts and styles, and (where the browser
knows trusted types) making elements out of text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

PAGE = "index.html"
"""The file of the page at ``/``, where models are talked to."""

EXTRACT_PAGE, EXTRACT = "extract.html", "/extract"
"""The file of the page that fields are extracted on, and where it is."""

PREFIX = "/web/"
"""Where the pages' other files are."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""The Content-Security-Policy of the pages; a ``blob:`` is a picture that the page itself made of bytes."""

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Asset:
    """A file of the pages.

    Attributes:
        content: Its bytes.
        media_type: What its kind is called over HTTP.
        tag: Changes with the bytes.
    """

    content: bytes
    media_type: str
    tag: str


@cache
def assets() -> Mapping[str, Asset]:
    """Return every file of the pages by its name."""
    found = {}
    for file in files(__name__).joinpath("assets").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None and file.is_file():
            content = file.read_bytes()
            found[file.name] = Asset(content, kind, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
    return found


def wants_page(accept: str) -> bool:
    """Say whether a request comes from a browser, by its Accept header; API clients never ask for HTML.

    Example:
        >>> [wants_page(each) for each in ("text/html,*/*;q=0.8", "*/*", "application/json", "text/html;q=0", "")]
        [True, False, False, False, False]
    """
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        if kind == "text/html":
            return not any(part.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for part in parameters)
    return False


def answer(http: Request, asset: Asset, **headers: str) -> Response:
    """Send a file, or only say that the browser's copy is still right."""
    sent = {**_HEADERS, "ETag": asset.tag, **headers}
    if http.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=sent)
    return Response(asset.content, media_type=asset.media_type, headers=sent)
