"""Go's template language, as far as Modelfiles use it: read here, carried out in `smidgen.inference.go_values`.

Understood: fields, variables, literals, pipelines, ``if``, ``else if``, ``range``, ``with``, ``break``,
``continue``, trim markers, comments, and the functions of `go_values.FUNCTIONS`. Other constructs (``define``,
``template``, ``block``) are refused by name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from smidgen.errors import InvalidInput, Unsupported
from smidgen.inference import go_values
from smidgen.inference.go_values import (
    Block,
    Choice,
    Declaration,
    Fields,
    Jump,
    Literal,
    Loop,
    Node,
    Operand,
    Output,
    Pipeline,
    Text,
)

MAX_DEPTH = 60
"""How deep blocks and parentheses may lie in each other."""

_KEYWORDS = ("if", "else", "end", "range", "with", "break", "continue", "define", "template", "block")
_CLOSING = ("else", "end")
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "nil": None}
_NAMES = r"(?:\.[A-Za-z_]\w*)*"
_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)'
    r"|(?P<number>[+-]?\d+(?:\.\d+)?\b)"
    rf"|(?P<variable>\$\w*{_NAMES})"
    rf"|(?P<field>\.(?:[A-Za-z_]\w*{_NAMES})?)"
    r"|(?P<word>[A-Za-z_]\w*)"
    rf"|(?P<close>\){_NAMES})"
    r"|(?P<sign>:=|[=|(,])"
)
_END = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|\}\}')
_COMMENT = re.compile(r"(?:-\s+)?/\*.*?\*/(?P<right>\s+-)?\}\}", re.DOTALL)


@dataclass(frozen=True)
class GoTemplate:
    """A template that was understood.

    Attributes:
        nodes: What it is made of.
        names: The names of all fields that it reads, in lower case.

    Example:
        >>> template = parse("{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}<assistant>")
        >>> template.render({"Messages": [{"role": "user", "content": "Hi"}]})
        '<user>Hi<assistant>'
    """

    nodes: tuple[Node, ...]
    names: frozenset[str]

    def render(self, values: Mapping[str, Any]) -> str:
        """Fill the template in.

        A field ``.ToolCalls`` is looked up in a mapping as "ToolCalls", then as "tool_calls"; what is not there
        is nothing.

        Raises:
            InvalidInput: A function was given what it cannot take, or the work has no end.
        """
        return go_values.render(self.nodes, values)

    def until(self, field: str) -> GoTemplate:
        """Return the template up to and with the first place that reads a field, without what stands behind it."""
        return replace(self, nodes=_cut(self.nodes, field)[0])


def parse(text: str) -> GoTemplate:
    """Understand a template.

    Raises:
        InvalidInput: It breaks the language's rules; the message names the line.
        Unsupported: It uses a construct or a function of Go's templates that is not understood here.
    """
    nodes = _Parser(text).template()
    return GoTemplate(nodes, frozenset(name.lower() for node in nodes for name in go_values.names(node)))


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    spaced: bool


class _Parser:
    """Reads the pieces of a template, one after the other."""

    def __init__(self, text: str) -> None:
        self._pieces = list(_pieces(text))
        self._at = 0
        self._depth = 0
        self._loops = 0
        self._known = ["$"]

    def template(self) -> tuple[Node, ...]:
        nodes = self._block()
        if self._at < len(self._pieces):
            line, tokens = self._closing()
            raise _fault(line, f"{{{{ {tokens[0].text} }}}} closes nothing")
        return nodes

    def _block(self) -> tuple[Node, ...]:
        """Read up to the end or to an ``else`` or ``end``, which stays."""
        self._depth += 1
        known = len(self._known)
        nodes: list[Node] = []
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            if isinstance(piece, str):
                nodes.append(Text(piece))
                self._at += 1
                continue
            line, tokens = piece
            if self._depth > MAX_DEPTH:
                raise _fault(line, f"more than {MAX_DEPTH} blocks lie in each other")
            if tokens and tokens[0].text in _CLOSING and tokens[0].kind == "word":
                break
            self._at += 1
            if tokens:
                nodes.append(self._action(line, tokens))
        self._depth -= 1
        del self._known[known:]
        return tuple(nodes)

    def _action(self, line: int, tokens: list[_Token]) -> Node:
        word = tokens[0].text if tokens[0].kind == "word" else ""
        if word in ("define", "template", "block"):
            raise Unsupported(
                f"Line {line} of the template uses {word!r}, which smidgen's templates do not know.",
                remedy="Write what it stands for in its place.",
            )
        if word in ("break", "continue"):
            if not self._loops:
                raise _fault(line, f"{word!r} stands outside of every range")
            return Jump(word)
        if word not in _KEYWORDS:
            return Output(_Expression(line, tokens, self._known).whole())
        known = len(self._known)
        pipeline = _Expression(line, tokens[1:], self._known).whole()
        self._loops += word == "range"
        body = self._block()
        self._loops -= word == "range"
        otherwise = self._otherwise(line, word)
        del self._known[known:]
        return Loop(pipeline, body, otherwise) if word == "range" else Choice(pipeline, body, otherwise, word == "with")

    def _otherwise(self, line: int, word: str) -> tuple[Node, ...]:
        """Read what follows a block's body: an ``else`` with its own body, and the ``end``."""
        begin, tokens = self._closing(line, word)
        self._at += 1
        if tokens[0].text == "end":
            return ()
        if len(tokens) > 1:
            if tokens[1].text not in ("if", "with"):
                raise _fault(begin, f"'else {tokens[1].text}' is not possible")
            self._depth += 1
            nested = self._action(begin, tokens[1:])
            self._depth -= 1
            return (nested,)
        nodes = self._block()
        begin, tokens = self._closing(line, word)
        if tokens[0].text != "end":
            raise _fault(begin, f"the {word} of line {line} has a second 'else'")
        self._at += 1
        return nodes

    def _closing(self, line: int = 0, word: str = "") -> tuple[int, list[_Token]]:
        if self._at == len(self._pieces):
            raise _fault(line, f"the {word} has no end")
        piece = self._pieces[self._at]
        assert not isinstance(piece, str)
        return piece


