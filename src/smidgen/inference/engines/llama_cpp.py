"""llama.cpp, the engine for GGUF files: one child process per loaded model, spoken to over a loopback port."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx

from smidgen.errors import EngineFailed, InvalidInput
from smidgen.inference.engine import Chunk, Message, Metrics
from smidgen.inference.events import read_events
from smidgen.inference.images import parts
from smidgen.inference.llama_server import (
    LlamaServer,
    ServerSettings,
    completion_fields,
    default_context,
    prompt_field,
)
from smidgen.inference.options import GenerationOptions
from smidgen.inference.scoring import require_gguf
from smidgen.inference.speculation import SpeculationRequest
from smidgen.inference.speculation_trial import decide


class LlamaCpp:
    """A GGUF loaded by llama.cpp.

    With temperature 0, or with a seed, the same request gives the same answer: the prompt is then read anew
    instead of being continued from what the engine remembers of the last one.

    Args:
        path: The GGUF file.
        threads: Threads to compute with; the physical cores that this process may use where None.
        context: Tokens that the context holds; 4,096 where None, and no more than a model's short rope factors reach.
        executable: A llama-server program to use instead of the one inside xllamacpp; taken from the
            environment variable SMIDGEN_LLAMA_SERVER where None.
        adapters: LoRA files in GGUF that are put on the model.
        projector: A GGUF that turns images into what the model reads.
        slots: Answers that are written at once; more wait.
        type_k: Number type of the keys that the context keeps, such as "q8_0"; float16 where None.
        type_v: The same of the values.
        speculation: How tokens may be guessed ahead; not at all where None.

    Raises:
        ReferenceNotFound: There is no such file or program.
        DamagedFile: The file is no GGUF.
        EngineFailed: llama.cpp refuses the file or does not get ready; the message holds its error.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        threads: int | None = None,
        context: int | None = None,
        executable: str | None = None,
        adapters: Sequence[Path] = (),
        projector: Path | None = None,
        slots: int = 1,
        type_k: str | None = None,
        type_v: str | None = None,
        speculation: SpeculationRequest | None = None,
    ) -> None:
        settings = ServerSettings(
            context=context or default_context(path),
            slots=slots,
            threads=threads,
            type_k=type_k,
            type_v=type_v,
            adapters=tuple(map(str, adapters)),
            projector=None if projector is None else str(projector),
        )
        if speculation is not None and path is not None:
            settings = replace(settings, speculation=decide(require_gguf(path), settings, speculation))
        self._server = LlamaServer(path, settings, executable=executable)
        self.path = self._server.path
        self.speculation = settings.speculation
        self._held: dict[str, Any] = {}
        self.load_seconds = self._server.load_seconds
        self._client = httpx.Client(
            timeout=httpx.Timeout(None, connect=10.0),
            # The server closes a connection that lies idle just when the next request may take it.
            limits=httpx.Limits(max_keepalive_connections=0),
            headers=self._server.headers,
            trust_env=False,
        )

    def chat(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Chunk, None, None]:
        """Answer a conversation, laid out with the model's own chat template."""
        if not messages:
            raise InvalidInput("A conversation without messages has no answer.")
        turns = [{"role": message.role, "content": parts(message.content, message.images)} for message in messages]
        request = {"messages": turns, "stream_options": {"include_usage": True}, **_fields(options)}
        return self._answer("/v1/chat/completions", request)

    def complete(
        self, prompt: str, options: GenerationOptions, images: Sequence[bytes] = ()
    ) -> Generator[Chunk, None, None]:
        """Continue a text as it stands, with `image_mark` in it for each image."""
        return self._answer("/completion", {"prompt": prompt_field(prompt, images), **_fields(options)})

    @property
    def image_mark(self) -> str:
        """The text that stands for an image in a prompt; empty where the model reads none."""
        return self._server.image_mark

    def tokenize(self, text: str) -> list[int]:
        """Cut a text into the model's tokens, special ones spelled out in it read as such."""
        asked = {"content": text, "parse_special": True}
        try:
            response = self._client.post(self._server.address + "/tokenize", json=asked)
        except httpx.HTTPError as error:
            raise self._server.broken_off(error) from error
        if response.status_code != 200:
            raise self._server.refusal(response.status_code, response.content)
        ids: list[int] = response.json()["tokens"]
        return ids

    def hold_to(self, schema: Mapping[str, Any] | None) -> None:
        """Hold the answers from now on to a JSON schema; None lets them be free."""
        self._held = {} if schema is None else {"json_schema": dict(schema)}

    def resident_bytes(self) -> int:
        """Return the memory that the engine's process holds now."""
        return self._server.child.resident_bytes()

    def close(self) -> None:
        """End the engine's process. May be called again."""
        self._client.close()
        self._server.close()

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, route: str, request: dict[str, Any]) -> Generator[Chunk, None, None]:
        if self._client.is_closed:
            raise EngineFailed("The engine is closed.", remedy="Open another one.")
        reason: Literal["stop", "length"] = "stop"
        timings: dict[str, Any] = {}
        try:
            with self._client.stream("POST", self._server.address + route, json=request | self._held) as response:
                if response.status_code != 200:
                    raise self._server.refusal(response.status_code, response.read())
                for event in read_events(response.iter_lines()):
                    if "error" in event:
                        raise self._server.refusal(500, json.dumps(event).encode())
                    text, ended = _read_event(event)
                    timings = event.get("timings", timings)
                    reason = ended or reason
                    if text:
                        yield Chunk(text)
        except httpx.HTTPError as error:
            raise self._server.broken_off(error) from error
        if not timings:
            raise EngineFailed(f"The engine ended an answer of {self.path.name} without its last part.")
        yield Chunk("", True, reason, self._metrics(timings))

    def _metrics(self, timings: dict[str, Any]) -> Metrics:
        return Metrics(
            prompt_tokens=timings["prompt_n"] + max(0, timings.get("cache_n", 0)),
            generated_tokens=timings["predicted_n"],
            prompt_seconds=timings["prompt_ms"] / 1000,
            generation_seconds=timings["predicted_ms"] / 1000,
            load_seconds=self.load_seconds,
            drafted_tokens=timings.get("draft_n", 0),
            accepted_tokens=timings.get("draft_n_accepted", 0),
        )


def _fields(options: GenerationOptions) -> dict[str, Any]:
    return completion_fields(options) | {"cache_prompt": options.temperature > 0 and options.seed < 0}


def _read_event(event: dict[str, Any]) -> tuple[str, Literal["stop", "length"] | None]:
    """Return an event's text and, where it ends the answer, why."""
    if "choices" not in event:
        ended = event.get("stop_type") if event.get("stop") else None
        return event["content"], None if ended is None else "length" if ended == "limit" else "stop"
    if not event["choices"]:
        return "", None
    choice = event["choices"][0]
    finish = choice.get("finish_reason")
    return choice["delta"].get("content") or "", None if finish is None else "length" if finish == "length" else "stop"
