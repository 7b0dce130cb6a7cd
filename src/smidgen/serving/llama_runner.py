"""A model in llama.cpp's server, asked by many at once: its slots share every step of the computation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from smidgen.errors import EngineFailed, SmidgenError
from smidgen.inference.llama_server import completion_fields, prompt_field
from smidgen.serving.exchange import FinalEvent, Reason, TextEvent, TokenLogprob
from smidgen.serving.faults import ContextExceeded
from smidgen.serving.loopback import Loopback
from smidgen.serving.runner import Prompt, Sampling

if TYPE_CHECKING:
    from smidgen.inference.llama_server import LlamaServer

ENDLESS = 10
"""An answer without a limit of its own ends after this many contexts."""

MOST_REPEATS = 30
"""An answer that says the same piece more often than this in a row has lost itself, and is ended."""

_TOO_LONG = "exceed_context_size_error"


class LlamaRunner:
    """A loaded GGUF.

    Args:
        server: llama.cpp's server with the model.

    Attributes:
        context: Tokens that one answer's context holds.
        slots: Answers that it writes at once.
        lays_out: False: it reads texts.
        image_mark: What stands for an image in a text; empty for a model of texts only.
        load_seconds: How long loading took.
        speculation: How tokens are guessed ahead.
    """

    lays_out: bool = False

    def __init__(self, server: LlamaServer) -> None:
        self.context = server.settings.context
        self.slots = server.settings.slots
        self.load_seconds = server.load_seconds
        self.speculation = server.settings.speculation
        self.image_mark = server.image_mark
        self.server = server
        self._begins: str | None = None
        self._loopback = Loopback(server.address, server.headers)

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[TextEvent | FinalEvent, None]:
        """Write; closing the generator ends the connection, which frees the server's slot.

        Raises:
            ContextExceeded: The prompt is longer than the context.
            InvalidInput: The server refuses the request.
            EngineFailed: The process ended.
        """
        route, fields = await self._request(prompt, sampling)
        guard = _RepetitionGuard()
        try:
            async with self._loopback.post(route, fields) as reply:
                if reply.status != 200:
                    raise self._refusal(reply.status, await reply.body())
                async for event in _events(reply.lines()):
                    if "error" in event:
                        raise self._refusal(500, json.dumps(event).encode())
                    if event["content"]:
                        yield TextEvent(event["content"], _logprobs(event, sampling.top_logprobs))
                    if event["stop"]:
                        yield _final(event)
                        return
                    if guard.trips(event["content"]):
                        yield FinalEvent("length", event["tokens_evaluated"], event["tokens_predicted"])
                        return
        except (OSError, EOFError) as error:
            raise await self._broken_off(error) from error
        raise await self._broken_off(EOFError("it ended without its last part"))

    async def tokenize(self, text: str) -> list[int]:
        """Cut a laid out text into tokens, special ones read as such, with those that stand before every text."""
        bare = await self._bare(text)
        answer = await self._ask("/tokenize", {"content": bare, "add_special": True, "parse_special": True})
        tokens: list[int] = answer["tokens"]
        return tokens

    async def _bare(self, text: str) -> str:
        """Leave out the mark that begins a text where the engine writes it itself."""
        if self._begins is None:
            answer = await self._ask("/tokenize", {"content": "", "add_special": True, "with_pieces": True})
            first = answer["tokens"][0]["piece"] if answer["tokens"] else ""
            self._begins = first if isinstance(first, str) else ""
        return text.removeprefix(self._begins)

    async def detokenize(self, tokens: list[int]) -> str:
        """Join tokens to a text."""
        return str((await self._ask("/detokenize", {"tokens": tokens}))["content"])

    async def embed(self, texts: Sequence[list[int]]) -> list[list[float]]:
        """Return the vectors of texts, given as tokens, as the model gives them."""
        answer = await self._ask("/v1/embeddings", {"input": list(texts), "embd_normalize": -1})
        return [entry["embedding"] for entry in sorted(answer["data"], key=lambda entry: entry["index"])]

    async def rerank(self, query: str, texts: Sequence[str]) -> tuple[list[float], int]:
        """Say how well each text answers a question; for models that were loaded for that.

        Returns:
            One score for each text, and the tokens that were read.
        """
        answer = await self._ask("/v1/rerank", {"query": query, "documents": list(texts)})
        found = sorted(answer["results"], key=lambda result: result["index"])
        return [float(result["relevance_score"]) for result in found], int(answer["usage"]["prompt_tokens"])

    def alive(self) -> bool:
        """Say whether the process still runs."""
        return self.server.alive()

    def resident_bytes(self) -> int:
        """Return the memory that the process holds now."""
        return self.server.child.resident_bytes()

    def close(self) -> None:
        """End the process."""
        self.server.close()

    async def _request(self, prompt: Prompt, sampling: Sampling) -> tuple[str, dict[str, Any]]:
        """Return the route and the fields that ask the server for an answer."""
        options = sampling.options
        fields = completion_fields(options)
        # With a seed the same request gives the same answer, which what is remembered of the last one would change.
        fields["cache_prompt"] = options.seed < 0
        fields["n_predict"] = await self._limit(prompt, sampling)
        if sampling.schema is not None:
            fields["json_schema"] = sampling.schema
        if sampling.grammar is not None:
            fields["grammar"] = sampling.grammar
        if sampling.top_logprobs is not None:
            fields["n_probs"] = max(1, sampling.top_logprobs)
        if sampling.logit_bias:
            fields["logit_bias"] = [[token, bias] for token, bias in sampling.logit_bias.items()]
        if sampling.kept_marks:
            fields["preserved_tokens"] = list(sampling.kept_marks)
        if prompt.suffix:
            return "/infill", fields | {"input_prefix": prompt.text, "input_suffix": prompt.suffix}
        read = list(prompt.tokens) or prompt_field(await self._bare(prompt.text), prompt.images)
        return "/completion", fields | {"prompt": read}

    async def _limit(self, prompt: Prompt, sampling: Sampling) -> int:
        """Return how many tokens may be written."""
        wanted = sampling.options.num_predict
        if sampling.shift or prompt.images:  # with images the server never shifts
            return wanted if 0 <= wanted <= ENDLESS * self.context else ENDLESS * self.context
        left = self.context - len(prompt.tokens or await self.tokenize(prompt.text))
        if left < 1:
            raise ContextExceeded
        return min(wanted, left) if wanted >= 0 else left

    async def _ask(self, route: str, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            async with self._loopback.post(route, fields) as reply:
                body = await reply.body()
        except (OSError, EOFError) as error:
            raise await self._broken_off(error) from error
        if reply.status != 200:
            raise self._refusal(reply.status, body)
        answer: dict[str, Any] = json.loads(body)
        return answer

    async def _broken_off(self, error: Exception) -> EngineFailed:
        """Build the error for a connection that broke, without holding up the others."""
        return await asyncio.to_thread(self.server.broken_off, error)

    def _refusal(self, status: int, body: bytes) -> SmidgenError:
        try:
            kind = json.loads(body)["error"]["type"]
        except (ValueError, KeyError, TypeError):
            kind = ""
        return ContextExceeded() if kind == _TOO_LONG else self.server.refusal(status, body)


class _RepetitionGuard:
    """Counts equal pieces in a row."""

    def __init__(self) -> None:
        self._last = ""
        self._count = 0

    def trips(self, piece: str) -> bool:
        self._count = self._count + 1 if piece.strip() == self._last else 0
        self._last = piece.strip()
        return self._count > MOST_REPEATS


async def _events(lines: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Read server-sent events."""
    async for line in lines:
        if line.startswith(b"data: "):
            yield from_json(line[6:])
        elif line.startswith(b"error: "):
            yield {"error": from_json(line[7:])}


def _final(event: dict[str, Any]) -> FinalEvent:
    timings = event["timings"]
    cached = max(0, timings.get("cache_n", 0))
    reason: Reason = "length" if event["stop_type"] == "limit" else "stop"
    return FinalEvent(
        reason,
        prompt_tokens=timings["prompt_n"] + cached,
        generated_tokens=timings["predicted_n"],
        prompt_seconds=timings["prompt_ms"] / 1000,
        generation_seconds=timings["predicted_ms"] / 1000,
        stop_text=event.get("stopping_word") or "",
        cached_tokens=cached,
        drafted_tokens=timings.get("draft_n", 0),
        accepted_tokens=timings.get("draft_n_accepted", 0),
    )


def _logprobs(event: dict[str, Any], top: int | None) -> tuple[TokenLogprob, ...]:
    if top is None:
        return ()
    return tuple(_logprob(entry, entry["top_logprobs"][:top]) for entry in event.get("completion_probabilities", ()))


def _logprob(entry: dict[str, Any], top: Sequence[dict[str, Any]] = ()) -> TokenLogprob:
    likeliest = tuple(_logprob(each) for each in top)
    return TokenLogprob(entry["token"], entry["logprob"], bytes(entry["bytes"]), likeliest, entry["id"])
