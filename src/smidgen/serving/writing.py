"""From what a runner writes to events: thinking and calls told apart, and formats that begin behind the thinking."""

from __future__ import annotations

import secrets
import string
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from smidgen.inference.answers import AnswerParser, Piece
from smidgen.inference.tool_calls import names_of
from smidgen.serving.exchange import (
    Event,
    FinalEvent,
    TextEvent,
    ThinkingEvent,
    TokenLogprob,
    ToolCall,
    ToolCallEvent,
)
from smidgen.serving.layout import Layout
from smidgen.serving.runner import Prompt, Runner, Sampling

_LETTERS = string.ascii_lowercase + string.digits


async def write(layout: Layout, runner: Runner, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Event, None]:
    """Let a runner write an answer, and give its parts.

    Where a model thinks first, what its answer must satisfy (a schema, a grammar) holds only behind the thinking.
    """
    constrained = sampling.schema is not None or sampling.grammar is not None
    if constrained and layout.turns and layout.thinks and layout.marks is not None and not runner.lays_out:
        thought = _Thought(prompt)
        thinking = _think_first(layout, runner, thought, sampling)
        async with aclosing(thinking):
            async for event in thinking:
                yield event
        if thought.is_over:
            return
        prompt = thought.prompt
    writer = _Writer(layout, prompt)
    events = runner.generate(prompt, sampling)
    async with aclosing(events):
        async for event in events:
            for made in writer.take(event):
                yield made


class _Writer:
    """Turns a runner's text into events."""

    def __init__(self, layout: Layout, prompt: Prompt) -> None:
        request = layout.request
        is_raw = not layout.turns
        self.parser = AnswerParser(
            layout.marks if layout.thinks is not None and not is_raw else None,
            is_thinking=layout.thinks is not None and layout.opens_thinking(prompt.text),
            tools=names_of(request.tools) if request.tool_choice != "none" else {},
        )
        self._shows_thinking = request.think is not False
        self._logprobs: tuple[TokenLogprob, ...] = ()
        self._calls = 0

    def take(self, event: TextEvent | FinalEvent) -> list[Event]:
        if isinstance(event, TextEvent):
            self._logprobs += event.logprobs
            return self._events(self.parser.feed(event.text))
        return [*self._events(self.parser.finish()), event]

    def _events(self, pieces: list[Piece]) -> list[Event]:
        events: list[Event] = []
        for piece in pieces:
            if piece.call is not None:
                name, arguments = piece.call
                events.append(ToolCallEvent(ToolCall(name, arguments, _call_id(), self._calls)))
                self._calls += 1
            elif piece.kind == "text":
                events.append(TextEvent(piece.text, self._logprobs))
            elif self._shows_thinking:
                events.append(ThinkingEvent(piece.text, self._logprobs))
            self._logprobs = ()
        return events


class _Thought:
    """The prompt, and what was thought behind it."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.is_over = False


async def _think_first(
    layout: Layout, runner: Runner, thought: _Thought, sampling: Sampling
) -> AsyncGenerator[Event, None]:
    """Let the model think without constraint, until it begins to answer."""
    assert layout.marks is not None
    opening, closing = layout.marks
    writer = _Writer(layout, thought.prompt)
    began_open = writer.parser.is_thinking
    said: list[str] = []
    free = replace(
        sampling,
        schema=None,
        grammar=None,
        options=replace(sampling.options, stop=(*sampling.options.stop, closing)),
    )
    events = runner.generate(thought.prompt, free)
    async with aclosing(events):
        async for event in events:
            if isinstance(event, FinalEvent) and event.stop_text != closing:
                thought.is_over = event.reason == "length"
            for made in writer.take(event):
                if isinstance(made, ThinkingEvent):
                    said.append(made.text)
                    yield made
                elif isinstance(made, FinalEvent) and thought.is_over:
                    yield made
            if writer.parser.is_answering:
                break
    if said:
        text = "".join(said).rstrip()
        begun = thought.prompt.text if began_open else f"{thought.prompt.text}{opening}\n"
        thought.prompt = replace(thought.prompt, text=f"{begun}{text}\n{closing}\n\n", tokens=())


def _call_id() -> str:
    return "call_" + "".join(secrets.choice(_LETTERS) for _ in range(8))
