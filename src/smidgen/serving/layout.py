"""From a request to the text that a model reads: whose template, which turns, how many tokens of them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smidgen.errors import InvalidInput, Unsupported
from smidgen.inference import chat_template
from smidgen.inference.answers import thinking_marks
from smidgen.inference.go_template import GoTemplate
from smidgen.inference.images import marked
from smidgen.inference.layout import lay_out, lay_out_prompt
from smidgen.inference.tool_calls import names_of
from smidgen.serving.details import capabilities, header_of, image_tokens, parsed, template_of
from smidgen.serving.exchange import GenerationRequest, Turn
from smidgen.serving.faults import ContextExceeded
from smidgen.serving.library import ServedModel
from smidgen.serving.runner import Prompt, Runner
from smidgen.serving.tool_turns import has_calls, in_words

_RESERVED = 64
"""Tokens of the context that a prompt which had to be cut leaves for the answer."""

_LEVELS = {"low": "low", "medium": "medium", "high": "high", "max": "high"}


@dataclass(frozen=True)
class Layout:
    """How one request's text is laid out.

    Attributes:
        model: The model.
        request: The request.
        turns: All turns, those of the model itself first; empty where the prompt is continued as it stands.
        thinks: Whether the model shall think; None where it cannot.
    """

    model: ServedModel
    request: GenerationRequest
    turns: tuple[Turn, ...]
    thinks: bool | None

    @property
    def template(self) -> tuple[str, str]:
        """The template to use as (language, text); ("", "") where there is none."""
        if self.request.template:
            return "go", self.request.template
        if go := template_of(self.model):
            return "go", go
        jinja = header_of(self.model).jinja
        return ("jinja", jinja) if jinja else ("", "")

    @property
    def marks(self) -> tuple[str, str] | None:
        """What opens and closes the model's thinking; None where it does not think aloud."""
        if self.model.path is None:
            return thinking_marks("<think>")
        return thinking_marks(self.template[1]) or (thinking_marks("<think>") if self.thinks is not None else None)

    def text(self, turns: Sequence[Turn]) -> str:
        """Lay turns out.

        Raises:
            InvalidInput: The template refuses them.
        """
        language, template = self.template
        header = header_of(self.model)
        tools = () if self.request.tool_choice == "none" else self.request.tools
        if language == "jinja":
            goes_on = bool(turns) and turns[-1].role == "assistant"
            messages = [_message(turn) for turn in turns]
            marks = {"bos_token": header.bos, "eos_token": header.eos}
            return chat_template.render(
                template, messages, tools=tools, marks=marks, variables=self._variables(), go_on=goes_on
            )
        if language == "go":
            asked = self.request.think if isinstance(self.request.think, str) else self.thinks
            return lay_out(parsed(template), [_message(turn) for turn in turns], tools=tools, think=asked)
        return "\n\n".join(turn.content for turn in turns)

    def _variables(self) -> dict[str, Any]:
        """Return what the templates of thinking models ask for."""
        if self.thinks is None:
            return {}
        asked = self.request.think
        level = {"reasoning_effort": _LEVELS[asked]} if isinstance(asked, str) else {}
        return {"enable_thinking": self.thinks, "thinking": self.thinks, **level}

    def opens_thinking(self, text: str) -> bool:
        """Say whether a laid out text leaves the model in the middle of its thinking."""
        return self.marks is not None and text.rstrip().endswith(self.marks[0])


def _message(turn: Turn) -> dict[str, Any]:
    """Return a turn as templates know it."""
    message: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.thinking:
        message |= {"thinking": turn.thinking, "reasoning_content": turn.thinking}
    if turn.tool_calls:
        message["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": dict(call.arguments), "index": call.index},
            }
            for call in turn.tool_calls
        ]
    if turn.tool_name:
        message |= {"tool_name": turn.tool_name, "name": turn.tool_name}
    if turn.tool_call_id:
        message["tool_call_id"] = turn.tool_call_id
    return message


