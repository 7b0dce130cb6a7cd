"""Modelfiles: a text that says from what a model is made and how it wants to be run.

It stands among the models because a stored model keeps its own. What the parameters mean is the engine's
matter (`smidgen.inference.setup`); here they are names and texts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smidgen.errors import InvalidInput
from smidgen.models.files import open_for_reading

INSTRUCTIONS = (
    "FROM",
    "ADAPTER",
    "DRAFT",
    "TEMPLATE",
    "SYSTEM",
    "LICENSE",
    "PARAMETER",
    "MESSAGE",
    "REQUIRES",
    "RENDERER",
    "PARSER",
)
ROLES = ("system", "user", "assistant")

MODEL = "model.gguf"
"""Name of the weights among a stored model's files, where it was made from a Modelfile."""

_SEVERAL = '"""'
_VERSION = re.compile(r"v?\d+(\.\d+){0,2}([-+][0-9A-Za-z.+-]+)?", re.ASCII)
_WORD = re.compile(r"[A-Za-z_]+", re.ASCII)


@dataclass(frozen=True)
class Parameter:
    """One ``PARAMETER``: an option's name and its value as a text; the line does not count in comparisons."""

    name: str
    value: str
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Turn:
    """One ``MESSAGE``: what a conversation with the model begins with."""

    role: str
    content: str


@dataclass(frozen=True)
class Modelfile:
    r'''What a Modelfile says.

    Attributes:
        source: The model it is made from: a name, a folder or a file.
        projectors: Further ``FROM``: files that turn images into what the model reads.
        adapters: LoRA files or PEFT folders put on it, in order.
        draft: A small model that guesses ahead.
        template: The layout of a conversation, in Go's template language.
        system: What the model is to be.
        licences: Texts of licences.
        parameters: Options; ``stop`` may be repeated.
        messages: The turns that every conversation begins with.
        requires: The least version of the program for which the file was written.
        renderer: A layout known by name.
        parser: A reader of answers known by name.

    Example:
        >>> modelfile = parse('FROM smollm2:135m\nPARAMETER temperature 0\nSYSTEM """Be\nbrief."""\n')
        >>> modelfile.source, modelfile.system
        ('smollm2:135m', 'Be\nbrief.')
        >>> print(modelfile.text(), end="")
        FROM smollm2:135m
        SYSTEM """Be
        brief."""
        PARAMETER temperature 0
    '''

    source: str
    projectors: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    draft: str | None = None
    template: str | None = None
    system: str | None = None
    licences: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    messages: tuple[Turn, ...] = ()
    requires: str | None = None
    renderer: str | None = None
    parser: str | None = None

    def text(self) -> str:
        """Return the file's text, which `parse` reads back to the same.

        Raises:
            InvalidInput: A value holds what no quotes can hold: three quotes where a line ends.
        """
        lines = [("FROM", self.source), *(("FROM", each) for each in self.projectors)]
        lines += [("ADAPTER", each) for each in self.adapters]
        single = [("DRAFT", self.draft), ("TEMPLATE", self.template), ("SYSTEM", self.system)]
        lines += [(name, value) for name, value in single if value is not None]
        written = [f"{name} {quoted(value)}" for name, value in lines]
        written += [f"PARAMETER {each.name} {quoted(each.value)}" for each in self.parameters]
        written += [f"MESSAGE {turn.role} {quoted(turn.content)}" for turn in self.messages]
        last = [("REQUIRES", self.requires), ("RENDERER", self.renderer), ("PARSER", self.parser)]
        written += [f"{name} {quoted(value)}" for name, value in last if value is not None]
        written += [f"LICENSE {quoted(licence)}" for licence in self.licences]
        return "\n".join(written) + "\n"

    def with_paths_in(self, folder: Path) -> Modelfile:
        """Return the same with every file that lies in a folder named by its whole path."""

        def whole(value: str) -> str:
            path = folder / value
            return str(path) if path.exists() else value

        return replace(
            self,
            source=whole(self.source),
            projectors=tuple(map(whole, self.projectors)),
            adapters=tuple(map(whole, self.adapters)),
            draft=None if self.draft is None else whole(self.draft),
        )


def read(path: Path) -> Modelfile:
    """Read a Modelfile, in UTF-8 or with the mark of UTF-16.

    Raises:
        ReferenceNotFound: There is no such file.
        InvalidInput: It may not be read, is no text, or says what cannot be understood.
    """
    with open_for_reading(path) as file:
        content = file.read()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is no text in UTF-8.", remedy="A Modelfile is a text.") from None
    return parse(text.replace("\r\n", "\n"))


def parse(text: str) -> Modelfile:
    """Understand the text of a Modelfile.

    Raises:
        InvalidInput: What it says cannot be understood; the message names the line.
    """
    found: dict[str, list[tuple[int, str]]] = {name: [] for name in INSTRUCTIONS}
    for line, name, value in _instructions(text):
        found[name].append((line, value))
    if not found["FROM"]:
        raise InvalidInput("The Modelfile has no FROM.", remedy="Begin it with the model it is made from: FROM NAME.")

    def last(name: str) -> str | None:
        return found[name][-1][1] if found[name] else None

    def every(name: str) -> tuple[str, ...]:
        return tuple(value for _, value in found[name])

    for line, version in found["REQUIRES"]:
        if not _VERSION.fullmatch(version):
            raise _fault(line, f"{version!r} is no version", "Write it as 0.14.0.")
    sources = every("FROM")
    return Modelfile(
        source=sources[0],
        projectors=sources[1:],
        adapters=every("ADAPTER"),
        draft=last("DRAFT"),
        template=last("TEMPLATE"),
        system=last("SYSTEM"),
        licences=every("LICENSE"),
        parameters=tuple(_parameter(line, value) for line, value in found["PARAMETER"]),
        messages=tuple(_turn(line, value) for line, value in found["MESSAGE"]),
        requires=last("REQUIRES"),
        renderer=last("RENDERER"),
        parser=last("PARSER"),
    )


