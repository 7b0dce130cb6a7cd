"""Every bound and setting of the server, from the environment and the command line.

Each OLLAMA_* variable may also be written SMIDGEN_*, which then counts. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlsplit

from smidgen import registry
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.inference.engine import ENGINES
from smidgen.inference.images import MOST_PIXELS
from smidgen.inference.speculation import MODES
from smidgen.serving.durations import seconds

DEFAULT_PORT = 11434
DEFAULT_HOST = "127.0.0.1"
MIB = 1 << 20

_PREFIXES = ("SMIDGEN_", "OLLAMA_")
_SCHEME_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class ServingSettings:
    """What a server is told when it starts.

    Attributes:
        host: Address that it binds to.
        port: Port that it binds to.
        api_key: Key that every request must carry; None asks for none.
        insecure: Bind elsewhere than to this machine without a key.
        origins: Web origins that may ask, beside this machine's own; "*" stands for any text.
        slots: Requests that one model answers at once (NUM_PARALLEL).
        max_loaded: Models loaded at once (MAX_LOADED_MODELS); 0 for 3 times the GPUs, at least 3.
        max_memory: Bytes that all loaded models together may take; None for most of what the machine has.
        max_queue: Requests that may wait (MAX_QUEUE); beyond them 503.
        keep_alive: How long an idle model stays loaded (KEEP_ALIVE).
        load_timeout: How long a model may take to load (LOAD_TIMEOUT).
        context: Tokens of the context where nobody says (CONTEXT_LENGTH); None for the engine's default.
        cache_type: Number type of the context's keys and values (KV_CACHE_TYPE); None for float16.
        max_context: The longest context that a request may ask for (MAX_CONTEXT).
        max_body: Bytes of a request's body (MAX_BODY).
        max_bodies: Bytes of the bodies of all requests together that are being answered or wait (MAX_BODIES); beyond
            them 503.
        max_image: Bytes of one decoded image (MAX_IMAGE).
        max_images: Images of one request (MAX_IMAGES).
        max_pixels: Pixels of all images of one request together (MAX_PIXELS).
        max_grammar: Bytes of a grammar or a JSON schema (MAX_GRAMMAR).
        max_texts: Texts of one request for embeddings (MAX_TEXTS).
        threads: Threads that each model computes with; None for the physical cores.
        engine: What computes (ENGINE): "auto", or the name of an engine.
        speculate: How tokens are guessed ahead (SPECULATE): "auto", "off", "ngram" or "draft".
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    api_key: str | None = None
    insecure: bool = False
    origins: tuple[str, ...] = ()
    slots: int = 1
    max_loaded: int = 0
    max_memory: int | None = None
    max_queue: int = 512
    keep_alive: float = 300.0
    load_timeout: float = 300.0
    context: int | None = None
    cache_type: str | None = None
    max_context: int = 1 << 20
    max_body: int = 64 * MIB
    max_bodies: int = 256 * MIB
    max_image: int = 20 * MIB
    max_images: int = 32
    max_pixels: int = MOST_PIXELS
    max_grammar: int = MIB // 4
    max_texts: int = 2048
    threads: int | None = None
    engine: str = "auto"
    speculate: str = "auto"

    def __post_init__(self) -> None:
        if self.engine != "auto" and self.engine not in registry.names(ENGINES):
            raise ReferenceNotFound.among("engine", self.engine, ["auto", *registry.names(ENGINES)])
        if self.engine == "remote":
            raise InvalidInput(
                "The engine remote asks another server and runs no stored models.", remedy="Ask that server itself."
            )
        if self.speculate not in MODES:
            raise ReferenceNotFound.among("way to speculate", self.speculate, MODES)
        smallest = {"port": 0, "max_loaded": 0, "max_queue": 0, "max_images": 0}
        for name in ("port", "slots", *(field.name for field in fields(self) if field.name.startswith("max_"))):
            value = getattr(self, name)
            if value is not None and value < smallest.get(name, 1):
                raise InvalidInput(f"The server's setting {name} is {getattr(self, name)}, which is too small.")
        if self.port > 65535:
            raise InvalidInput(f"There is no port {self.port}.", remedy="Give a number from 1 to 65535.")
        if self.context is not None and self.context < 4:
            raise InvalidInput(f"A context of {self.context} tokens holds nothing.", remedy="Give at least 4.")

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: Any) -> ServingSettings:
        """Read the settings.

        Args:
            environment: Where the variables are looked up; the process's own environment where None.
            given: Settings that count more than the environment's; None is as if it were not given.

        Raises:
            InvalidInput: A variable's value cannot be understood.

        Example:
            >>> ServingSettings.from_environment({"OLLAMA_HOST": "0.0.0.0", "OLLAMA_KEEP_ALIVE": "10m"}).keep_alive
            600.0
        """
        source = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for name, (variable, read) in _VARIABLES.items():
            text = _look_up(source, variable)
            if text:
                values[name] = _read(variable, text, read)
        if text := _look_up(source, "HOST"):
            values["host"], values["port"] = parse_host(text)
        return replace(cls(**values), **{name: value for name, value in given.items() if value is not None})


