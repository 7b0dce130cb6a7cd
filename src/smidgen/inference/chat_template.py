"""Laying out conversations with the Jinja templates that models bring, as transformers and llama.cpp do."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from jinja2 import Template

MAX_TEMPLATE = 1 << 18
"""Characters of the longest template that is read."""


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    marks: Mapping[str, str] | None = None,
    variables: Mapping[str, Any] | None = None,
    go_on: bool = False,
) -> str:
    """Lay a conversation out as the text that the model reads.

    A template that refuses system messages gets them at the beginning of the first user message.

    Args:
        template: The model's chat template.
        messages: The turns, each with "role" and "content", and what else the template knows of.
        tools: Functions that the model may call; named to the template only where there are any.
        marks: "bos_token" and "eos_token".
        variables: Other names that the template knows, such as "enable_thinking".
        go_on: Let the text end inside the last turn, so that the model continues it.

    Raises:
        InvalidInput: The template is broken, or refuses the conversation.

    Example:
        >>> render("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]"
        ...        "{% endif %}", [{"role": "user", "content": "Hi"}])
        '[user]Hi[a]'
    """
    from jinja2 import TemplateError

    values = {"bos_token": "", "eos_token": "", **(marks or {}), **(variables or {})}
    values |= {"tools": list(tools) or None, "add_generation_prompt": not go_on}
    compiled = _compiled(template)
    turns = [dict(message) for message in messages]
    for attempt in (turns, _without_system(turns)):
        try:
            text = compiled.render(messages=attempt, **values)
            break
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            fault = error
    else:
        raise InvalidInput(f"the model's chat template refuses this conversation: {fault}")
    return opened(text, str(turns[-1].get("content") or "")) if go_on and turns else text


@lru_cache(maxsize=256)
def reads(template: str, name: str) -> bool:
    """Say whether a template looks at a variable.

    Example:
        >>> reads("{% if tools %}x{% endif %}", "tools"), reads("tools", "tools")
        (True, False)
    """
    from jinja2 import TemplateError, meta

    try:
        environment = _environment()
        return name in meta.find_undeclared_variables(environment.parse(template))
    except (TemplateError, RecursionError):
        return False


def opened(text: str, last: str) -> str:
    """Cut what a template wrote behind the last turn's content, so that the model goes on with that turn.

    Example:
        >>> opened("<user>Hi<end><assistant>Yes, <end>", "Yes, ")
        '<user>Hi<end><assistant>Yes,'
    """
    at = text.rfind(last.strip())
    return text if at < 0 or not last.strip() else text[: at + len(last.strip())]


def _without_system(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what system messages say at the beginning of the first user message."""
    said = [str(turn.get("content") or "") for turn in turns if turn["role"] == "system"]
    others = [dict(turn) for turn in turns if turn["role"] != "system"]
    first = next((turn for turn in others if turn["role"] == "user"), None)
    if first is None:
        return list(turns)
    first["content"] = "\n\n".join([*said, str(first.get("content") or "")])
    return others


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    from jinja2 import TemplateError

    if len(template) > MAX_TEMPLATE:
        raise InvalidInput(f"the chat template is longer than {MAX_TEMPLATE:,} characters")
    try:
        compiled: Template = _environment().from_string(template)
    except (TemplateError, RecursionError) as error:
        raise InvalidInput(f"the chat template is broken: {error}") from error
    return compiled


@lru_cache(maxsize=1)
def _environment() -> Any:
    """The names that the writers of chat templates count on; templates come from anywhere, so it is a sandbox."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, **layout: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **layout)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _generation_tag()]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.datetime.now().strftime(layout)
    return environment


def _generation_tag() -> Any:
    from jinja2.ext import Extension

    class GenerationTag(Extension):
        """``{% generation %}`` … ``{% endgeneration %}``: marks the assistant's words for training."""

        tags = {"generation"}  # noqa: RUF012 - as the base class has it

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return GenerationTag
