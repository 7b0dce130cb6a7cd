"""OpenAI's responses: their items, and the events that tell how each comes to be."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from smidgen.serving.dialects._openai_writing import new_id, token_fields
from smidgen.serving.exchange import Event, FinalEvent, TextEvent, ThinkingEvent, TokenLogprob, ToolCall, ToolCallEvent
from smidgen.serving.wire import dumps

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError
    from smidgen.serving.dialects._responses_fields import Responses

Fields = dict[str, Any]


class ResponseWriter:
    """Turns an answer's events into those of a response; afterwards it holds the whole response.

    Args:
        asked: What was asked for.
    """

    def __init__(self, asked: Responses) -> None:
        self._asked = asked
        self._number = new_id("resp_")
        self._created = int(time.time())
        self._sequence = 0
        self._output: list[Fields] = []
        self._open: Fields | None = None
        self._final: FinalEvent | None = None

    def begin(self) -> Iterator[Fields]:
        """Give what stands before everything."""
        yield self._event("response.created", response=self.response("in_progress"))
        yield self._event("response.in_progress", response=self.response("in_progress"))

    def take(self, event: Event) -> Iterator[Fields]:
        """Give what an event becomes."""
        if isinstance(event, ThinkingEvent):
            yield from self._turn_to("reasoning")
            part = self._part("summary")
            part["text"] += event.text
            yield self._of_part("response.reasoning_summary_text.delta", delta=event.text)
        elif isinstance(event, TextEvent):
            yield from self._turn_to("message")
            part = self._part("content")
            part["text"] += event.text
            tokens = _tokens(event.logprobs)
            part["logprobs"] = [*part["logprobs"], *tokens]
            yield self._of_part("response.output_text.delta", delta=event.text, logprobs=tokens)
        elif isinstance(event, ToolCallEvent):
            yield from self._close()
            yield from self._call(event.call)
        else:
            yield from self._end(event)

    def fail(self, error: SmidgenError) -> Fields:
        """Give what says that the answer broke off."""
        failed = self.response("failed") | {"error": {"code": "server_error", "message": str(error)}}
        return self._event("response.failed", response=failed)

    def response(self, status: str | None = None) -> Fields:
        """Return the response as it is now."""
        asked = self._asked
        is_short = self._final is not None and self._final.reason == "length"
        reached = status or ("incomplete" if is_short else "completed")
        return {
            "id": self._number,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if reached == "completed" else None,
            "status": reached,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if reached == "incomplete" else None,
            "instructions": asked.instructions or None,
            "max_output_tokens": asked.max_output_tokens,
            "model": asked.model,
            "output": list(self._output),
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": asked.reasoning.effort or None, "summary": None},
            "store": False,
            "temperature": 1.0 if asked.temperature is None else asked.temperature,
            "text": {"format": asked.text.format or {"type": "text"}},
            "tool_choice": asked.tool_choice or "auto",
            "tools": [tool.model_dump() | {"strict": None} for tool in asked.tools],
            "top_logprobs": asked.top_logprobs,
            "top_p": 1.0 if asked.top_p is None else asked.top_p,
            "truncation": asked.truncation,
            "usage": _usage(self._final) if self._final is not None else None,
            "metadata": asked.metadata,
        }

    def _event(self, kind: str, **fields: Any) -> Fields:
        self._sequence += 1
        return {"type": kind, "sequence_number": self._sequence - 1, **fields}

    def _of_item(self, kind: str, **fields: Any) -> Fields:
        assert self._open is not None
        return self._event(kind, item_id=self._open["id"], output_index=len(self._output), **fields)

    def _of_part(self, kind: str, **fields: Any) -> Fields:
        assert self._open is not None
        return self._of_item(
            kind, **{"summary_index" if self._open["type"] == "reasoning" else "content_index": 0}, **fields
        )

    def _part(self, place: str) -> Fields:
        assert self._open is not None
        part: Fields = self._open[place][0]
        return part

    def _turn_to(self, kind: str) -> Iterator[Fields]:
        """Begin an item of a kind, unless it is open already."""
        if self._open is not None and self._open["type"] == kind:
            return
        yield from self._close()
        if kind == "reasoning":
            empty: Fields = {"id": new_id("rs_"), "type": kind, "status": "in_progress", "summary": []}
            place, part = "summary", Fields(type="summary_text", text="")
            added = "response.reasoning_summary_part.added"
        else:
            empty = {"id": new_id("msg_"), "type": kind, "status": "in_progress", "role": "assistant", "content": []}
            place, part = "content", Fields(type="output_text", text="", annotations=[], logprobs=[])
            added = "response.content_part.added"
        self._open = empty | {place: [part]}
        yield self._event("response.output_item.added", output_index=len(self._output), item=empty)
        yield self._of_part(added, part=dict(part))

    def _close(self, status: str = "completed") -> Iterator[Fields]:
        """End the item that is open."""
        item = self._open
        if item is None:
            return
        if item["type"] == "reasoning":
            part = self._part("summary")
            yield self._of_part("response.reasoning_summary_text.done", text=part["text"])
            yield self._of_part("response.reasoning_summary_part.done", part=part)
        else:
            part = self._part("content")
            yield self._of_part("response.output_text.done", text=part["text"], logprobs=part["logprobs"])
            yield self._of_part("response.content_part.done", part=part)
        item["status"] = status
        yield self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._open = None

    def _call(self, call: ToolCall) -> Iterator[Fields]:
        arguments = dumps(dict(call.arguments))
        item = {
            "id": new_id("fc_"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
        }
        self._open = item
        yield self._event("response.output_item.added", output_index=len(self._output), item=dict(item))
        yield self._of_item("response.function_call_arguments.delta", delta=arguments)
        yield self._of_item("response.function_call_arguments.done", name=call.name, arguments=arguments)
        item |= {"status": "completed", "arguments": arguments}
        yield self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._open = None

    def _end(self, final: FinalEvent) -> Iterator[Fields]:
        yield from self._close("incomplete" if final.reason == "length" else "completed")
        self._final = final
        response = self.response()
        yield self._event(f"response.{response['status']}", response=response)


def _tokens(tokens: Sequence[TokenLogprob]) -> list[Fields]:
    return [{**token_fields(token), "top_logprobs": [token_fields(each) for each in token.top]} for token in tokens]


def _usage(final: FinalEvent) -> Fields:
    return {
        "input_tokens": final.prompt_tokens,
        "input_tokens_details": {"cached_tokens": final.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": final.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": final.prompt_tokens + final.generated_tokens,
    }
