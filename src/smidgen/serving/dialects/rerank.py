"""Documents in the order of how well they fit a question, below /v1/rerank, as Jina's and Cohere's clients ask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from smidgen.errors import InvalidInput, Unsupported
from smidgen.serving.dialects._ollama_fields import KeepAlive
from smidgen.serving.dialects._openai_writing import error_body
from smidgen.serving.exchange import EmbeddingRequest
from smidgen.serving.faults import BodyTooLarge
from smidgen.serving.llama_runner import LlamaRunner
from smidgen.serving.opening import is_reranker
from smidgen.serving.options import known_options
from smidgen.serving.scheduler import LoadOptions
from smidgen.serving.service import Service
from smidgen.serving.wire import Body, described, json_answer, read, unless_gone

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError
    from smidgen.serving.library import ServedModel


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


@dataclass(frozen=True)
class _Scores:
    """How well each document fits, what says so, and how many tokens were read."""

    values: list[float]
    source: str
    tokens: int


async def _ranked(service: Service, asked: Fields) -> dict[str, Any]:
    """Sort documents by how well they fit the question, the best first."""
    texts = asked.texts()
    model = await asyncio.to_thread(service.library.find, asked.model)
    by_reranker = await asyncio.to_thread(is_reranker, model)
    scores = await (_by_reranker(service, asked, model) if by_reranker else _by_vectors(service, asked))
    order = sorted(range(len(texts)), key=lambda index: (-scores.values[index], index))[: asked.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores.values[index]} for index in order]
    if asked.return_documents:
        results = [result | {"document": {"text": texts[index]}} for result, index in zip(results, order, strict=True)]
    return {
        "object": "list",
        "model": asked.model,
        "scored_by": scores.source,
        "results": results,
        "usage": {"prompt_tokens": scores.tokens, "total_tokens": scores.tokens},
    }


async def _by_reranker(service: Service, asked: Fields, model: ServedModel) -> _Scores:
    """Let a model score that was made for it."""
    texts = asked.texts()
    if len(texts) > service.settings.max_texts:
        raise BodyTooLarge(f"at most {service.settings.max_texts} documents are taken at once")
    options = LoadOptions.of(known_options({**model.parameters, **asked.options}), "embed")
    async with service.scheduler.acquire(model, options, asked.keep_alive) as lease:
        if not isinstance(lease.runner, LlamaRunner):
            raise Unsupported(f'"{asked.model}" does not support reranking: its engine does not')
        values, tokens = await lease.runner.rerank(asked.query, texts)
    return _Scores(values, "reranker", tokens)


async def _by_vectors(service: Service, asked: Fields) -> _Scores:
    """Score by the cosine of the documents' vectors and the question's."""
    made = await service.embed(
        EmbeddingRequest(asked.model, (asked.query, *asked.texts()), options=asked.options, keep_alive=asked.keep_alive)
    )
    query, *vectors = made.vectors
    values = [sum(one * other for one, other in zip(query, vector, strict=True)) for vector in vectors]
    return _Scores(values, "pooled embeddings" if made.pooled else "embeddings", made.prompt_tokens)
