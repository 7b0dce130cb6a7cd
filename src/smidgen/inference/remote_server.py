"""A server of Ollama's or OpenAI's protocol: which of them it speaks, what it says of a model, how it is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import httpx

from smidgen.errors import EngineFailed, InvalidInput, ReferenceNotFound, SmidgenError, SourceUnavailable
from smidgen.inference.remote_address import RemoteAddress, parse_address

KEY = "SMIDGEN_REMOTE_KEY"
"""Environment variable that holds the key that servers are shown."""

PATIENCE = 600.0
"""Seconds that a server may be silent: it may have to load the model first."""

_NO_SUCH_ROUTE = (404, 405, 501)


@dataclass(frozen=True)
class RemoteFacts:
    """What a server says of a model; None where it does not say.

    Attributes:
        protocol: "ollama" or "openai".
        server: Name and version of the server.
        model: The model's name there.
        bytes: Size of its weights.
        parameters: Count of its weights.
        format: Number format of its weights, in the server's words.
        digest: What the server knows its contents by.
    """

    protocol: Literal["ollama", "openai"]
    server: str
    model: str
    bytes: int | None = None
    parameters: int | None = None
    format: str | None = None
    digest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


class _Reconnecting(httpx.HTTPTransport):
    """Asks once more where a server had closed a connection that was kept: llama.cpp's does so in silence."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; what has got no answer at all is sent again on a new connection."""
        try:
            return super().handle_request(request)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return super().handle_request(request)


