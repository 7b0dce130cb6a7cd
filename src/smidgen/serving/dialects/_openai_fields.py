"""The requests of OpenAI's chat, completion and embedding routes, and how they become the neutral ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from smidgen.errors import InvalidInput, Unsupported
from smidgen.serving.dialects._ollama_fields import KeepAlive
from smidgen.serving.dialects._openai_parts import (
    DEFAULTS,
    biases_of,
    call_of,
    content_of,
    format_of,
    stops_of,
    think_of,
    tool_choice_of,
    with_tool_names,
)
from smidgen.serving.exchange import EmbeddingRequest, GenerationRequest, Turn
from smidgen.serving.wire import Body

_ROLES = {"developer": "system", "function": "tool"}
_SHARED = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")


class StreamOptions(Body):
    """What a stream shall hold beside the answer."""

    include_usage: bool = False


class Function(Body):
    """The function of a call, its arguments as text."""

    name: str = ""
    arguments: str = ""


class Call(Body):
    """A call of a function that the assistant made."""

    id: str = ""
    function: Function = Function()


class Message(Body):
    """One turn of a conversation."""

    role: str
    content: Any = None
    reasoning: str = ""
    reasoning_content: str = ""
    name: str = ""
    tool_calls: list[Call] = Field(default_factory=list)
    tool_call_id: str = ""

    def turn(self) -> Turn:
        """Return it as the service knows it.

        Raises:
            InvalidInput: Its role or its content is none.
            Unsupported: Its content has parts that are not taken.
        """
        role = _ROLES.get(self.role.lower(), self.role.lower())
        if role not in ("system", "user", "assistant", "tool"):
            raise InvalidInput(f"invalid role {self.role[:50]!r}")
        text, images = content_of(self.content)
        calls = tuple(
            call_of(call.function.name, call.function.arguments, call.id, index)
            for index, call in enumerate(self.tool_calls)
        )
        return Turn(
            role,
            text,
            self.reasoning or self.reasoning_content,
            images,
            calls,
            tool_name=self.name if role == "tool" else "",
            tool_call_id=self.tool_call_id,
        )


class ToolFunction(Body):
    """The function of a tool."""

    name: str = Field(min_length=1, max_length=256)
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class Tool(Body):
    """A function that the model may call."""

    type: Literal["function"] = "function"
    function: ToolFunction


class Reasoning(Body):
    """How hard the model shall think."""

    effort: str = ""


class _Writing(Body):
    """What both routes that write have in common."""

    model: str = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: int | None = Field(default=None, ge=0)
    n: int = Field(default=1, ge=1)
    stop: str | list[str] = Field(default_factory=list)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] = Field(default_factory=dict)
    grammar: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    keep_alive: KeepAlive | None = None

    def _shared(self, most_tokens: int | None) -> dict[str, Any]:
        options: dict[str, Any] = {name: value for name in _SHARED if (value := getattr(self, name)) is not None}
        if most_tokens is not None:
            options["num_predict"] = most_tokens
        if stops := stops_of(self.stop):
            options["stop"] = stops
        return {
            "model": self.model,
            "options": {**self.options, **options},
            "defaults": DEFAULTS,
            "grammar": self.grammar,
            "logit_bias": biases_of(self.logit_bias),
            "keep_alive": self.keep_alive,
        }


class Chat(_Writing):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    response_format: dict[str, Any] = Field(default_factory=dict)
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: Any = None
    reasoning: Reasoning = Reasoning()
    reasoning_effort: str = ""
    logprobs: bool = False
    top_logprobs: int = 0

    def request(self) -> GenerationRequest:
        """Return it as the service knows it.

        Raises:
            InvalidInput: It cannot be understood.
            Unsupported: It asks for what smidgen does not do.
        """
        return GenerationRequest(
            **self._shared(self.max_completion_tokens or self.max_tokens),
            messages=with_tool_names(message.turn() for message in self.messages),
            format=format_of(self.response_format),
            think=think_of(self.reasoning_effort or self.reasoning.effort),
            tools=tuple(tool.model_dump() for tool in self.tools),
            tool_choice=tool_choice_of(self.tool_choice),
            logprobs=self.logprobs or self.top_logprobs > 0,
            top_logprobs=self.top_logprobs,
        )


Prompt = str | tuple[int, ...]
"""A text, or tokens."""


class Completion(_Writing):
    """POST /v1/completions."""

    prompt: Any = ""
    suffix: str = ""
    echo: bool = False
    best_of: int | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: dict[str, Any] = Field(default_factory=dict)

    def prompts(self) -> list[Prompt]:
        """Return every prompt.

        Raises:
            InvalidInput: The prompt is neither a text, nor tokens, nor a list of those.
        """
        given = self.prompt
        if isinstance(given, str) or _are_tokens(given):
            given = [given]
        if not isinstance(given, list) or not given:
            raise InvalidInput("invalid prompt: expected a text, a list of tokens, or a list of those")
        if not all(isinstance(each, str) or _are_tokens(each) for each in given):
            raise InvalidInput("invalid prompt: expected a text, a list of tokens, or a list of those")
        return [each if isinstance(each, str) else tuple(each) for each in given]

    def requests(self) -> list[GenerationRequest]:
        """Return one request for each prompt.

        Raises:
            InvalidInput: It cannot be understood.
            Unsupported: It asks for what smidgen does not do.
        """
        if (self.best_of or 1) > self.n:
            raise Unsupported(
                f"best_of {self.best_of} is not supported: {self.n} answers are made, and all of them are given.",
                remedy="Leave best_of out; ask for more answers with n.",
            )
        shared = GenerationRequest(
            **self._shared(self.max_tokens),
            prompt="",
            raw=True,
            suffix=self.suffix,
            format=format_of(self.response_format),
            logprobs=self.logprobs is not None,
            top_logprobs=self.logprobs or 0,
        )
        return [
            replace(shared, prompt=each) if isinstance(each, str) else replace(shared, tokens=each)
            for each in self.prompts()
        ]


def _are_tokens(given: object) -> bool:
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 1 << 31 for token in given)
    )


def variants(request: GenerationRequest, count: int) -> list[GenerationRequest]:
    """Return a request as often as answers are wanted, each with a seed of its own where one is given."""
    seed = request.options.get("seed")
    if not isinstance(seed, int) or seed < 0:
        return [request] * count
    options: Mapping[str, Any] = request.options
    return [replace(request, options={**options, "seed": seed + number}) for number in range(count)]


class Embed(Body):
    """POST /v1/embeddings."""

    model: str = Field(min_length=1)
    input: Any = None
    dimensions: int = Field(default=0, ge=0)
    encoding_format: Literal["float", "base64"] = "float"
    options: dict[str, Any] = Field(default_factory=dict)
    keep_alive: KeepAlive | None = None

    def request(self) -> EmbeddingRequest:
        """Return it as the service knows it.

        Raises:
            InvalidInput: The input is neither a text nor a list of texts.
            Unsupported: The input is tokens.
        """
        given = [self.input] if isinstance(self.input, str) else self.input
        if not isinstance(given, list) or not given:
            raise InvalidInput("invalid input: expected a text or a list of texts")
        if any(isinstance(each, int | list) for each in given):
            raise Unsupported(
                "Tokens are not taken for embeddings: they are most often those of another model.",
                remedy="Send texts; LangChain does with check_embedding_ctx_length=False.",
            )
        if not all(isinstance(each, str) for each in given):
            raise InvalidInput("invalid input: expected a text or a list of texts")
        return EmbeddingRequest(
            self.model, tuple(given), dimensions=self.dimensions, options=self.options, keep_alive=self.keep_alive
        )
