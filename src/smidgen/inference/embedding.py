"""Vectors of texts, through llama.cpp: of a model made for that as its file says, of any other its mean token state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from smidgen.errors import InvalidInput
from smidgen.inference.llama_server import LlamaServer, ServerSettings
from smidgen.models.checkpoint.gguf import read_beginning


class Embedder:
    """A GGUF that turns texts into vectors. A context manager.

    Args:
        path: The GGUF file.
        threads: Threads to compute with; the physical cores where None.
        context: Tokens that a text may have.

    Raises:
        ReferenceNotFound: There is no such file.
        DamagedFile: The file is no GGUF.
        EngineFailed: llama.cpp refuses the file.

    Example:
        with Embedder("nomic-embed.gguf") as embedder:
            (vector,) = embedder.vectors(["A text."])
    """

    def __init__(self, path: Path | str, *, threads: int | None = None, context: int = 512) -> None:
        metadata = read_beginning(path)
        trained = f"{metadata.get('general.architecture')}.pooling_type" in metadata
        settings = ServerSettings(
            context=context, threads=threads, batch=context, embeddings=True, pooling=None if trained else "mean"
        )
        self.trained = trained
        """Whether the model was made for this; the vectors of others lie close together until they are centred."""
        self._context = context
        self._server = LlamaServer(Path(path), settings)
        self._client = httpx.Client(timeout=None, headers=self._server.headers, trust_env=False)

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector per text; what is too long for the context is cut.

        Raises:
            InvalidInput: A text is empty.
            EngineFailed: The engine's process ended.
        """
        if not all(text.strip() for text in texts):
            raise InvalidInput("An empty text has no vector.")
        tokens = [self._ask("/tokenize", {"content": text, "add_special": True})["tokens"] for text in texts]
        cut = [ids[: self._context] for ids in tokens]
        answer = self._ask("/v1/embeddings", {"input": cut, "embd_normalize": -1})["data"]
        found: list[list[float]] = [each["embedding"] for each in sorted(answer, key=lambda each: int(each["index"]))]
        return found

    def close(self) -> None:
        """End the engine's process. May be called again."""
        self._client.close()
        self._server.close()

    def _ask(self, route: str, fields: dict[str, object]) -> Any:
        try:
            response = self._client.post(self._server.address + route, json=fields)
        except httpx.HTTPError as error:
            raise self._server.broken_off(error) from error
        if response.status_code != 200:
            raise self._server.refusal(response.status_code, response.content)
        return response.json()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
