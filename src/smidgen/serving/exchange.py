"""What every dialect is translated to and from: a request, and the stream of events that answers it.

A dialect reads its own JSON into a `GenerationRequest` (or an `EmbeddingRequest`), hands it to
`smidgen.serving.service.Service`, and writes the events that come back in its own words. Nothing here knows HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Reason = Literal["stop", "length"]
Think = bool | Literal["low", "medium", "high", "max"]


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants called.

    Attributes:
        name: The function's name.
        arguments: Its arguments by name, in the model's order, of the types that the tool's schema wants.
        id: The call's name, by which its result is told apart ("call_" and 8 letters and digits).
        index: Its place among the calls of one answer, from 0.
    """

    name: str
    arguments: Mapping[str, Any]
    id: str = ""
    index: int = 0


@dataclass(frozen=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: "system", "user", "assistant" or "tool".
        content: What was said.
        thinking: What the assistant thought before it.
        images: Encoded images (PNG, JPEG, WebP), in their order.
        tool_calls: What the assistant wanted called.
        tool_name: Of a tool's result the function's name.
        tool_call_id: Of a tool's result the call's id.
    """

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True)
class GenerationRequest:
    """One answer that is wanted.

    Exactly one of `messages`, `prompt` and `tokens` is given.

    Attributes:
        model: The model's name as the client wrote it.
        messages: A conversation, laid out with the model's template; its last turn is answered. An assistant's
            last turn is continued.
        prompt: A text; laid out as one user turn with the model's template unless `raw`.
        tokens: Tokens that are continued as they stand.
        raw: Continue the prompt as it stands.
        suffix: What shall stand behind the continued prompt; for models that can fill in the middle.
        system: Replaces the model's own system message.
        template: Replaces the model's own template, in Go's template language.
        context: Tokens of the exchange before this prompt, as an earlier answer gave them.
        images: Encoded images that belong to the prompt.
        options: Options under Ollama's names, over the model's own, over `defaults`.
        defaults: Options where neither the client nor the model says anything; where the dialect's differ from
            Ollama's.
        format: "json" for any JSON object, or a JSON schema; None for free text.
        grammar: A grammar in llama.cpp's GBNF notation; at most one of it and `format` is given.
        think: Whether, or how hard, the model shall think; None leaves it to the model.
        tools: Functions that the model may call, as {"type": "function", "function": {...}}.
        tool_choice: "auto", "none", "required", or the name of the function that must be called.
        needs_tools: Refuse tools where the model's template has no place for them, as Ollama does, instead of telling
            the model of them in words.
        logprobs: Report each token's log-probability.
        top_logprobs: How many of the likeliest tokens to report at each place.
        logit_bias: Token number to what is added to its score.
        truncate: Drop the oldest turns of a conversation that does not fit the context, instead of refusing it.
        shift: Go on behind the context's end by forgetting its beginning, instead of ending the answer.
        keep_alive: Seconds that the model stays loaded after the answer; None for the server's own setting.
        wants_context: Give the whole exchange's tokens in the `FinalEvent`.
        render_only: Answer with the laid out prompt as one text, and generate nothing.
    """

    model: str
    messages: tuple[Turn, ...] | None = None
    prompt: str | None = None
    tokens: tuple[int, ...] = ()
    raw: bool = False
    suffix: str = ""
    system: str | None = None
    template: str | None = None
    context: tuple[int, ...] = ()
    images: tuple[bytes, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    format: Literal["json"] | Mapping[str, Any] | None = None
    grammar: str | None = None
    think: Think | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str = "auto"
    needs_tools: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    truncate: bool = True
    shift: bool = True
    keep_alive: float | None = None
    wants_context: bool = False
    render_only: bool = False


@dataclass(frozen=True)
class TokenLogprob:
    """One token with its natural log-probability.

    Attributes:
        token: Its text.
        logprob: ln p.
        bytes: Its bytes.
        top: The likeliest tokens at its place, the likeliest first; theirs are empty.
        id: Its number in the vocabulary; -1 where the engine does not say.
    """

    token: str
    logprob: float
    bytes: bytes = b""
    top: tuple[TokenLogprob, ...] = ()
    id: int = -1


@dataclass(frozen=True)
class TextEvent:
    """A piece of the answer: whole characters, and the tokens they came from where those were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class ThinkingEvent:
    """A piece of what the model thinks before it answers."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class ToolCallEvent:
    """A whole call of a function."""

    call: ToolCall


@dataclass(frozen=True)
class FinalEvent:
    """The end of every answer.

    Attributes:
        reason: "stop" where the model or a stop text ended it, "length" where the limit or the context did.
        prompt_tokens: Tokens of the prompt, with those that the engine still remembered.
        generated_tokens: Tokens of the answer, thinking and calls included.
        prompt_seconds: Time to read the prompt.
        generation_seconds: Time to write the answer.
        load_seconds: Time from the request's start until the model was ready for it, queueing included.
        total_seconds: Time from the request's start to its end.
        context: Tokens of the whole exchange, for clients that send them back; empty where they are not kept.
        stop_text: The stop text that ended the answer; empty where none did.
        cached_tokens: Tokens of the prompt that the engine still remembered.
        drafted_tokens: Tokens that were guessed ahead.
        accepted_tokens: Guessed tokens that were right.
    """

    reason: Reason
    prompt_tokens: int = 0
    generated_tokens: int = 0
    prompt_seconds: float = 0.0
    generation_seconds: float = 0.0
    load_seconds: float = 0.0
    total_seconds: float = 0.0
    context: tuple[int, ...] = ()
    stop_text: str = ""
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


Event = TextEvent | ThinkingEvent | ToolCallEvent | FinalEvent
"""An answer is any number of the first three, in any order, and one `FinalEvent`."""


@dataclass(frozen=True)
class EmbeddingRequest:
    """Texts that are to become vectors.

    Attributes:
        model: The model's name as the client wrote it.
        texts: The texts.
        truncate: Cut texts that are too long, instead of refusing them.
        dimensions: Keep this many first values; 0 keeps all.
        normalize: Scale each vector to length 1 (after cutting its values).
        options: Options under Ollama's names.
        keep_alive: Seconds that the model stays loaded; None for the server's own setting.
    """

    model: str
    texts: tuple[str, ...]
    truncate: bool = True
    dimensions: int = 0
    normalize: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive: float | None = None


@dataclass(frozen=True)
class Embeddings:
    """Vectors of texts.

    Attributes:
        vectors: One per text, of equal length.
        prompt_tokens: Tokens of all texts.
        load_seconds: Time until the model was ready.
        total_seconds: Time of the whole request.
        pooled: Whether the model is a decoder whose token states were averaged: it was not trained for embeddings.
    """

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int
    load_seconds: float
    total_seconds: float
    pooled: bool
