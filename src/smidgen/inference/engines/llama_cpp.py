"""llama.cpp, the engine for GGUF files: one child process per loaded model, spoken to over a loopback port."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx

from smidgen.errors import EngineFailed, InvalidInput, ReferenceNotFound
from smidgen.inference.child import Child
from smidgen.inference.engine import Chunk, Message, Metrics
from smidgen.inference.options import GenerationOptions
from smidgen.inference.scoring import require_gguf
from smidgen.machine import cores

DEFAULT_CONTEXT = 4096
"""Tokens that the context holds where nothing else is asked for."""

LOAD_PATIENCE = 300.0
"""Seconds that a model may take to load."""

_CHILD = "smidgen.inference.engines._llama_cpp_child"
_EXECUTABLE = "SMIDGEN_LLAMA_SERVER"
_UNSEEDED = 2**32 - 1


class LlamaCpp:
    """A GGUF loaded by llama.cpp.

    With temperature 0, or with a seed, the same request gives the same answer: the prompt is then read anew
    instead of being continued from what the engine remembers of the last one.

    Args:
        path: The GGUF file.
        threads: Threads to compute with; the physical cores that this process may use where None.
        context: Tokens that the context holds.
        executable: A llama-server program to use instead of the one inside xllamacpp; taken from the
            environment variable SMIDGEN_LLAMA_SERVER where None.

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
    ) -> None:
        if path is None:
            raise InvalidInput("The engine llama_cpp needs a model file.", remedy="Give the path of a .gguf file.")
        self.path = require_gguf(path)
        program = _program(executable or os.environ.get(_EXECUTABLE))
        key = secrets.token_hex(16)
        started = time.perf_counter()
        self._child = Child(_CHILD, f"loading {self.path.name}")
        self._client = httpx.Client(
            timeout=httpx.Timeout(None, connect=10.0),
            # The server closes a connection that lies idle just when the next request may take it.
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,
        )
        try:
            with self._patience():
                self._child.send(
                    path=str(self.path),
                    threads=threads or cores()[0],
                    context=context or DEFAULT_CONTEXT,
                    executable=program,
                    key=key,
                )
                self._address: str = self._child.receive()["address"]
                self._wait_until_healthy()
        except BaseException as error:
            self.close()
            if isinstance(error, EngineFailed) and (cause := self._child.cause()):
                raise EngineFailed(f"llama.cpp cannot load {self.path.name}: {cause}") from error
            raise
        self._child.purpose = f"running {self.path.name}"
        self.load_seconds = time.perf_counter() - started

    def chat(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Chunk, None, None]:
        """Answer a conversation, laid out with the model's own chat template."""
        if not messages:
            raise InvalidInput("A conversation without messages has no answer.")
        turns = [{"role": message.role, "content": message.content} for message in messages]
        request = {"messages": turns, "stream_options": {"include_usage": True}, **_request(options)}
        return self._answer("/v1/chat/completions", request)

    def complete(self, prompt: str, options: GenerationOptions) -> Generator[Chunk, None, None]:
        """Continue a text as it stands."""
        return self._answer("/completion", {"prompt": prompt, **_request(options)})

    def resident_bytes(self) -> int:
        """Return the memory that the engine's process holds now."""
        return self._child.resident_bytes()

    def close(self) -> None:
        """End the engine's process. May be called again."""
        self._client.close()
        self._child.close()

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
            with self._client.stream("POST", self._address + route, json=request) as response:
                if response.status_code != 200:
                    raise self._refusal(response.status_code, response.read())
                for event in _events(response.iter_lines()):
                    if "error" in event:
                        raise self._refusal(500, json.dumps(event).encode())
                    text, ended = _read_event(event)
                    timings = event.get("timings", timings)
                    reason = ended or reason
                    if text:
                        yield Chunk(text)
        except httpx.HTTPError as error:
            if self._child.process.poll() is not None:
                raise self._child.failure() from error
            raise EngineFailed(f"The engine broke off an answer: {error}.") from error
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
        )

    def _refusal(self, status: int, body: bytes) -> InvalidInput | EngineFailed:
        try:
            message = str(json.loads(body)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = body.decode(errors="replace")
        if status == 400:
            return InvalidInput(f"The engine does not accept the request: {message.rstrip('.')}.")
        return EngineFailed(f"The engine answered {status}: {message.rstrip('.')}.")

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """End the child when loading takes too long, which ends the waiting for it."""
        timer = threading.Timer(LOAD_PATIENCE, self._child.process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _wait_until_healthy(self) -> None:
        while True:
            if self._child.process.poll() is not None:
                raise self._child.failure()
            try:
                if self._client.get(self._address + "/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass  # the port is not open yet
            time.sleep(0.02)


def _program(name: str | None) -> str | None:
    if not name:
        return None
    found = shutil.which(name)
    if found is None:
        raise ReferenceNotFound(
            f"There is no program {name!r}.", remedy=f"Unset {_EXECUTABLE}, or give the path of a llama-server."
        )
    return found


def _request(options: GenerationOptions) -> dict[str, Any]:
    """Translate options into the fields of llama.cpp's server."""
    return {
        "stream": True,
        "n_predict": options.num_predict,
        "n_keep": options.num_keep,
        "seed": options.seed if options.seed >= 0 else _UNSEEDED,
        "stop": list(options.stop),
        "cache_prompt": options.temperature > 0 and options.seed < 0,
        "temperature": options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "typical_p": options.typical_p,
        "repeat_last_n": options.repeat_last_n,
        "repeat_penalty": options.repeat_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
    }


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Read server-sent events."""
    for line in lines:
        field, _, value = line.partition(":")
        if field == "data" and value.strip() != "[DONE]":
            yield json.loads(value)
        elif field == "error":
            yield {"error": json.loads(value)}


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
