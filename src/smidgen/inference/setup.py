"""How a model wants to be run: what its Modelfile says, checked, and what a person says over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, ReferenceNotFound, SmidgenError
from smidgen.inference.engine import Message
from smidgen.inference.options import GenerationOptions, read_option

if TYPE_CHECKING:
    from smidgen.inference.go_template import GoTemplate
    from smidgen.models.modelfile import Parameter
    from smidgen.models.sources import LocalModel

FORGOTTEN = frozenset(
    {
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    }
)
"""Parameters that older Modelfiles have and that mean nothing any more."""


@dataclass(frozen=True)
class Setup:
    """How a model wants to be run.

    Attributes:
        parameters: Options under their names; ``stop`` a list of texts.
        system: What the model is to be.
        messages: The turns that every conversation begins with.
        template: Its own layout of conversations; None where the model's file brings one.
        adapters: LoRA files in GGUF that are put on it.
        draft: A small model that guesses ahead.
        projector: A file that turns images into what the model reads.

    Example:
        >>> setup = Setup(parameters={"temperature": 0.2, "top_k": 5}, system="Be brief.")
        >>> setup.options({"top_k": 7}).temperature, setup.options({"top_k": 7}).top_k
        (0.2, 7)
        >>> [message.content for message in setup.conversation([Message("user", "Hi")])]
        ['Be brief.', 'Hi']
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    messages: tuple[Message, ...] = ()
    template: GoTemplate | None = None
    adapters: tuple[Path, ...] = ()
    draft: Path | None = None
    projector: Path | None = None

    @classmethod
    def of(cls, local: LocalModel | None) -> Setup:
        """Return what the facts of a stored model say; of any other model nothing.

        Raises:
            InvalidInput: Its template cannot be understood.
        """
        if local is None:
            return cls()
        from smidgen.inference import go_template

        facts, folder = local.facts, local.path.parent if local.path.is_file() else local.path
        template = facts.get("template")
        draft = facts.get("draft")
        projectors = facts.get("projectors") or ()
        return cls(
            parameters=known_parameters(facts.get("parameters") or {}),
            system=facts.get("system"),
            messages=tuple(Message(turn["role"], turn["content"]) for turn in facts.get("messages") or ()),
            template=go_template.parse(template) if template else None,
            adapters=tuple(folder / name for name in facts.get("adapters") or ()),
            draft=folder / draft if draft else None,
            projector=folder / projectors[0] if projectors else None,
        )

    def options(self, request: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> GenerationOptions:
        """Return the options of an answer: what the request says, over the model's own, over defaults.

        Raises:
            ReferenceNotFound: An unknown option.
            RecipeError: Values of the wrong type or out of range.
        """
        return GenerationOptions.from_mapping({**(defaults or {}), **self.parameters, **request})

    def conversation(self, said: Sequence[Message], system: str | None = None) -> list[Message]:
        """Return a conversation with what the model wants to stand before it.

        Args:
            said: The turns so far; a first one that is a system message replaces the model's own.
            system: Replaces the model's own.
        """
        own = self.system if system is None else system
        begin = [Message("system", own)] if own and not (said and said[0].role == "system") else []
        return [*begin, *self.messages, *said]


def check_parameters(parameters: Iterable[Parameter]) -> dict[str, Any]:
    r"""Read a Modelfile's parameters; those that mean nothing any more are left out.

    Raises:
        InvalidInput: One does not exist, or its value is not possible; the message names the line.

    Example:
        >>> from smidgen.models.modelfile import parse
        >>> check_parameters(parse("FROM x\nPARAMETER stop a\nPARAMETER stop b\nPARAMETER seed 1").parameters)
        {'stop': ['a', 'b'], 'seed': 1}
    """
    found: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name in FORGOTTEN:
            continue
        try:
            value = read_option(parameter.name, [parameter.value])
            GenerationOptions(**{parameter.name: value})
        except SmidgenError as error:
            place = f"Line {parameter.line} of the Modelfile: " if parameter.line else ""
            raise InvalidInput(f"{place}{error.message}", remedy=error.remedy) from None
        found[parameter.name] = [*found.get("stop", ()), *value] if parameter.name == "stop" else value
    return found


def known_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of parameters that others wrote those that can be honoured here."""
    kept: dict[str, Any] = {}
    for name, value in parameters.items():
        try:
            GenerationOptions.from_mapping({name: value})
        except (ReferenceNotFound, InvalidInput):
            continue
        kept[name] = value
    return kept
