"""Anthropic's messages: their content blocks, and the events that tell how each comes to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from smidgen.serving.dialects._openai_writing import new_id
from smidgen.serving.exchange import Event, FinalEvent, TextEvent, ThinkingEvent, ToolCall, ToolCallEvent
from smidgen.serving.wire import dumps

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError

Fields = dict[str, Any]
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
}


def error_body(error: SmidgenError, status: int) -> Fields:
    """Return the JSON body that says what went wrong."""
    return {"type": "error", "error": {"type": _TYPES.get(status, "api_error"), "message": str(error)}}


class MessageWriter:
    """Turns an answer's events into those of a message; afterwards it holds the whole message.

    Args:
        model: The model's name as the client wrote it.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._number = new_id("msg_")
        self._content: list[Fields] = []
        self._is_open = False
        self._final: FinalEvent | None = None

    def begin(self) -> Iterator[Fields]:
        """Give what stands before everything."""
        yield {"type": "message_start", "message": self.message()}

    def take(self, event: Event) -> Iterator[Fields]:
        """Give what an event becomes."""
        if isinstance(event, ThinkingEvent):
            yield from self._turn_to({"type": "thinking", "thinking": "", "signature": ""})
            yield from self._add("thinking", event.text)
        elif isinstance(event, TextEvent):
            yield from self._turn_to({"type": "text", "text": ""})
            yield from self._add("text", event.text)
        elif isinstance(event, ToolCallEvent):
            yield from self._call(event.call)
        else:
            yield from self._close()
            self._final = event
            yield {"type": "message_delta", "delta": self._ending(), "usage": self._usage()}
            yield {"type": "message_stop"}

    def message(self) -> Fields:
        """Return the message as it is now."""
        return {
            "id": self._number,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": list(self._content),
            **self._ending(),
            "usage": self._usage(),
        }

    def _turn_to(self, block: Fields) -> Iterator[Fields]:
        """Begin a block, unless one of its kind is open already."""
        if self._is_open and self._content[-1]["type"] == block["type"]:
            return
        yield from self._close()
        yield self._of_block("content_block_start", len(self._content), content_block=dict(block))
        self._content.append(block)
        self._is_open = True

    def _add(self, field: str, text: str) -> Iterator[Fields]:
        self._content[-1][field] += text
        yield self._delta({"type": f"{field}_delta", field: text})

    def _call(self, call: ToolCall) -> Iterator[Fields]:
        yield from self._close()
        head = {"type": "tool_use", "id": "toolu_" + call.id.removeprefix("call_"), "name": call.name}
        yield self._of_block("content_block_start", len(self._content), content_block=head | {"input": {}})
        self._content.append(head | {"input": dict(call.arguments)})
        self._is_open = True
        yield self._delta({"type": "input_json_delta", "partial_json": dumps(dict(call.arguments))})
        yield from self._close()

    def _close(self) -> Iterator[Fields]:
        if self._is_open:
            self._is_open = False
            yield self._of_block("content_block_stop", len(self._content) - 1)

    def _delta(self, delta: Fields) -> Fields:
        return self._of_block("content_block_delta", len(self._content) - 1, delta=delta)

    @staticmethod
    def _of_block(kind: str, index: int, **fields: Any) -> Fields:
        return {"type": kind, "index": index, **fields}

    def _ending(self) -> Fields:
        final = self._final
        if final is None:
            return {"stop_reason": None, "stop_sequence": None}
        calls = any(block["type"] == "tool_use" for block in self._content)
        if final.reason == "length":
            reason = "max_tokens"
        elif calls:
            reason = "tool_use"
        else:
            reason = "stop_sequence" if final.stop_text else "end_turn"
        return {"stop_reason": reason, "stop_sequence": final.stop_text or None}

    def _usage(self) -> Fields:
        final = self._final or FinalEvent("stop")
        return {
            "input_tokens": final.prompt_tokens - final.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": final.cached_tokens,
            "output_tokens": final.generated_tokens,
        }