def plan(model: ServedModel, request: GenerationRequest) -> Layout:
    """Check that a model can do what a request asks, and collect the turns.

    Raises:
        Unsupported: It cannot.
        InvalidInput: The request contradicts itself.
    """
    can = capabilities(model)
    if "completion" not in can:
        kind = "chat" if request.messages is not None else "generate"
        raise Unsupported(f'"{request.model}" does not support {kind}')
    turns = _turns(model, request)
    told = bool(request.tools) and request.tool_choice != "none"
    wants = {
        "tools": told and request.needs_tools,
        "insert": bool(request.suffix),
        "thinking": bool(request.think),
    }
    for capability, wanted in wants.items():
        if wanted and capability not in can:
            raise Unsupported(f'"{request.model}" does not support {capability}')
    if "tools" not in can and (told or has_calls(turns)):
        turns = in_words(turns, request.tools, request.tool_choice)
    if images_of(turns) or request.images:
        if "vision" not in can:
            raise Unsupported(
                f'"{request.model}" does not support images: this model is missing data required for image input'
            )
        if request.suffix:
            raise InvalidInput("a request may have images or a suffix, not both")
    _check_choice(request)
    thinks = (request.think is None or bool(request.think)) if "thinking" in can else None
    return Layout(model, request, turns, thinks)


def _check_choice(request: GenerationRequest) -> None:
    names = names_of(request.tools)
    if request.tool_choice == "required" and not names:
        raise InvalidInput("tool_choice demands a call, and there are no tools")
    if request.tool_choice not in ("auto", "none", "required", *names):
        raise InvalidInput(f"tool_choice names {request.tool_choice!r}, which is none of the tools")


def _turns(model: ServedModel, request: GenerationRequest) -> tuple[Turn, ...]:
    own_system = str(model.facts.get("system") or "") if request.system is None else request.system
    system = (Turn("system", own_system),) if own_system else ()
    own = tuple(Turn(str(said["role"]), str(said["content"])) for said in model.facts.get("messages") or ())
    if request.messages is None:
        if request.raw:
            return ()
        return (*system, *own, Turn("user", request.prompt or "", images=request.images))
    turns = (*own, *request.messages)
    return turns if turns and turns[0].role == "system" else (*system, *turns)


async def prompt_for(layout: Layout, runner: Runner) -> Prompt:
    """Lay a request out so that it fits the context.

    Raises:
        ContextExceeded: It does not fit, and may not be cut.
    """
    request = layout.request
    if request.images or images_of(layout.turns):
        return await _with_images(layout, runner)
    if request.tokens and not runner.lays_out:
        return _within(request.tokens, request, runner)
    if runner.lays_out and layout.turns:
        turns, _ = await _fitting(layout, runner, layout.turns, _plain)
        return Prompt(turns=turns)
    earlier = request.context or request.tokens
    before = await runner.detokenize(list(earlier)) if earlier else ""
    if request.suffix and not request.raw and (go := _template_with(layout, "suffix")) is not None:
        filled = lay_out_prompt(go, request.prompt or "", system=request.system, suffix=request.suffix)
        prompt = Prompt(before + filled)
    elif not layout.turns or request.suffix:
        prompt = Prompt(before + (request.prompt or ""), suffix=request.suffix)
    else:
        _, text = await _fitting(layout, runner, layout.turns, lambda turns: before + layout.text(turns))
        prompt = Prompt(text)
    return await _cut(prompt, request, runner)


async def _with_images(layout: Layout, runner: Runner) -> Prompt:
    """Lay a request with images out; of one that is too long even alone nothing can be cut."""
    request = layout.request
    if not runner.image_mark:
        raise Unsupported(f'the engine that runs "{request.model}" reads no images')
    before = await runner.detokenize(list(request.context)) if request.context else ""
    if not layout.turns:
        text = marked((request.prompt or "").replace(runner.image_mark, ""), len(request.images), runner.image_mark)
        return Prompt(before + text, images=request.images)
    if runner.lays_out:
        turns, _ = await _fitting(layout, runner, layout.turns, _plain)
        return Prompt(turns=turns, images=images_of(turns))
    images = images_of(layout.turns)
    kept, text = await _fitting(
        layout, runner, _numbered(layout.turns, runner.image_mark), lambda turns: before + layout.text(turns)
    )
    # Each mark bears its image's number until here: a template may leave turns out, or say them in another order.
    number = re.compile(rf"(?<={re.escape(runner.image_mark)})\[(\d{{1,6}})\]")
    shown = tuple(images[int(each)] for each in number.findall(text))
    if images_of(kept) and not shown:
        raise Unsupported(f'the template of "{request.model}" leaves images out')
    return Prompt(number.sub("", text), images=shown)