def _look_up(source: Mapping[str, str], variable: str) -> str:
    return next((text for prefix in _PREFIXES if (text := source.get(prefix + variable, "").strip().strip("'\""))), "")


def _read(variable: str, text: str, read: Any) -> Any:
    try:
        return read(text)
    except (ValueError, InvalidInput) as error:
        raise InvalidInput(f"The environment variable {variable} is {text!r}, which cannot be understood.") from error


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for each in text.split(",") if (part := each.strip()))


def _optional(text: str) -> int | None:
    return int(text) or None


_VARIABLES: dict[str, tuple[str, Any]] = {
    "api_key": ("API_KEY", str),
    "origins": ("ORIGINS", _list),
    "engine": ("ENGINE", lambda text: text.lower().replace("-", "_")),
    "speculate": ("SPECULATE", str.lower),
    "slots": ("NUM_PARALLEL", lambda text: int(text) or 1),
    "max_loaded": ("MAX_LOADED_MODELS", int),
    "max_queue": ("MAX_QUEUE", int),
    "keep_alive": ("KEEP_ALIVE", seconds),
    "load_timeout": ("LOAD_TIMEOUT", seconds),
    "context": ("CONTEXT_LENGTH", _optional),
    "cache_type": ("KV_CACHE_TYPE", str.lower),
    "max_context": ("MAX_CONTEXT", int),
    "max_body": ("MAX_BODY", int),
    "max_bodies": ("MAX_BODIES", int),
    "max_image": ("MAX_IMAGE", int),
    "max_images": ("MAX_IMAGES", int),
    "max_pixels": ("MAX_PIXELS", int),
    "max_grammar": ("MAX_GRAMMAR", int),
    "max_texts": ("MAX_TEXTS", int),
}


def parse_host(text: str) -> tuple[str, int]:
    """Split ``[scheme://]host[:port][/path]`` as OLLAMA_HOST has it.

    Raises:
        InvalidInput: It names no host.

    Example:
        >>> parse_host("http://example.org"), parse_host(":8080"), parse_host("[::1]:99"), parse_host("::1")
        (('example.org', 80), ('127.0.0.1', 8080), ('::1', 99), ('::1', 11434))
    """
    scheme, separator, rest = text.strip().partition("://")
    rest = rest if separator else text.strip()
    default = _SCHEME_PORTS.get(scheme.lower(), DEFAULT_PORT) if separator else DEFAULT_PORT
    place = rest.partition("/")[0]
    if _is_address(place.strip("[]")):
        return place.strip("[]"), default
    try:
        parts = urlsplit(f"//{place}")
        return parts.hostname or DEFAULT_HOST, default if parts.port is None else parts.port
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no address of a server.", remedy="Write it as 127.0.0.1:11434.") from error


def is_loopback(host: str) -> bool:
    """Say whether an address is reached from this machine only.

    Example:
        >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0")]
        [True, True, True, False]
    """
    return host.lower() == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
