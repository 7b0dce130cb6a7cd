"""Arithmetic as people write it, evaluated exactly."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from smidgen.errors import InvalidInput

_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LONGEST, _MOST_POWER, _MOST_DIGITS = 200, 64, 400
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "^", ",": ""})
_EXPRESSION = re.compile(r"[\d(√$€£.+\-−–][\d\s.,+\-−–*×·/÷^()%$€£xX√]*$")

_OPERATION = re.compile(r"[\d)%]\s*[-+−–*×·/÷^xX]\s*[\d(√$€£]|√|\d\s*%\s*[*×x]")


def evaluate(text: str) -> Fraction:
    """Return the exact value of an expression of numbers, + - * / ^, brackets, percent and square roots of squares.

    Currency signs and commas between thousands do not count; "x" between numbers multiplies.

    Raises:
        InvalidInput: It is no such expression, divides by zero, or is too large.

    Example:
        >>> evaluate("2 + 3 × 4"), evaluate("1,200 / 7"), evaluate("15% * 80")
        (Fraction(14, 1), Fraction(1200, 7), Fraction(12, 1))
    """
    plain = re.sub(r"[$€£]", "", text).translate(_SIGNS)
    plain = re.sub(r"(?<=[\d)\s])[xX](?=[\s\d(])", "*", plain)
    plain = re.sub(r"√\s*(\d+(?:\.\d+)?|\([^()]*\))", r"(\1)**(1/2)", plain)
    plain = re.sub(r"(\d+(?:\.\d+)?)\s*%", r"(\1/100)", plain).replace("^", "**")
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain).strip()
    if len(plain) > _LONGEST:
        raise InvalidInput(f"An expression of {len(plain)} characters is too long to be evaluated.")
    try:
        return _value(ast.parse(plain, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError, MemoryError) as error:
        raise InvalidInput(f"{text.strip()!r} cannot be evaluated: {error}.") from None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _bounded(_OPERATIONS[type(node.op)](_value(node.left), _value(node.right)))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _bounded(_power(_value(node.left), _value(node.right)))
    raise ValueError("it is no arithmetic")


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_DIGITS * 4:
        raise ValueError("the value is too large")
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if abs(exponent) > _MOST_POWER:
        raise ValueError("the power is too large")
    if exponent.denominator == 1:
        return base ** int(exponent)
    if exponent.denominator == 2 and base >= 0:
        roots = math.isqrt(base.numerator), math.isqrt(base.denominator)
        if (roots[0] ** 2, roots[1] ** 2) == (base.numerator, base.denominator):
            return Fraction(*roots) ** exponent.numerator
    raise ValueError("the root is no fraction")


def plain(value: Fraction) -> str:
    """Write a value as people do: whole, with at most 4 decimals where that is exact, else rounded to 4.

    Example:
        >>> plain(Fraction(14)), plain(Fraction(5, 4)), plain(Fraction(1, 3))
        ('14', '1.25', '0.3333')
    """
    if value.denominator == 1:
        return str(value.numerator)
    scaled = round(value * 10_000)
    sign, (whole, part) = "-" if scaled < 0 else "", divmod(abs(scaled), 10_000)
    return f"{sign}{whole}.{part:04d}".rstrip("0").rstrip(".")


def expression_before(text: str) -> str | None:
    """Return the expression with at least one operation that a text ends with; None where there is none.

    Words between the numbers, as their units, do not count.

    Example:
        >>> expression_before("She pays 3 * $4 + 2"), expression_before("In 2020"), expression_before("so x")
        ('3 * $4 + 2', None, None)
        >>> expression_before("We need 12 (apples) + 7 bags")
        '12 + 7'
    """
    bare = re.sub(r"\(\s*[^\W\d][^()\d]*\)|(?!\b[xX]\b)[^\W\d_]+", " ", text)
    found = _EXPRESSION.search(re.sub(r"\s+", " ", bare).rstrip())
    whole = found[0] if found else ""
    for begin in range(len(whole)):
        if begin and (whole[begin - 1].isdigit() or whole[begin].isspace()):
            continue
        try:
            evaluate(whole[begin:])
        except InvalidInput:
            continue
        part = whole[begin:].strip()
        return part if _OPERATION.search(part) else None
    return None
