"""The requests of Ollama's API, and how they become the neutral ones."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from smidgen.errors import InvalidInput
from smidgen.serving.dialects._openai_parts import tool_choice_of
from smidgen.serving.durations import seconds
from smidgen.serving.exchange import GenerationRequest, Think, ToolCall, Turn
from smidgen.serving.wire import Body

_LEVELS = ("low", "medium", "high", "max")


def _think(value: Any) -> Any:
    if isinstance(value, bool) or value in _LEVELS:
        return value
    raise ValueError('think must be a boolean or one of "low", "medium", "high", "max"')


def _keep_alive(value: Any) -> float:
    try:
        return seconds(value)
    except InvalidInput as error:
        raise ValueError(error.message) from None


def _role(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _image(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value.partition(",")[2] if value.startswith("data:") else value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("an image is not base64") from None


KeepAlive = Annotated[float, BeforeValidator(_keep_alive, json_schema_input_type=float | str)]
Image = Annotated[bytes, BeforeValidator(_image, json_schema_input_type=str)]
ThinkField = Annotated[Think, BeforeValidator(_think)]


class Function(Body):
    """The function of a tool call."""

    name: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    index: int = 0


class Call(Body):
    """A call of a function that the assistant made."""

    id: str = ""
    function: Function = Function()


class ToolFunction(Body):
    """The function of a tool."""

    name: str = Field(min_length=1, max_length=256)
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class Tool(Body):
    """A function that the model may call."""

    type: str = "function"
    function: ToolFunction


class Message(Body):
    """One turn of a conversation."""

    role: Annotated[str, BeforeValidator(_role)] = "user"
    content: str = ""
    thinking: str = ""
    images: list[Image] = Field(default_factory=list)
    tool_calls: list[Call] = Field(default_factory=list)
    tool_name: str = ""
    tool_call_id: str = ""

    def turn(self) -> Turn:
        """Return it as the service knows it."""
        calls = tuple(
            ToolCall(call.function.name, call.function.arguments, call.id, call.function.index)
            for call in self.tool_calls
        )
        return Turn(
            self.role, self.content, self.thinking, tuple(self.images), calls, self.tool_name, self.tool_call_id
        )


class ModelBody(Body):
    """A request that names a model and may say how long it stays loaded."""

    model: str = ""
    keep_alive: KeepAlive | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class _Generation(ModelBody):
    stream: bool = True
    format: Any = None
    think: ThinkField | None = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    render_only: bool = Field(default=False, alias="_debug_render_only")

    def _shared(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "options": self.options,
            "format": None if self.format in ("", None) else self.format,
            "think": self.think,
            "truncate": self.truncate,
            "shift": self.shift,
            "logprobs": self.logprobs or self.top_logprobs > 0,
            "top_logprobs": self.top_logprobs,
            "keep_alive": self.keep_alive,
            "render_only": self.render_only,
        }


class Generate(_Generation):
    """POST /api/generate."""

    prompt: str = ""
    suffix: str = ""
    system: str | None = None
    template: str = ""
    context: list[int] = Field(default_factory=list)
    raw: bool = False
    images: list[Image] = Field(default_factory=list)

    def request(self) -> GenerationRequest:
        """Return it as the service knows it.

        Raises:
            InvalidInput: It contradicts itself.
        """
        if self.raw and (self.template or self.system or self.context):
            raise InvalidInput("raw mode does not support template, system, or context")
        return GenerationRequest(
            **self._shared(),
            prompt=self.prompt,
            raw=self.raw,
            suffix=self.suffix,
            system=self.system or None,
            template=self.template or None,
            context=tuple(self.context),
            images=tuple(self.images),
            wants_context=not self.raw,
        )


class Chat(_Generation):
    """POST /api/chat."""

    messages: list[Message] = Field(default_factory=list)
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: Any = None

    def request(self) -> GenerationRequest:
        """Return it as the service knows it.

        Raises:
            InvalidInput: The choice of a tool is none.
        """
        return GenerationRequest(
            **self._shared(),
            messages=tuple(message.turn() for message in self.messages),
            tools=tuple(tool.model_dump() for tool in self.tools),
            tool_choice=tool_choice_of(self.tool_choice),
            needs_tools=self.tool_choice is None,
        )


class Embed(ModelBody):
    """POST /api/embed."""

    input: Any = None
    truncate: bool = True
    dimensions: int = Field(default=0, ge=0)

    def texts(self) -> tuple[str, ...]:
        """Return the texts.

        Raises:
            InvalidInput: The input is neither a text nor a list of texts.
        """
        given = self.input if isinstance(self.input, list) else [self.input] if self.input else []
        if not all(isinstance(text, str) for text in given):
            raise InvalidInput("invalid input type")
        return tuple(given)


class LegacyEmbeddings(ModelBody):
    """POST /api/embeddings."""

    prompt: str = ""


class Named(Body):
    """A request about one model, which older clients name "name"."""

    model: str = ""
    name: str = ""

    @property
    def wanted(self) -> str:
        """The model's name.

        Raises:
            InvalidInput: None is given.
        """
        if not (self.model or self.name):
            raise InvalidInput("model is required")
        return self.model or self.name


class Show(Named):
    """POST /api/show."""

    verbose: bool = False
    system: str = ""
    template: str = ""
    options: dict[str, Any] = Field(default_factory=dict)


class Copy(Body):
    """POST /api/copy."""

    source: str = ""
    destination: str = ""