def of_facts(facts: Mapping[str, Any], **changes: Any) -> Modelfile:
    """Return the Modelfile that a stored model's facts amount to, with its files named as they lie in its folder.

    Args:
        facts: What is known of it: ``template``, ``system``, ``parameters``, ``messages``, ``license``, ``adapters``
            and so on, each only where there is one.
        **changes: Fields of the Modelfile that differ.
    """
    parameters = [
        Parameter(name, _text(each))
        for name, value in sorted(facts.get("parameters", {}).items())
        for each in (value if isinstance(value, list | tuple) else [value])
    ]
    found = Modelfile(
        source=f"./{facts.get('weights', MODEL)}",
        projectors=tuple(f"./{name}" for name in facts.get("projectors", ())),
        adapters=tuple(f"./{name}" for name in facts.get("adapters", ())),
        draft=f"./{facts['draft']}" if facts.get("draft") else None,
        template=facts.get("template"),
        system=facts.get("system"),
        licences=tuple(facts.get("license", ())),
        parameters=tuple(parameters),
        messages=tuple(Turn(turn["role"], turn["content"]) for turn in facts.get("messages", ())),
        requires=facts.get("requires"),
        renderer=facts.get("renderer"),
        parser=facts.get("parser"),
    )
    return replace(found, **changes)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def quoted(value: str) -> str:
    """Write a value so that it is read back as it is, with as few quotes as that takes.

    Raises:
        InvalidInput: No quotes can hold it.

    Example:
        >>> print(quoted("as it stands"), quoted(" spaces "), quoted('say "no"'))
        as it stands " spaces " say "no"
    """
    once, thrice = f'"{value}"', f"{_SEVERAL}{value}{_SEVERAL}"
    forms = [thrice, once] if "\n" in value or '"' in value else [once, thrice]
    if value and "\n" not in value:
        forms.insert(0, value)
    for form in forms:
        if _closed_before_its_end(form):
            continue
        if _unquoted(form.strip()) == value:
            return form
    raise InvalidInput(
        f"A value that holds three quotes at the end of a line cannot be written into a Modelfile: {value[:60]!r}.",
        remedy="Leave the quotes out.",
    )


def _closed_before_its_end(form: str) -> bool:
    """Say whether a quoted value would be taken for whole at an earlier line's end."""
    lines = form.split("\n")
    return any(_unquoted("\n".join(lines[:count]).strip()) is not None for count in range(1, len(lines)))


def _unquoted(text: str) -> str | None:
    """Return what stands between quotes, the text itself where there are none, None where they are not closed."""
    if text.startswith(_SEVERAL):
        return text[3:-3] if len(text) >= 6 and text.endswith(_SEVERAL) else None
    if text.startswith('"'):
        return text[1:-1] if len(text) >= 2 and text.endswith('"') else None
    return text


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield each instruction's line, name and value; PARAMETER and MESSAGE keep their first word in the value."""
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        begin, line = number + 1, lines[number].strip()
        number += 1
        if not line or line.startswith("#"):
            continue
        name, rest = _name(begin, line)
        head = ""
        if name in ("PARAMETER", "MESSAGE"):
            word, _, rest = rest.partition(" ") if " " in rest else rest.partition("\t")
            head, rest = f"{word} ", rest.lstrip()
        while (value := _unquoted(rest.strip())) is None:
            if number == len(lines):
                raise _fault(begin, f"the quotes of {name} are not closed", "Close them at the end of a line.")
            rest += "\n" + lines[number]
            number += 1
        if not rest:
            raise _fault(begin, f"{name} has no value", f"Write it behind the name: {_example(name)}")
        yield begin, name, head + value


def _name(number: int, line: str) -> tuple[str, str]:
    word = _WORD.match(line)
    text = word[0] if word else line.split()[0]
    after = line[len(text) :]
    if text.upper() in INSTRUCTIONS and (not after or after[0].isspace() or after[0] == '"'):
        return text.upper(), after.lstrip()
    first = line.split()[0]
    close = difflib.get_close_matches(first.upper(), INSTRUCTIONS, n=1)
    guess = f"Did you mean {close[0]}? " if close else ""
    raise _fault(number, f"there is no instruction {first[:60]!r}", f"{guess}Known: {', '.join(INSTRUCTIONS)}.")


def _parameter(line: int, value: str) -> Parameter:
    name, _, text = value.partition(" ")
    return Parameter(name.lower(), text, line)


def _turn(line: int, value: str) -> Turn:
    role, _, content = value.partition(" ")
    if role.lower() not in ROLES:
        raise _fault(line, f"{role!r} is no role", f"Known: {', '.join(ROLES)}.")
    return Turn(role.lower(), content)


def _example(name: str) -> str:
    return {"PARAMETER": "PARAMETER temperature 0.7", "MESSAGE": "MESSAGE user Hello!"}.get(name, f"{name} VALUE")


def _fault(line: int, what: str, remedy: str) -> InvalidInput:
    return InvalidInput(f"Line {line} of the Modelfile: {what}.", remedy=remedy)