class RemoteServer:
    """One model behind one server.

    Args:
        address: As `smidgen.inference.remote_address.parse_address` takes it.
        key: The key to show it; that of the environment variable SMIDGEN_REMOTE_KEY where None.

    Attributes:
        address: The address, with the model's name.
        facts: What the server says of the model.

    Raises:
        SourceUnavailable: The server does not answer.
        ReferenceNotFound: It does not have the model.
        InvalidInput: It wants a key, or has several models and none is named.
    """

    def __init__(self, address: str, *, key: str | None = None) -> None:
        self.address = parse_address(address)
        key = key or os.environ.get(KEY)
        self._client = httpx.Client(
            timeout=httpx.Timeout(PATIENCE, connect=10.0),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=not self.address.is_loopback,
            transport=_Reconnecting(),
        )
        try:
            self.facts = self._introduce()
        except BaseException:
            self.close()
            raise
        self.address = replace(self.address, model=self.facts.model)

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._client.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._client.is_closed

    @contextmanager
    def stream(self, path: str, request: Mapping[str, Any]) -> Iterator[Iterator[str]]:
        """Ask the server and yield the lines of its answer.

        Raises:
            SourceUnavailable: It cannot be reached.
            EngineFailed: It broke off, or says that it failed.
            ReferenceNotFound: It does not have the model.
            InvalidInput: It does not accept the request.
        """
        begun = False
        try:
            with self._client.stream("POST", self.address.base + path, json=dict(request)) as response:
                begun = True
                if response.status_code != 200:
                    response.read()
                    raise self._refusal(response)
                yield response.iter_lines()
        except httpx.ConnectError as error:
            raise self._silent(error) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._broken(error, "broke off an answer" if begun else "did not answer") from error

    def _introduce(self) -> RemoteFacts:
        found = None if self.address.stated else self._get("/api/version")
        if found is not None and "version" in found:
            return self._from_ollama(str(found["version"]))
        return self._from_openai()

    def _from_ollama(self, version: str) -> RemoteFacts:
        listed = (self._get("/api/tags") or {}).get("models")
        models = [each for each in listed or () if isinstance(each, Mapping)]
        names = [str(each.get("name")) for each in models]
        wanted = self.address.model or self._only(names)
        same = (wanted, wanted if ":" in wanted.rpartition("/")[2] else f"{wanted}:latest")
        entry = next((each for each in models if each.get("name") in same), None)
        if entry is None and not self._shows(wanted):
            raise ReferenceNotFound.among(f"model on {self.address.base}", wanted, names)
        known = entry or {}
        details = known.get("details")
        return RemoteFacts(
            "ollama",
            f"Ollama's protocol, version {version}",
            wanted,
            bytes=_count(known.get("size")),
            format=_text(details.get("quantization_level")) if isinstance(details, Mapping) else None,
            digest=_text(known.get("digest")),
        )

    def ask(self, path: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Ask the server and return its whole answer; None where it has no such route.

        Raises:
            SmidgenError: As `stream` does, and where it answers with no JSON object.
        """
        try:
            response = self._client.post(self.address.base + path, json=dict(request))
        except httpx.ConnectError as error:
            raise self._silent(error) from error
        except httpx.HTTPError as error:
            raise self._broken(error, "did not answer") from error
        if response.status_code in _NO_SUCH_ROUTE:
            return None
        if response.status_code != 200:
            raise self._refusal(response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineFailed(f"The server {self.address.base} answered {path} with no JSON object.")
        return answer

    def _shows(self, model: str) -> bool:
        """Say whether a server of Ollama's protocol knows a model that it does not list."""
        try:
            return self._client.post(f"{self.address.base}/api/show", json={"model": model}).status_code == 200
        except httpx.HTTPError as error:
            raise self._silent(error) from error

    def _from_openai(self) -> RemoteFacts:
        answer = self._get(f"{self.address.api}/models")
        listed = answer.get("data") if answer is not None else None
        models = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
        wanted = self.address.model or self._only([str(each.get("id")) for each in models])
        # Servers with a single model often take any name for it, so a name that is not listed is no fault.
        entry: Mapping[str, Any] = next((each for each in models if each.get("id") == wanted), {})
        meta = entry.get("meta")
        more = meta if isinstance(meta, Mapping) else {}
        return RemoteFacts(
            "openai",
            f"OpenAI's protocol{', ' + str(entry['owned_by']) if entry.get('owned_by') else ''}",
            wanted,
            bytes=_count(more.get("size")),
            parameters=_count(more.get("n_params")),
        )

    def _only(self, names: list[str]) -> str:
        if len(names) != 1:
            listing = ", ".join(sorted(names)) or "none that it tells of"
            raise InvalidInput(
                f"{self.address.base} names no model, and the server has {len(names)}.",
                remedy=f"Put the model's name behind the address. It has: {listing}.",
            )
        return names[0]

    def _get(self, path: str) -> dict[str, Any] | None:
        """Return what the server says; None where it knows nothing of the kind."""
        try:
            response = self._client.get(self.address.base + path, timeout=httpx.Timeout(30.0, connect=10.0))
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if response.status_code in (401, 403):
            raise self._refusal(response)
        try:
            found = response.json() if response.status_code == 200 else None
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _silent(self, error: Exception) -> SourceUnavailable:
        return SourceUnavailable(
            f"The server {self.address.base} does not answer: {error or type(error).__name__}.",
            remedy="Check the address, and that it runs.",
        )

    def _broken(self, error: Exception, what: str) -> EngineFailed:
        return EngineFailed(
            f"The server {self.address.base} {what}: {error or type(error).__name__}.",
            remedy="Look whether it still runs; the same command goes on.",
        )

    def _refusal(self, response: httpx.Response) -> SmidgenError:
        said, status = _message(response), response.status_code
        if status in (401, 403):
            return InvalidInput(
                f"The server {self.address.base} lets nobody in without a key ({status}).",
                remedy=f"Set the key in the environment variable {KEY}.",
            )
        if status == 404:
            return ReferenceNotFound(f"{self.address}: {said}.", remedy="Check the model's name and the address.")
        if 400 <= status < 500 and status != 429:
            return InvalidInput(f"The server {self.address.base} does not accept the request: {said}.")
        return EngineFailed(f"The server {self.address.base} answered {status}: {said}.")


def named_error(event: Mapping[str, Any], address: RemoteAddress) -> EngineFailed | None:
    """Return the error that a piece of an answer tells of, None where it tells of none."""
    fault = event.get("error")
    if not fault:
        return None
    said = fault.get("message", fault) if isinstance(fault, Mapping) else fault
    return EngineFailed(f"The server {address.base} failed: {str(said).rstrip('.')}.")


def _message(response: httpx.Response) -> str:
    try:
        fault = response.json()["error"]
        said = fault["message"] if isinstance(fault, dict) else fault
    except (ValueError, KeyError, TypeError):
        said = response.text
    return str(said).strip().rstrip(".")[:300] or f"status {response.status_code}"


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
