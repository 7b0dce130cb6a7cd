"""A model behind a server that speaks Ollama's or OpenAI's protocol: what a person runs now, on any machine."""

from __future__ import annotations

import base64
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from smidgen.errors import EngineFailed, InvalidInput
from smidgen.inference.engine import Chunk, Message, Metrics
from smidgen.inference.events import read_events, read_lines
from smidgen.inference.images import parts
from smidgen.inference.options import GenerationOptions
from smidgen.inference.remote_server import RemoteFacts, RemoteServer, named_error


class Remote:
    """A model behind a server, named by its address: ``http://host:11434/llama3.2:1b``.

    Times are taken here, from the request to the first piece and to the last, so that they hold what the network
    and the server's queue take; a server that counts no tokens is taken to send one with each piece.

    Args:
        path: The address; a key goes into the environment variable SMIDGEN_REMOTE_KEY.
        threads: Not used: the server computes.
        context: Tokens that the context holds, where the server speaks Ollama's protocol; else the server's own.

    Raises:
        SourceUnavailable: The server does not answer.
        ReferenceNotFound: It does not have the model.
        InvalidInput: This is no address, or the server wants a key.
    """

    load_seconds = 0.0

    def __init__(self, path: Path | str | None, *, threads: int | None = None, context: int | None = None) -> None:
        self._server = RemoteServer(str(path or ""))
        self._context = context

    @property
    def facts(self) -> RemoteFacts:
        """What the server says of the model."""
        return self._server.facts

    def chat(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Chunk, None, None]:
        """Answer a conversation, laid out by the server."""
        if not messages:
            raise InvalidInput("A conversation without messages has no answer.")
        turns = [_ollama_turn(message) if self._speaks_ollama else _openai_turn(message) for message in messages]
        path = "/api/chat" if self._speaks_ollama else f"{self._server.address.api}/chat/completions"
        return self._answer(path, {"messages": turns}, options)

    def complete(self, prompt: str, options: GenerationOptions) -> Generator[Chunk, None, None]:
        """Continue a text as it stands."""
        if self._speaks_ollama:
            return self._answer("/api/generate", {"prompt": prompt, "raw": True}, options)
        return self._answer(f"{self._server.address.api}/completions", {"prompt": prompt}, options)

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._server.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _speaks_ollama(self) -> bool:
        return self._server.facts.protocol == "ollama"

    def _answer(self, path: str, asked: Mapping[str, Any], options: GenerationOptions) -> Generator[Chunk, None, None]:
        if self._server.closed:
            raise EngineFailed("The engine is closed.", remedy="Open another one.")
        fields = _ollama_fields(options, self._context) if self._speaks_ollama else self._openai_fields(options)
        request = {"model": self._server.facts.model, "stream": True, **asked, **fields}
        end, times = _Part(), [time.perf_counter()]
        pieces = 0
        with self._server.stream(path, request) as lines:
            for part in self._parts(lines):
                end = end.followed_by(part)
                if part.text:
                    pieces += 1
                    times = [*times[:2], time.perf_counter()]
                    yield Chunk(part.text)
        if end.reason is None:
            raise EngineFailed(
                f"The server {self._server.address.base} ended an answer without its last part.",
                remedy="Look whether it still runs; the same command goes on.",
            )
        generated = end.generated if end.generated is not None else pieces
        first = times[1] if pieces else time.perf_counter()
        metrics = Metrics(end.prompt or 0, generated, first - times[0], times[-1] - first if pieces else 0.0, 0.0)
        yield Chunk("", True, end.reason, metrics, end.stop_text)

    def _openai_fields(self, options: GenerationOptions) -> dict[str, Any]:
        """Translate options into what every server of OpenAI's protocol understands."""
        return openai_fields(options)

    def _parts(self, lines: Iterator[str]) -> Iterator[_Part]:
        """Read the answer's pieces."""
        events = read_lines(lines) if self._speaks_ollama else read_events(lines)
        try:
            for event in events:
                fault = named_error(event, self._server.address)
                if fault is not None:
                    raise fault
                yield _ollama_part(event) if self._speaks_ollama else _openai_part(event)
        except (ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
            raise EngineFailed(
                f"The server {self._server.address.base} answered with what neither Ollama's nor OpenAI's protocol has."
            ) from error


@dataclass(frozen=True)
class _Part:
    """What one event of a server says: a text, how the answer ended, how many tokens it took."""

    text: str = ""
    reason: Literal["stop", "length"] | None = None
    prompt: int | None = None
    generated: int | None = None
    stop_text: str = ""

    def followed_by(self, later: _Part) -> _Part:
        """Put together what both say, without the text."""
        generated = later.generated if later.generated is not None else self.generated
        stop_text = later.stop_text or self.stop_text
        return _Part("", later.reason or self.reason, later.prompt or self.prompt, generated, stop_text)


def _ollama_turn(message: Message) -> dict[str, Any]:
    """Return a turn as Ollama's protocol has it.

    Example:
        >>> _ollama_turn(Message("user", "What is it?", (b"PNG",)))
        {'role': 'user', 'content': 'What is it?', 'images': ['UE5H']}
    """
    seen = [base64.b64encode(image).decode() for image in message.images]
    return {"role": message.role, "content": message.content} | ({"images": seen} if seen else {})


def _openai_turn(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": parts(message.content, message.images)}


def _ollama_part(event: Mapping[str, Any]) -> _Part:
    text = event["message"].get("content", "") if "message" in event else event.get("response", "")
    if not event.get("done"):
        return _Part(text)
    reason: Literal["stop", "length"] = "length" if event.get("done_reason") == "length" else "stop"
    return _Part(text, reason, event.get("prompt_eval_count"), event.get("eval_count"))


def _openai_part(event: Mapping[str, Any]) -> _Part:
    usage = event.get("usage") or {}
    choice = event["choices"][0] if event.get("choices") else {}
    said = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
    finish = choice.get("finish_reason")
    reason: Literal["stop", "length"] | None = "length" if finish == "length" else "stop" if finish else None
    stopped = choice.get("stop_reason")  # vLLM's: a stop text, or the number of a token
    stop_text = stopped if isinstance(stopped, str) else ""
    return _Part(said, reason, usage.get("prompt_tokens"), usage.get("completion_tokens"), stop_text)


def _ollama_fields(options: GenerationOptions, context: int | None) -> dict[str, Any]:
    names = ("num_predict", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n")
    values: dict[str, Any] = {name: getattr(options, name) for name in names}
    values |= {name: getattr(options, name) for name in ("presence_penalty", "frequency_penalty")}
    values |= {"stop": list(options.stop)} if options.stop else {}
    values |= {"seed": options.seed} if options.seed >= 0 else {}
    return {"options": values | ({"num_ctx": context} if context else {})}


def openai_fields(options: GenerationOptions) -> dict[str, Any]:
    """Translate options into the fields of OpenAI's protocol."""
    values: dict[str, Any] = {"temperature": options.temperature, "top_p": options.top_p}
    values |= {"presence_penalty": options.presence_penalty, "frequency_penalty": options.frequency_penalty}
    values |= {"max_tokens": options.num_predict} if options.num_predict >= 0 else {}
    values |= {"stop": list(options.stop)} if options.stop else {}
    values |= {"seed": options.seed} if options.seed >= 0 else {}
    return values | {"stream_options": {"include_usage": True}}
