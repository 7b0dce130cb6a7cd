"""The address of a model behind somebody's server: ``http://host:11434/llama3.2:1b``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from smidgen.errors import InvalidInput

_FORMS = "Write it as http://host:11434/llama3.2:1b, or https://host/v1/model where the API lies elsewhere."
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


def is_address(text: object) -> bool:
    """Say whether a model is named by the address of a server.

    Example:
        >>> is_address("http://host:11434/llama3.2"), is_address("smollm2:135m")
        (True, False)
    """
    return isinstance(text, str) and _ADDRESS.match(text) is not None


@dataclass(frozen=True)
class RemoteAddress:
    """A model behind a server.

    Attributes:
        base: The server, without a slash at the end: "http://host:11434".
        api: Path of OpenAI's API on it: "/v1", or what the address has in its place ("/openai/v1").
        model: The model's name there; empty where the server is to be asked for its only one.
        stated: Whether the address names the API, so that it is OpenAI's.
    """

    base: str
    api: str
    model: str
    stated: bool

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
        host = urlsplit(self.base).hostname or ""
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{self.base}{self.api if self.stated else ''}/{self.model}".rstrip("/")


def parse_address(text: str) -> RemoteAddress:
    """Understand the address of a model; nothing is asked.

    Everything behind the host, or behind ``/v1``, is the model's name.

    Raises:
        InvalidInput: It is no address, holds a password, or has a query.

    Example:
        >>> parse_address("http://localhost:11434/hf.co/org/name:Q4").model
        'hf.co/org/name:Q4'
        >>> found = parse_address("https://host/openai/v1/org/name")
        >>> found.api, found.model, found.stated
        ('/openai/v1', 'org/name', True)
    """
    if not is_address(text):
        raise InvalidInput(f"{text!r} is no address of a server.", remedy=_FORMS)
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no address: {error}.", remedy=_FORMS) from None
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "An address with a password in it would be written into reports.",
            remedy="Set the key in the environment variable SMIDGEN_REMOTE_KEY.",
        )
    if not parts.hostname or parts.query or parts.fragment or not text.isprintable() or " " in text.strip():
        raise InvalidInput(f"{text!r} is no address of a model.", remedy=_FORMS)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    base = f"{parts.scheme.lower()}://{host}{port}"
    before, stated, model = f"{parts.path.rstrip('/')}/".partition("/v1/")
    if not stated:
        before, model = "", parts.path
    return RemoteAddress(base, f"{before}/v1", unquote(model).strip("/"), bool(stated))
