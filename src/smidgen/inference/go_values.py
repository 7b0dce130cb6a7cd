"""What a Go template is made of, and how its parts are carried out on plain values."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.errors import InvalidInput

MAX_STEPS = 500_000
"""How many parts may be carried out before a template is taken to have no end."""

MAX_CHARACTERS = 1 << 25
"""How long a text may become."""


@dataclass(frozen=True)
class Literal:
    """A value as it stands."""

    value: Any


@dataclass(frozen=True)
class Variable:
    """A variable, with its ``$``."""

    name: str


@dataclass(frozen=True)
class Function:
    """A function's name; the operands behind it are its arguments."""

    name: str


@dataclass(frozen=True)
class Declaration:
    """What a pipeline's value is given to: fresh variables (``:=``) or those that are there (``=``)."""

    names: tuple[str, ...]
    fresh: bool


@dataclass(frozen=True)
class Pipeline:
    """Commands of which each gets the value of the one before as its last argument."""

    commands: tuple[tuple[Operand, ...], ...]
    declared: Declaration | None = None


@dataclass(frozen=True)
class Fields:
    """Fields of fields of a value; of ``.`` where no other is named."""

    base: Variable | Pipeline | None
    names: tuple[str, ...]


Operand = Literal | Fields | Function


@dataclass(frozen=True)
class Text:
    """Text as it stands."""

    text: str


@dataclass(frozen=True)
class Jump:
    """``break`` or ``continue``."""

    word: str


@dataclass(frozen=True)
class Output:
    """A value that is written, or a declaration, which writes nothing."""

    pipeline: Pipeline


@dataclass(frozen=True)
class Block:
    """What has a body and another one for the other case."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True)
class Choice(Block):
    """``if``, or ``with``, which also makes the value ``.``."""

    rebinds: bool = False


@dataclass(frozen=True)
class Loop(Block):
    """``range``."""


Node = Text | Jump | Output | Block


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


def render(nodes: Iterable[Node], values: Mapping[str, Any]) -> str:
    """Carry out a template's nodes; see `smidgen.inference.go_template.GoTemplate.render`."""
    scope = _Scope(values)
    scope.run(nodes, values)
    return "".join(scope.written)


def names(node: Node) -> Iterator[str]:
    """Yield the names of all fields that a node reads."""
    if isinstance(node, Text | Jump):
        return
    yield from names_of(node.pipeline)
    if isinstance(node, Block):
        for inner in (*node.body, *node.otherwise):
            yield from names(inner)


def names_of(pipeline: Pipeline) -> Iterator[str]:
    """Yield the names of all fields that a pipeline reads."""
    for operand in (operand for command in pipeline.commands for operand in command):
        if isinstance(operand, Fields):
            yield from operand.names
            if isinstance(operand.base, Pipeline):
                yield from names_of(operand.base)