class _Expression:
    """Reads what stands inside one action."""

    def __init__(self, line: int, tokens: list[_Token], known: list[str]) -> None:
        self._line, self._tokens, self._known = line, tokens, known
        self._at = 0
        self._depth = 0

    def whole(self) -> Pipeline:
        declared = self._declaration()
        pipeline = self._pipeline()
        if self._at < len(self._tokens):
            raise _fault(self._line, f"{self._tokens[self._at].text!r} was not expected")
        if declared and declared.fresh:
            self._known.extend(declared.names)
        return Pipeline(pipeline.commands, declared)

    def _declaration(self) -> Declaration | None:
        signs = [token.text for token in self._tokens[:4]]
        for place in (1, 3):
            if len(signs) > place and signs[place] in (":=", "=") and (place == 1 or signs[1] == ","):
                names = tuple(signs[:place:2])
                fresh = signs[place] == ":="
                for name in names:
                    if not re.fullmatch(r"\$\w+", name) or not (fresh or name in self._known):
                        raise _fault(self._line, f"nothing can be assigned to {name!r}")
                self._at = place + 1
                return Declaration(names, fresh)
        return None

    def _pipeline(self) -> Pipeline:
        commands = [self._command()]
        while self._next_is("|"):
            self._at += 1
            commands.append(self._command())
        return Pipeline(tuple(commands))

    def _command(self) -> tuple[Operand, ...]:
        operands: list[Operand] = []
        while self._at < len(self._tokens) and not self._next_is("|") and self._tokens[self._at].kind != "close":
            if operands and not self._tokens[self._at].spaced:
                raise _fault(self._line, f"{self._tokens[self._at].text!r} was not expected")
            operands.append(self._operand())
        if not operands:
            raise _fault(self._line, "a value is missing")
        if len(operands) > 1 and not isinstance(operands[0], go_values.Function):
            raise _fault(self._line, f"{self._tokens[0].text!r} is no function and takes no arguments")
        return tuple(operands)

    def _operand(self) -> Operand:
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "string":
            return Literal(_string(self._line, token.text))
        if token.kind == "number":
            return Literal(float(token.text) if "." in token.text else int(token.text))
        if token.kind == "field":
            return Fields(None, tuple(filter(None, token.text.split("."))))
        if token.kind == "variable":
            name, *fields = token.text.split(".")
            if name not in self._known:
                raise _fault(self._line, f"there is no variable {name!r}")
            return Fields(go_values.Variable(name), tuple(fields))
        if token.kind == "word":
            return Literal(_CONSTANTS[token.text]) if token.text in _CONSTANTS else self._function(token.text)
        if token.text == "(":
            return self._parenthesis()
        raise _fault(self._line, f"{token.text!r} was not expected")

    def _function(self, name: str) -> Operand:
        if name in go_values.FUNCTIONS or name in ("and", "or"):
            return go_values.Function(name)
        if name in _KEYWORDS:
            raise _fault(self._line, f"{name!r} was not expected")
        known = ", ".join(sorted({*go_values.FUNCTIONS, "and", "or"}))
        raise Unsupported(
            f"Line {self._line} of the template uses the function {name!r}, which smidgen's templates do not know.",
            remedy=f"Known: {known}.",
        )

    def _parenthesis(self) -> Operand:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _fault(self._line, f"more than {MAX_DEPTH} parentheses lie in each other")
        inner = self._pipeline()
        self._depth -= 1
        if self._at == len(self._tokens):
            raise _fault(self._line, "a parenthesis is not closed")
        close = self._tokens[self._at].text
        self._at += 1
        return Fields(inner, tuple(filter(None, close[1:].split("."))))

    def _next_is(self, text: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at].text == text


