"""The requests of OpenAI's responses, and how they become the neutral ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from smidgen.errors import InvalidInput, Unsupported
from smidgen.serving.dialects._ollama_fields import KeepAlive
from smidgen.serving.dialects._openai_fields import Reasoning
from smidgen.serving.dialects._openai_parts import (
    DEFAULTS,
    call_of,
    content_of,
    format_of,
    think_of,
    tool_choice_of,
    with_tool_names,
)
from smidgen.serving.exchange import GenerationRequest, Turn
from smidgen.serving.wire import Body

_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
_LOGPROBS = "message.output_text.logprobs"
_STATEFUL = ("previous_response_id", "conversation", "prompt", "background")


class Tool(Body):
    """A tool that the model may use."""

    type: str = "function"
    name: str = ""
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class Text(Body):
    """What the text must look like."""

    format: dict[str, Any] = Field(default_factory=dict)


class Responses(Body):
    """POST /v1/responses."""

    model: str = Field(min_length=1)
    input: str | list[dict[str, Any]] = ""
    instructions: str = ""
    stream: bool = False
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    text: Text = Text()
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: Any = None
    reasoning: Reasoning = Reasoning()
    include: list[str] = Field(default_factory=list)
    top_logprobs: int = 0
    truncation: Literal["auto", "disabled"] = "disabled"
    metadata: dict[str, Any] = Field(default_factory=dict)
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    background: bool = False
    options: dict[str, Any] = Field(default_factory=dict)
    keep_alive: KeepAlive | None = None

    @property
    def wants_logprobs(self) -> bool:
        """Whether each token's log-probability is asked for."""
        return _LOGPROBS in self.include or self.top_logprobs > 0

    def request(self) -> GenerationRequest:
        """Return it as the service knows it.

        Raises:
            InvalidInput: It cannot be understood.
            Unsupported: It asks for what smidgen does not do.
        """
        for name in _STATEFUL:
            if getattr(self, name):
                raise Unsupported(
                    f"{name} is not supported: this server keeps no responses.",
                    remedy="Send the whole conversation as input.",
                )
        given = {"num_predict": self.max_output_tokens, "temperature": self.temperature, "top_p": self.top_p}
        options = {name: value for name, value in given.items() if value is not None}
        system = (Turn("system", self.instructions),) if self.instructions else ()
        return GenerationRequest(
            self.model,
            messages=(*system, *self._turns()),
            options={**self.options, **options},
            defaults=DEFAULTS,
            format=format_of(self.text.format),
            think=think_of(self.reasoning.effort),
            tools=tuple(_tool(tool) for tool in self.tools),
            tool_choice=tool_choice_of(self.tool_choice),
            logprobs=self.wants_logprobs,
            top_logprobs=self.top_logprobs,
            truncate=self.truncation == "auto",
            keep_alive=self.keep_alive,
        )

    def _turns(self) -> tuple[Turn, ...]:
        if isinstance(self.input, str):
            turns: tuple[Turn, ...] = (Turn("user", self.input),) if self.input else ()
        else:
            turns = turns_of(self.input)
        if not turns:
            raise InvalidInput("invalid input: it is empty")
        return with_tool_names(turns)


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.type != "function":
        raise Unsupported(f"tools of type {tool.type[:50]!r} are not supported, only functions")
    if not tool.name:
        raise InvalidInput("a tool has no name")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def turns_of(items: Sequence[dict[str, Any]]) -> tuple[Turn, ...]:
    """Put items together to turns: what the assistant thought, said and called are one.

    Raises:
        InvalidInput: An item is malformed.
        Unsupported: An item is of a kind that is not taken.
    """
    turns: list[Turn] = []
    for item in items:
        turn = _turn(item)
        last = turns[-1] if turns else None
        if last is not None and last.role == turn.role == "assistant" and not (turn.content and last.content):
            calls = tuple(replace(call, index=len(last.tool_calls)) for call in turn.tool_calls)
            turns[-1] = replace(
                last,
                content=last.content or turn.content,
                thinking=last.thinking or turn.thinking,
                tool_calls=(*last.tool_calls, *calls),
            )
        else:
            turns.append(turn)
    return tuple(turns)


def _turn(item: dict[str, Any]) -> Turn:
    kind = item.get("type", "message")
    if kind == "message":
        role = _ROLES.get(str(item.get("role")))
        if role is None:
            raise InvalidInput(f"invalid role {str(item.get('role'))[:50]!r}")
        text, images = content_of(item.get("content"))
        return Turn(role, text, images=images)
    if kind == "function_call":
        name, arguments, number = (str(item.get(key) or "") for key in ("name", "arguments", "call_id"))
        return Turn("assistant", tool_calls=(call_of(name, arguments, number, 0),))
    if kind == "function_call_output":
        text, images = content_of(item.get("output"))
        return Turn("tool", text, images=images, tool_call_id=str(item.get("call_id") or ""))
    if kind == "reasoning":
        text, _ = content_of(item.get("content") or item.get("summary"))
        return Turn("assistant", thinking=text)
    raise Unsupported(f"input of type {str(kind)[:50]!r} is not supported")
