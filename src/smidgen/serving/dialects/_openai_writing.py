"""OpenAI's answers: whole and in chunks, log-probabilities in its two forms, usage, server-sent events."""

from __future__ import annotations

import codecs
import math
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smidgen.serving.exchange import Event, FinalEvent, TextEvent, ThinkingEvent, TokenLogprob, ToolCall
from smidgen.serving.wire import dumps

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError
    from smidgen.serving.service import Answer

FINGERPRINT = "fp_ollama"
DONE = "data: [DONE]\n\n"
_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


def new_id(prefix: str) -> str:
    """Return a new name for an answer or a part of one."""
    return f"{prefix}{secrets.token_hex(12)}"


def error_body(error: SmidgenError, status: int) -> dict[str, Any]:
    """Return the JSON body that says what went wrong."""
    kind = _TYPES.get(status, "api_error")
    return {"error": {"message": str(error), "type": kind, "param": None, "code": None}}


def event_text(value: Any) -> str:
    """Write one server-sent event."""
    return f"data: {dumps(value)}\n\n"


@dataclass
class Usage:
    """Tokens that were read and written.

    Attributes:
        prompt: Of the prompts, each counted once.
        completion: Of all answers.
        cached: Of the prompts, those that the engine still remembered.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def add(self, final: FinalEvent, *, same_prompt: bool = False) -> None:
        """Count one more answer; of several to the same prompt, the prompt counts once."""
        self.completion += final.generated_tokens
        if not same_prompt:
            self.prompt += final.prompt_tokens
            self.cached += final.cached_tokens

    def fields(self) -> dict[str, Any]:
        """Return it as OpenAI writes it."""
        counted: dict[str, Any] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }
        return counted | ({"prompt_tokens_details": {"cached_tokens": self.cached}} if self.cached else {})


def call_fields(call: ToolCall) -> dict[str, Any]:
    """Return a call as OpenAI writes it."""
    function = {"name": call.name, "arguments": dumps(dict(call.arguments))}
    return {"id": call.id, "index": call.index, "type": "function", "function": function}


def finish_reason(final: FinalEvent, calls: bool) -> str:
    """Say why an answer ended."""
    return "tool_calls" if calls and final.reason == "stop" else final.reason


def token_fields(token: TokenLogprob) -> dict[str, Any]:
    """Return a token as OpenAI's chat route writes it."""
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes)}


def chat_logprobs(tokens: Iterable[TokenLogprob]) -> dict[str, Any] | None:
    """Return log-probabilities as OpenAI's chat route writes them."""
    content = [{**token_fields(token), "top_logprobs": [token_fields(each) for each in token.top]} for token in tokens]
    return {"content": content, "refusal": None} if content else None


def chat_message(answer: Answer) -> dict[str, Any]:
    """Return a whole answer as a message."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.thinking:
        message["reasoning"] = answer.thinking
    if answer.calls:
        message |= {
            "content": answer.text or None,
            "tool_calls": [call_fields(call) for call in answer.calls],
        }
    return message


def chat_delta(event: Event) -> dict[str, Any]:
    """Return what an event adds to the message."""
    if isinstance(event, TextEvent):
        return {"content": event.text}
    if isinstance(event, ThinkingEvent):
        return {"content": "", "reasoning": event.text}
    return {} if isinstance(event, FinalEvent) else {"tool_calls": [call_fields(event.call)]}


@dataclass
class Chunks:
    """Writes the chunks of one stream.

    Attributes:
        kind: The chunks' "object".
        model: The model's name as the client wrote it.
        number: The stream's name.
        with_usage: Whether the client wants to know the usage.
        created: When it began, in seconds since 1970.
    """

    kind: str
    model: str
    number: str
    with_usage: bool
    created: int = field(default_factory=lambda: int(time.time()))

    def chunk(self, choice: Mapping[str, Any]) -> str:
        """Write a chunk with one choice."""
        return event_text(self._head() | {"choices": [choice]} | ({"usage": None} if self.with_usage else {}))

    def end(self, usage: Usage) -> str:
        """Write what ends the stream."""
        if not self.with_usage:
            return DONE
        return event_text(self._head() | {"choices": [], "usage": usage.fields()}) + DONE

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.number,
            "object": self.kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


def whole(kind: str, model: str, number: str, choices: Sequence[Mapping[str, Any]], usage: Usage) -> dict[str, Any]:
    """Return a whole answer."""
    return {
        "id": number,
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": FINGERPRINT,
        "choices": list(choices),
        "usage": usage.fields(),
    }


class Offsets:
    """Writes log-probabilities as the completion route has them, and counts where in the text each token begins."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._characters = 0

    def fields(self, tokens: Sequence[TokenLogprob], top: int) -> dict[str, Any] | None:
        """Return the tokens that come next; None where there are none.

        Args:
            tokens: The tokens, NaN where nothing stands before one that it could be foretold from.
            top: How many of the likeliest to show at each place; the token itself is always among them.
        """
        if not tokens:
            return None
        known = [None if math.isnan(token.logprob) else token for token in tokens]
        return {
            "tokens": [spelled(token) for token in tokens],
            "token_logprobs": [token and token.logprob for token in known],
            "top_logprobs": [token and _likeliest(token, top) for token in known] if top else None,
            "text_offset": [self._next(token) for token in tokens],
        }

    def _next(self, token: TokenLogprob) -> int:
        begin = self._characters
        self._characters += len(self._decoder.decode(token.bytes or token.token.encode()))
        return begin


def _likeliest(token: TokenLogprob, top: int) -> dict[str, float]:
    found = {spelled(each): each.logprob for each in token.top[:top]}
    return {spelled(token): token.logprob} | found if spelled(token) not in found else found


def spelled(token: TokenLogprob) -> str:
    r"""Return a token's text, or its bytes where they are no whole characters.

    Example:
        >>> spelled(TokenLogprob("\ufffd", -1.0, b"\xe2\x80")), spelled(TokenLogprob(" a", -1.0, b" a"))
        ('bytes:\\xe2\\x80', ' a')
    """
    try:
        return token.bytes.decode() if token.bytes else token.token
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)
