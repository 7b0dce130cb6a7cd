"""The requests of Anthropic's Messages, and how they become the neutral ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from smidgen.errors import InvalidInput, Unsupported
from smidgen.serving.dialects._ollama_fields import KeepAlive
from smidgen.serving.dialects._openai_parts import DEFAULTS, decoded, think_of, with_tool_names
from smidgen.serving.exchange import GenerationRequest, Think, ToolCall, Turn
from smidgen.serving.wire import Body

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Message(Body):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]

    def turns(self) -> list[Turn]:
        """Return it as the service knows it: a tool's result is a turn of its own.

        Raises:
            InvalidInput: A block is malformed.
            Unsupported: A block is of a kind that is not taken.
        """
        if isinstance(self.content, str):
            return [Turn(self.role, self.content)]
        blocks = [_Block(block) for block in self.content]
        results = [block.result() for block in blocks if block.kind == "tool_result"]
        others = [block for block in blocks if block.kind != "tool_result"]
        if results and not others:
            return results
        calls = [block for block in others if block.kind == "tool_use"]
        turn = Turn(
            self.role,
            "".join(block.text() for block in others),
            "".join(block.thinking() for block in others),
            tuple(block.image() for block in others if block.kind == "image"),
            tuple(block.call(index) for index, block in enumerate(calls)),
        )
        return [*results, turn]


class _Block:
    """One part of a message."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.kind = str(given.get("type"))
        known = ("text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking")
        if self.kind not in known:
            raise Unsupported(f"content blocks of type {self.kind[:50]!r} are not supported")

    def text(self) -> str:
        if self.kind == "document":
            source = self._source()
            if source.get("type") != "text":
                raise Unsupported("documents are taken as plain text only")
            return f"{source.get('data', '')}\n\n"
        return self._string("text") if self.kind == "text" else ""

    def thinking(self) -> str:
        return self._string("thinking") if self.kind == "thinking" else ""

    def image(self) -> bytes:
        source = self._source()
        if source.get("type") != "base64":
            raise Unsupported("images are taken as base64 only, not fetched from elsewhere")
        return decoded(str(source.get("data", "")))

    def call(self, index: int) -> ToolCall:
        values = self.given.get("input", {})
        if not isinstance(values, dict):
            raise InvalidInput("the input of a tool_use block is not an object")
        return ToolCall(self._string("name"), values, self._string("id"), index)

    def result(self) -> Turn:
        content = self.given.get("content", "")
        blocks = [] if isinstance(content, str) else [_Block(part) for part in content if isinstance(part, dict)]
        text = content if isinstance(content, str) else "".join(block.text() for block in blocks)
        images = tuple(block.image() for block in blocks if block.kind == "image")
        return Turn("tool", text, images=images, tool_call_id=self._string("tool_use_id"))

    def _source(self) -> Mapping[str, Any]:
        source = self.given.get("source")
        return source if isinstance(source, Mapping) else {}

    def _string(self, name: str) -> str:
        value = self.given.get(name)
        if not isinstance(value, str):
            raise InvalidInput(f"a block of type {self.kind!r} has no {name!r}")
        return value


class Tool(Body):
    """A tool that the model may use."""

    type: str = "custom"
    name: str = Field(min_length=1, max_length=256)
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=dict)


class ToolChoice(Body):
    """Which tool the model must use."""

    type: Literal["auto", "any", "tool", "none"] = "auto"
    name: str = ""


class Thinking(Body):
    """Whether the model shall think."""

    type: Literal["enabled", "disabled", "adaptive"] = "disabled"


class OutputConfig(Body):
    """What the answer must look like, and how hard the model shall think."""

    effort: str = ""
    format: dict[str, Any] = Field(default_factory=dict)


class Count(Body):
    """POST /v1/messages/count_tokens."""

    model: str = Field(min_length=1)
    messages: list[Message] = Field(min_length=1)
    system: str | list[dict[str, Any]] = ""
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: ToolChoice = ToolChoice()
    thinking: Thinking = Thinking()
    output_config: OutputConfig = OutputConfig()
    keep_alive: KeepAlive | None = None

    def request(self) -> GenerationRequest:
        """Return it as the service knows it.

        Raises:
            InvalidInput: It cannot be understood.
            Unsupported: It asks for what smidgen does not do.
        """
        system = (
            self.system if isinstance(self.system, str) else "\n\n".join(_Block(part).text() for part in self.system)
        )
        turns = [turn for message in self.messages for turn in message.turns()]
        return GenerationRequest(
            self.model,
            messages=with_tool_names([*([Turn("system", system)] if system else []), *turns]),
            defaults=DEFAULTS,
            format=self._format(),
            think=self._think(),
            tools=tuple(_tool(tool) for tool in self.tools),
            tool_choice=self.tool_choice.name if self.tool_choice.type == "tool" else _CHOICES[self.tool_choice.type],
            keep_alive=self.keep_alive,
            truncate=False,
        )

    def _format(self) -> Mapping[str, Any] | None:
        given = self.output_config.format
        if not given:
            return None
        schema = given.get("schema")
        if given.get("type") != "json_schema" or not isinstance(schema, Mapping):
            raise InvalidInput("invalid output format: expected json_schema with a schema")
        return schema

    def _think(self) -> Think | None:
        if self.thinking.type == "disabled":
            return False
        effort = think_of(self.output_config.effort)
        return effort if effort is not None or self.thinking.type == "adaptive" else True


class Messages(Count):
    """POST /v1/messages."""

    max_tokens: int = Field(ge=1)
    stream: bool = False
    stop_sequences: list[str] = Field(default_factory=list)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    def request(self) -> GenerationRequest:
        """Return it as the service knows it."""
        from dataclasses import replace

        given = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        options = {name: value for name, value in given.items() if value is not None}
        stops = {"stop": self.stop_sequences} if self.stop_sequences else {}
        return replace(super().request(), options={**self.options, **options, **stops, "num_predict": self.max_tokens})


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.type != "custom":
        raise Unsupported(f"tools of type {tool.type[:50]!r} are not supported, only your own")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": function}