def _pieces(text: str) -> Iterator[str | tuple[int, list[_Token]]]:
    """Split a template into texts and actions, with white space trimmed where the markers say so."""
    at, line, trim = 0, 1, False
    while (begin := text.find("{{", at)) >= 0:
        line += text.count("\n", at, begin)
        inside = begin + 2
        end = _end(text, inside, line)
        before = text[at:begin].lstrip() if trim else text[at:begin]
        marked = text[inside : inside + 1] == "-" and text[inside + 1 : inside + 2].isspace()
        before = before.rstrip() if marked else before
        if before:
            yield before
        trim = text[end - 3 : end - 2] == "-" and text[end - 4 : end - 3].isspace()
        comment = _COMMENT.match(text, inside)
        body = "" if comment else text[inside + marked : end - 2 - trim]
        yield line, _tokens(line, body)
        line += text.count("\n", begin, end)
        at = end
    rest = text[at:].lstrip() if trim else text[at:]
    if rest:
        yield rest


def _end(text: str, inside: int, line: int) -> int:
    """Return where an action ends, behind its braces; braces within its texts and comments do not count."""
    comment = _COMMENT.match(text, inside)
    if comment:
        return comment.end()
    end = next((found.end() for found in _END.finditer(text, inside) if found[0] == "}}"), None)
    if end is None:
        raise _fault(line, "'{{' is not closed")
    return end


def _tokens(line: int, text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise _fault(line, f"{text[at:].split()[0]!r} was not expected")
        found.append(_Token(str(match.lastgroup), match[0], at == 0 or text[at - 1].isspace() or text[at - 1] == "("))
        at = match.end()
    return found


def _string(line: int, text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        raise _fault(line, f"the text {text} has an escape that is not known") from None


def _fault(line: int, what: str) -> InvalidInput:
    return InvalidInput(f"Line {line} of the template: {what}.", remedy="Templates are written in Go's language.")


def _cut(nodes: tuple[Node, ...], field: str) -> tuple[tuple[Node, ...], bool]:
    """Return the nodes up to the first that reads a field, and whether one does."""
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Text | Jump):
            kept.append(node)
            continue
        if field.lower() in {name.lower() for name in go_values.names_of(node.pipeline)}:
            kept.append(node if isinstance(node, Output) else replace(node, body=(), otherwise=()))
            return tuple(kept), True
        if isinstance(node, Block):
            body, found = _cut(node.body, field)
            otherwise, found_there = ((), True) if found else _cut(node.otherwise, field)
            kept.append(replace(node, body=body, otherwise=otherwise))
            if found or found_there:
                return tuple(kept), True
            continue
        kept.append(node)
    return tuple(kept), False
