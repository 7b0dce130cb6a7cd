"""Speaks to a registry of the OCI distribution protocol: manifests and blobs, fetched and sent.

Tokens: a registry that answers 401 names in ``WWW-Authenticate`` where a token is to be had; it is asked for there
with the user and password of ``SMIDGEN_REGISTRY_USER`` and ``SMIDGEN_REGISTRY_PASSWORD``, where those are set.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound, SourceUnavailable
from smidgen.models.files import sha256_of
from smidgen.progress import Event

MOST_MANIFEST = 4 << 20
"""Bytes of the longest manifest that is read."""

TRIES = 5
"""How often a download that brings nothing more is tried again."""

PART = 64 << 20
"""Bytes that are sent at once."""

_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_PAUSE = 0.2


class Refused(SourceUnavailable):
    """The registry refuses; asking again changes nothing."""


@dataclass(frozen=True)
class LayerEvent(Event):
    """A report about one blob.

    Attributes:
        digest: Its digest, as registries write it.
    """

    digest: str = ""


class OciRegistry:
    """One repository of a registry. A context manager.

    Args:
        host: The registry, with a port and a scheme if wanted; https where none is said.
        repository: The repository's path there.
        insecure: Allow http, and certificates that nobody vouches for.
    """

    def __init__(self, host: str, repository: str, *, insecure: bool = False) -> None:
        scheme, _, rest = host.rpartition("://")
        if scheme == "http" and not insecure:
            raise InvalidInput(
                f"The registry {host} is reached without encryption.", remedy="Allow that with --insecure."
            )
        self.address = f"{scheme or ('http' if insecure else 'https')}://{rest.rstrip('/')}"
        self._root = f"{self.address}/v2/{repository}"
        self._repository = repository
        self._insecure = insecure
        self._token: str | None = None
        self._client = httpx.Client(
            timeout=httpx.Timeout(60.0, connect=10.0),
            follow_redirects=True,
            verify=not insecure,
            headers={"User-Agent": "smidgen"},
        )

    def __enter__(self) -> OciRegistry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def manifest(self, tag: str, media_type: str) -> bytes:
        """Return a manifest.

        Raises:
            ReferenceNotFound: The registry has no such model or tag.
            SourceUnavailable: It could not be reached, or refuses.
        """
        with self._request("GET", f"{self._root}/manifests/{tag}", headers={"Accept": media_type}) as response:
            content = b""
            for block in response.iter_raw():
                content += block
                if len(content) > MOST_MANIFEST:
                    raise DamagedFile(f"{self.address} sends a manifest of more than {MOST_MANIFEST:,} bytes.")
        return content

    def fetch(self, sha256: str, size: int, target: Path, report: Callable[[int], None]) -> None:
        """Bring a blob to a file; what an earlier try brought is gone on from.

        Args:
            sha256: Its digest, in hex.
            size: Its bytes.
            target: The file; it has its name only when it is whole and right.
            report: Receives the bytes that are here.

        Raises:
            DamagedFile: What came is not what the digest promises.
            SourceUnavailable: The registry could not deliver it whole; what came is kept.
        """
        part = target.with_name(f"{target.name}.part")
        idle = 0
        while (here := part.stat().st_size if part.exists() else 0) < size or not part.exists():
            try:
                self._continue(sha256, part, here, size, report)
                problem = "it ended early"
            except Refused:
                raise
            except (httpx.TransportError, SourceUnavailable) as error:
                problem = str(error).rstrip(".") or type(error).__name__
            moved = part.exists() and part.stat().st_size > here
            idle = 0 if moved else idle + 1
            if part.exists() and part.stat().st_size >= size:
                break
            if idle >= TRIES:
                raise SourceUnavailable(
                    f"{self.address} broke off sha256:{sha256[:12]} at {here:,} of {size:,} bytes: {problem}.",
                    remedy="Run it again; it goes on from there.",
                )
            time.sleep(_PAUSE * idle)
        digest = sha256_of(part)
        if part.stat().st_size != size or digest != sha256:
            part.unlink()
            raise DamagedFile(
                f"What {self.address} sent for sha256:{sha256[:12]} has the digest {digest[:12]}.",
                remedy="Try again; if it stays so, the registry serves an altered file.",
            )
        os.replace(part, target)

    def holds(self, sha256: str) -> bool:
        """Say whether the repository has a blob."""
        try:
            with self._request("HEAD", f"{self._root}/blobs/sha256:{sha256}"):
                return True
        except ReferenceNotFound:
            return False

    def send(self, sha256: str, path: Path, report: Callable[[int], None]) -> None:
        """Send a file as a blob, in parts.

        Raises:
            SourceUnavailable: The registry does not take it.
        """
        with self._request("POST", f"{self._root}/blobs/uploads/", content=b"") as response:
            place = self._location(response)
        done, size = 0, path.stat().st_size
        with open(path, "rb") as file:
            while done < size:
                content = file.read(PART)
                headers = {
                    "Content-Range": f"{done}-{done + len(content) - 1}",
                    "Content-Type": "application/octet-stream",
                }
                with self._request("PATCH", place, content=content, headers=headers) as response:
                    place = self._location(response)
                done += len(content)
                report(done)
        with self._request("PUT", place, params={"digest": f"sha256:{sha256}"}, content=b""):
            report(size)

    def send_manifest(self, tag: str, content: bytes, media_type: str) -> None:
        """Send a manifest, which makes the model appear."""
        with self._request(
            "PUT", f"{self._root}/manifests/{tag}", content=content, headers={"Content-Type": media_type}
        ):
            pass

    def _continue(self, sha256: str, part: Path, here: int, size: int, report: Callable[[int], None]) -> None:
        """Fetch the rest of a blob into its part file; a registry that ignores ranges begins anew."""
        headers = {"Range": f"bytes={here}-"} if here else {}
        with self._request("GET", f"{self._root}/blobs/sha256:{sha256}", headers=headers) as response:
            begin = here if response.status_code == 206 else 0
            with open(part, "r+b" if begin else "wb") as file:
                file.seek(begin)
                done = begin
                for block in response.iter_raw():
                    if done + len(block) > size:
                        raise DamagedFile(f"{self.address} sends more of sha256:{sha256[:12]} than was promised.")
                    file.write(block)
                    done += len(block)
                    report(done)

    def _location(self, response: httpx.Response) -> str:
        place = str(response.headers.get("location") or "")
        if not place:
            raise Refused(f"{self.address} does not say where to send to.")
        return urljoin(str(response.url), place)

    @contextmanager
    def _request(self, method: str, address: str, **options: Any) -> Iterator[httpx.Response]:
        """Ask, with a token where one is wanted, and turn refusals into errors for a person."""
        headers = {"Accept-Encoding": "identity", **options.pop("headers", {})}
        for attempt in (0, 1):
            if self._token is not None and urlsplit(address).netloc == urlsplit(self.address).netloc:
                headers["Authorization"] = f"Bearer {self._token}"
            try:
                with self._client.stream(method, address, headers=headers, **options) as response:
                    if response.status_code == 401 and attempt == 0:
                        self._token = self._ask_for_token(response)
                        continue
                    if response.status_code >= 400:
                        raise self._refusal(method, address, response)
                    yield response
                    return
            except httpx.ConnectError as error:
                raise SourceUnavailable(
                    f"{self.address} cannot be reached: {error}.", remedy="Check the connection, then try again."
                ) from error
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
                raise SourceUnavailable(f"{self.address} gives an address that is none: {error}.") from error

    def _ask_for_token(self, response: httpx.Response) -> str:
        challenge = response.headers.get("www-authenticate", "")
        asked = dict(_CHALLENGE.findall(challenge))
        realm = asked.pop("realm", "")
        if not challenge.lower().startswith("bearer ") or not realm:
            raise self._unauthorised()
        if urlsplit(realm).scheme != "https" and not self._insecure:
            raise SourceUnavailable(f"{self.address} wants a token to be asked for without encryption at {realm}.")
        user, password = (os.environ.get(f"SMIDGEN_REGISTRY_{name}") for name in ("USER", "PASSWORD"))
        credentials = httpx.BasicAuth(user, password or "") if user else None
        wanted = {name: value for name, value in asked.items() if name in ("service", "scope")}
        answer = self._client.get(realm, params=wanted, auth=credentials)
        try:
            body = answer.json() if answer.status_code == 200 else {}
        except ValueError:
            body = {}
        token = body.get("token") or body.get("access_token") if isinstance(body, dict) else None
        if not isinstance(token, str):
            raise self._unauthorised()
        return token

    def _unauthorised(self) -> Refused:
        return Refused(
            f"{self.address} does not let you at {self._repository}.",
            remedy="Set SMIDGEN_REGISTRY_USER and SMIDGEN_REGISTRY_PASSWORD, if you have an account there.",
        )

    def _refusal(self, method: str, address: str, response: httpx.Response) -> Exception:
        if response.status_code in (401, 403):
            return self._unauthorised()
        if response.status_code == 404:
            return ReferenceNotFound(f"{self.address} has no {self._repository}.", remedy="Check name and tag.")
        said = "" if method == "HEAD" else response.read()[:300].decode(errors="replace").strip()
        kind = SourceUnavailable if response.status_code >= 500 else Refused
        return kind(f"{self.address} answered {response.status_code} to {method}: {said}".rstrip(": "))
