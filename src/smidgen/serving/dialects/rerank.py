"""Documents in the order of how well they fit a question, below /v1/rerank, as Jina's and Cohere's clients ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from smidgen.errors import InvalidInput
from smidgen.serving.dialects._ollama_fields import KeepAlive
from smidgen.serving.dialects._openai_writing import error_body
from smidgen.serving.exchange import EmbeddingRequest
from smidgen.serving.service import Service
from smidgen.serving.wire import Body, described, json_answer, read, unless_gone

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError


class Fields(Body):
    """POST /v1/rerank."""

    model: str = Field(min_length=1)
    query: str = Field(min_length=1)
    documents: list[str | dict[str, Any]] = Field(min_length=1)
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool = False
    options: dict[str, Any] = Field(default_factory=dict)
    keep_alive: KeepAlive | None = None

    def texts(self) -> tuple[str, ...]:
        """Return the documents' texts.

        Raises:
            InvalidInput: A document has none.
        """
        texts = [each.get("text") if isinstance(each, dict) else each for each in self.documents]
        if not all(isinstance(text, str) for text in texts):
            raise InvalidInput("invalid documents: each must be a text, or an object with one as its text")
        return tuple(str(text) for text in texts)


class Rerank:
    """The route that sorts documents."""

    prefixes = ("/v1/rerank",)

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""

        async def rerank(http: Request) -> Response:
            asked = await read(http, Fields, service.settings)
            return json_answer(await unless_gone(http, _ranked(service, asked)))

        router = APIRouter()
        for path in ("/v1/rerank", "/v1/reranking"):
            router.add_api_route(path, rerank, methods=["POST"], **described(Fields))
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return error_body(error, status)


async def _ranked(service: Service, asked: Fields) -> dict[str, Any]:
    """Sort documents by how near their vectors are to the question's."""
    texts = asked.texts()
    made = await service.embed(
        EmbeddingRequest(asked.model, (asked.query, *texts), options=asked.options, keep_alive=asked.keep_alive)
    )
    query, *vectors = made.vectors
    scores = [sum(one * other for one, other in zip(query, vector, strict=True)) for vector in vectors]
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: asked.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in order]
    if asked.return_documents:
        results = [result | {"document": {"text": texts[index]}} for result, index in zip(results, order, strict=True)]
    return {
        "object": "list",
        "model": asked.model,
        "scored_by": "pooled embeddings" if made.pooled else "embeddings",
        "results": results,
        "usage": {"prompt_tokens": made.prompt_tokens, "total_tokens": made.prompt_tokens},
    }