def _numbered(turns: Sequence[Turn], mark: str) -> tuple[Turn, ...]:
    """Put a mark for each image into the turns' texts."""
    found, count = [], 0
    for turn in turns:
        first, *others = marked(turn.content.replace(mark, ""), len(turn.images), mark).split(mark)
        text = "".join(f"{mark}[{number}]{part}" for number, part in enumerate(others, count))
        count += len(turn.images)
        found.append(replace(turn, content=first + text))
    return tuple(found)


def images_of(turns: Sequence[Turn]) -> tuple[bytes, ...]:
    """Return the images of all turns, in their order."""
    return tuple(image for turn in turns for image in turn.images)


def _template_with(layout: Layout, field: str) -> GoTemplate | None:
    """Return the request's Go template where it reads a field."""
    language, text = layout.template
    template = parsed(text) if language == "go" else None
    return template if template is not None and field in template.names else None


def _plain(turns: Sequence[Turn]) -> str:
    return " ".join(turn.content for turn in turns)


async def _fitting(
    layout: Layout, runner: Runner, turns: tuple[Turn, ...], lay_out: Callable[[Sequence[Turn]], str]
) -> tuple[tuple[Turn, ...], str]:
    """Drop as few of the oldest turns as needed; system messages and the last turn always stay."""
    fits = _measure(runner, image_tokens(layout.model))
    text = lay_out(turns)
    if layout.request.messages is None or await fits(text):
        return turns, text
    if not layout.request.truncate:
        raise ContextExceeded
    droppable = [number for number, turn in enumerate(turns[:-1]) if turn.role != "system"]
    low, high = 1, len(droppable)
    while low < high:  # the fewest dropped turns that fit
        middle = (low + high) // 2
        if await fits(lay_out(_without(turns, droppable[:middle]))):
            high = middle
        else:
            low = middle + 1
    kept = _without(turns, droppable[:low])
    return kept, lay_out(kept)


def _without(turns: tuple[Turn, ...], dropped: Sequence[int]) -> tuple[Turn, ...]:
    return tuple(turn for number, turn in enumerate(turns) if number not in set(dropped))


def _measure(runner: Runner, image_tokens: int = 0) -> Callable[[str], Awaitable[bool]]:
    async def fits(text: str) -> bool:
        if runner.context is None:
            return True
        room = runner.context
        if runner.image_mark:
            room -= text.count(runner.image_mark) * image_tokens
            text = text.replace(runner.image_mark, "")
        # A token stands for at least one byte: what has fewer bytes than the context has tokens need not be counted.
        if len(text.encode(errors="replace")) + _RESERVED < room:
            return True
        return len(await runner.tokenize(text)) < room

    return fits


async def _cut(prompt: Prompt, request: GenerationRequest, runner: Runner) -> Prompt:
    """Leave out the middle of a prompt that is too long even alone: its first ``num_keep`` tokens and its end stay."""
    if prompt.suffix or await _measure(runner)(prompt.text):
        return prompt
    tokens = _within(tuple(await runner.tokenize(prompt.text)), request, runner).tokens
    return replace(prompt, tokens=tokens)


def _within(tokens: tuple[int, ...], request: GenerationRequest, runner: Runner) -> Prompt:
    """Return a prompt of these tokens, without some in the middle where there are too many."""
    if runner.context is None or len(tokens) < runner.context:
        return Prompt(tokens=tokens)
    if not request.truncate:
        raise ContextExceeded
    room = max(1, runner.context - min(_RESERVED, runner.context // 4))
    keep = max(0, min(int(request.options.get("num_keep", 4)), room // 2))
    return Prompt(tokens=(*tokens[:keep], *tokens[keep + len(tokens) - room :]))