class _Scope:
    """The variables and the text written so far."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.written: list[str] = []
        self._length = 0
        self._variables: list[tuple[str, Any]] = [("$", values)]
        self._steps = 0

    def run(self, nodes: Iterable[Node], dot: Any) -> None:
        kept = len(self._variables)
        for node in nodes:
            self._count()
            if isinstance(node, Text):
                self._write(node.text)
            elif isinstance(node, Jump):
                raise _Break if node.word == "break" else _Continue
            elif isinstance(node, Output):
                value = self._value(node.pipeline, dot)
                if node.pipeline.declared is None:
                    self._write(printed(value))
            elif isinstance(node, Choice):
                self._choose(node, dot)
            elif isinstance(node, Loop):
                self._loop(node, dot)
        del self._variables[kept:]

    def _choose(self, node: Choice, dot: Any) -> None:
        kept = len(self._variables)
        value = self._value(node.pipeline, dot)
        if is_true(value):
            self.run(node.body, value if node.rebinds else dot)
        else:
            self.run(node.otherwise, dot)
        del self._variables[kept:]

    def _loop(self, node: Loop, dot: Any) -> None:
        kept = len(self._variables)
        pairs = list(_pairs(self._value(Pipeline(node.pipeline.commands), dot)))
        if not pairs:
            self.run(node.otherwise, dot)
        inside = len(self._variables)
        for key, value in pairs:
            self._count()
            if node.pipeline.declared is not None:
                self._assign(
                    node.pipeline.declared, [value] if len(node.pipeline.declared.names) == 1 else [key, value]
                )
            try:
                self.run(node.body, value)
            except _Continue:
                pass
            except _Break:
                break
            finally:
                del self._variables[inside:]
        del self._variables[kept:]

    def _assign(self, declared: Declaration, values: Sequence[Any]) -> None:
        for name, value in zip(declared.names, values, strict=True):
            if declared.fresh:
                self._variables.append((name, value))
                continue
            place = max(index for index, (known, _) in enumerate(self._variables) if known == name)
            self._variables[place] = (name, value)

    def _value(self, pipeline: Pipeline, dot: Any) -> Any:
        value: list[Any] = []
        for command in pipeline.commands:
            value = [self._command(command, dot, value)]
        if pipeline.declared is not None:
            self._assign(pipeline.declared, value)
        return value[0]

    def _command(self, command: tuple[Operand, ...], dot: Any, piped: list[Any]) -> Any:
        self._count()
        first, *rest = command
        if not isinstance(first, Function):
            if piped:
                raise InvalidInput("A value is handed by '|' to what is no function.")
            return self._operand(first, dot)
        if first.name in ("and", "or"):
            return self._either(first.name, rest, dot, piped)
        arguments = [self._operand(operand, dot) for operand in rest] + piped
        try:
            value = FUNCTIONS[first.name](*arguments)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise InvalidInput(
                f"The template's function {first.name!r} cannot take what it is given: {error}."
            ) from error
        if isinstance(value, str):
            _require_short(len(value))
        return value

    def _either(self, word: str, operands: Sequence[Operand], dot: Any, piped: list[Any]) -> Any:
        """``and`` and ``or`` look at their arguments only until the answer is known."""
        value: Any = None
        for operand in operands:
            value = self._operand(operand, dot)
            if is_true(value) != (word == "and"):
                return value
        return piped[0] if piped else value

    def _operand(self, operand: Operand, dot: Any) -> Any:
        if isinstance(operand, Function):
            return self._command((operand,), dot, [])
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand.base, Pipeline):
            value = self._value(operand.base, dot)
        elif isinstance(operand.base, Variable):
            name = operand.base.name
            value = next(value for known, value in reversed(self._variables) if known == name)
        else:
            value = dot
        for name in operand.names:
            value = _field(value, name)
        return value

    def _write(self, text: str) -> None:
        self._length += len(text)
        _require_short(self._length)
        self.written.append(text)

    def _count(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise InvalidInput(f"The template is not done after {MAX_STEPS:,} steps.")


def _require_short(length: int) -> None:
    if length > MAX_CHARACTERS:
        raise InvalidInput(f"The template writes more than {MAX_CHARACTERS:,} characters.")


def _field(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        return None
    if name in value:
        return value[name]
    return value.get(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())


def is_true(value: Any) -> bool:
    """Say whether a value counts as true: not nothing, not zero, not empty."""
    return bool(value)


def printed(value: Any) -> str:
    """Return a value as the template writes it: texts as they are, lists and mappings as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e21 else repr(value)
    return str(value) if isinstance(value, int) else as_json(value)


def as_json(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _pairs(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return ((key, value[key]) for key in sorted(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return ((number, number) for number in range(min(value, MAX_STEPS + 1)))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return enumerate(value)
    if value is None:
        return iter(())
    raise InvalidInput(f"The template's range cannot go through {value!r}.")


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TypeError("two values are needed")
    return any(first == other and isinstance(first, bool) == isinstance(other, bool) for other in others)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            raise LookupError(f"there is no place {key!r} in it")
    return value


def _slice(value: Any, *places: int) -> Any:
    begin, end = (*places, *(0, len(value))[len(places) :])
    if not 0 <= begin <= end <= len(value):
        raise LookupError(f"there are no places {begin} to {end} in it")
    return value[begin:end]


def _print(*values: Any) -> str:
    parts: list[str] = []
    for place, value in enumerate(values):
        if place and not isinstance(value, str) and not isinstance(values[place - 1], str):
            parts.append(" ")
        parts.append(printed(value))
    return "".join(parts)


def _printf(layout: str, *values: Any) -> str:
    waiting = iter(values)

    def filled(match: re.Match[str]) -> str:
        verb = match[2]
        if verb == "%":
            return "%"
        value = next(waiting, None)
        if verb in "sv":
            return f"%{match[1]}s" % printed(value)
        if verb == "q":
            return json.dumps(printed(value), ensure_ascii=False)
        if verb == "t":
            return printed(bool(value))
        return f"%{match[1]}{verb}" % value

    return re.sub(r"%([-+0 ]?\d{0,3}(?:\.\d{1,2})?)([svqtdfgx%])", filled, layout)


def _date(days_ago: int) -> str:
    return (datetime.date.today() - datetime.timedelta(days=days_ago)).isoformat()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "not": lambda value: not is_true(value),
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "lt": lambda first, second: first < second,
    "le": lambda first, second: first <= second,
    "gt": lambda first, second: first > second,
    "ge": lambda first, second: first >= second,
    "len": len,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "println": lambda *values: " ".join(map(printed, values)) + "\n",
    "printf": _printf,
    "json": as_json,
    "currentDate": lambda *_: _date(0),
    "yesterdayDate": lambda *_: _date(1),
}
"""Functions that templates may call, by name; ``and`` and ``or`` stand apart."""
