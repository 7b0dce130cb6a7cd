"""OpenAI's completions: prompts continued as they stand, shown again where that is asked for, and scored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from smidgen.serving.dialects._merging import gathered, merged
from smidgen.serving.dialects._openai_writing import Chunks, Offsets, Usage, spelled
from smidgen.serving.exchange import Event, FinalEvent, GenerationRequest, TextEvent, TokenLogprob
from smidgen.serving.scoring import score
from smidgen.serving.service import Service

_PLAIN = ("stop", "presence_penalty", "frequency_penalty", "repeat_penalty")


@dataclass(frozen=True)
class Wanted:
    """How completions are to be shown.

    Attributes:
        echo: The prompt first.
        logprobs: How many likeliest tokens at each place; None for no log-probabilities.
        variants: Answers to each prompt.
    """

    echo: bool
    logprobs: int | None
    variants: int


async def choices(
    service: Service, requests: Sequence[GenerationRequest], wanted: Wanted
) -> tuple[list[dict[str, Any]], Usage]:
    """Make every completion."""
    made = await gathered(
        [_choice(_events(service, request, wanted), wanted, index) for index, request in enumerate(requests)],
        service.settings.slots,
    )
    usage = Usage()
    for index, (_, final) in enumerate(made):
        usage.add(final, same_prompt=index % wanted.variants > 0)
    return [choice for choice, _ in made], usage


async def _choice(events: AsyncGenerator[Event, None], wanted: Wanted, index: int) -> tuple[dict[str, Any], FinalEvent]:
    text: list[str] = []
    tokens: list[TokenLogprob] = []
    final = FinalEvent("stop")
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TextEvent):
                text.append(event.text)
                tokens += event.logprobs
            elif isinstance(event, FinalEvent):
                final = event
    shown = None if wanted.logprobs is None else Offsets().fields(tokens, wanted.logprobs)
    return {"index": index, "text": "".join(text), "logprobs": shown, "finish_reason": final.reason}, final


async def chunks(
    service: Service, requests: Sequence[GenerationRequest], wanted: Wanted, writer: Chunks
) -> AsyncGenerator[str, None]:
    """Write every completion as it is made."""
    usage = Usage()
    offsets = [Offsets() for _ in requests]
    streams = [_events(service, request, wanted) for request in requests]
    async with aclosing(merged(streams, service.settings.slots)) as events:
        async for index, event in events:
            choice: dict[str, Any] = {"index": index, "text": "", "logprobs": None, "finish_reason": None}
            if isinstance(event, TextEvent):
                shown = None if wanted.logprobs is None else offsets[index].fields(event.logprobs, wanted.logprobs)
                yield writer.chunk(choice | {"text": event.text, "logprobs": shown})
            elif isinstance(event, FinalEvent):
                usage.add(event, same_prompt=index % wanted.variants > 0)
                yield writer.chunk(choice | {"finish_reason": event.reason})
    yield writer.end(usage)


async def _events(service: Service, request: GenerationRequest, wanted: Wanted) -> AsyncGenerator[Event, None]:
    """Give one completion's events, the prompt's own first where it is to be shown."""
    most = request.options.get("num_predict")
    read = 0
    if wanted.echo and (wanted.logprobs is not None or request.tokens):
        scored = await score(service, request)
        read = len(scored.tokens)
        yield TextEvent(_text_of(request, scored.tokens), scored.tokens)
        if most == 1 and _takes_the_likeliest(request.options, request):
            yield TextEvent(spelled(scored.following), (scored.following,))
            yield FinalEvent("length", read, 1)
            return
    elif wanted.echo:
        yield TextEvent(request.prompt or "")
    if wanted.echo and most == 0:
        yield FinalEvent("length", read)
        return
    events = service.generate(request)
    async with aclosing(events):
        async for event in events:
            yield event


def _text_of(request: GenerationRequest, tokens: Sequence[TokenLogprob]) -> str:
    if request.prompt:
        return request.prompt
    return b"".join(token.bytes for token in tokens).decode(errors="replace")


def _takes_the_likeliest(options: Mapping[str, Any], request: GenerationRequest) -> bool:
    """Say whether an answer begins with the likeliest token, whatever else was asked for."""
    free = request.format is None and request.grammar is None and not request.logit_bias
    return free and options.get("temperature") == 0 and not any(options.get(name) for name in _PLAIN)
