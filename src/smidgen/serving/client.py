"""Asking a server that runs, from the command line."""

from __future__ import annotations

from typing import Any

import httpx

from smidgen.errors import InvalidInput, ReferenceNotFound, SmidgenError, SourceUnavailable
from smidgen.serving.settings import ServingSettings


class ServerClient:
    """A client of a running server.

    Args:
        settings: Where it listens, and its key.
        seconds: How long to wait for an answer.
    """

    def __init__(self, settings: ServingSettings, *, seconds: float = 30.0) -> None:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
        self._headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        self._seconds = seconds

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one request and return the JSON object that comes back.

        Raises:
            SourceUnavailable: No server answers.
            ReferenceNotFound: The server has no such model.
            SmidgenError: The server refuses.
        """
        try:
            with httpx.Client(headers=self._headers, timeout=self._seconds, trust_env=False) as client:
                response = client.request(method, self.address + path, json=body)
        except httpx.HTTPError as error:
            raise SourceUnavailable(
                f"No server answers at {self.address}: {error}.", remedy="Start one with: smidgen serve"
            ) from error
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise SourceUnavailable(f"What listens at {self.address} is no such server.")
        if response.is_error:
            kind: type[SmidgenError] = ReferenceNotFound if response.status_code == 404 else InvalidInput
            raise kind(f"The server refuses: {answer.get('error', response.status_code)}.")
        return answer
