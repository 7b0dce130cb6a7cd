"""Word problems step by step, every sum checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smidgen.errors import InvalidInput
from smidgen.inference.engine import Message
from smidgen.tasks.arithmetic import evaluate, expression_before, plain
from smidgen.tasks.task import LanguageModel, Manner, Task, Working, require_above, require_text, said

_MOST_SUMS = 24
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?%?")


@dataclass(frozen=True)
class Math(Task):
    """Solve a problem step by step; what stands before every "=" is evaluated exactly, and its value written.

    The model chooses the steps; where it writes an expression of numbers and "=", the value behind comes from an exact
    evaluator and not from the model (a calculator in the loop, Cobbe 2021, arXiv 2110.14168). So sums are right, which
    does not say that the steps are. A bare expression is evaluated without asking the model.

    Attributes:
        tokens: Most tokens of the solution.

    Example:
        >>> finished_sums("12 * (3 + 4)")
        {'text': '12 * (3 + 4) = 84', 'answer': '84', 'sums': [{'expression': '12 * (3 + 4)', 'value': '84'}]}
    """

    tokens: int = 384

    def __post_init__(self) -> None:
        require_above("tokens", self.tokens, 8)

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked."""
        order = (
            "Solve the problem step by step. Write each calculation as an equation of numbers, such as 3 * 4 = 12. "
            "End with: The answer is"
        )
        return said(("system", order), ("user", text))

    def run(self, text: str, model: LanguageModel) -> Working:
        """Solve a problem, piece by piece."""
        text = require_text(text)
        known = finished_sums(text)
        if known is not None:
            yield str(known["text"])
            return known
        written, sums = "", list[dict[str, str]]()
        while len(sums) < _MOST_SUMS:
            left = self.tokens - model.count(written)
            if left < 1:
                break
            before, found = len(sums), written
            for piece in model.write(self.turns(text), Manner(left, begun=written)):
                cut, value = self._checked(found, piece, sums)
                found += cut
                yield cut
                if value:
                    found += value
                    yield value
                    break
            written = found
            if len(sums) == before:
                break
        return {"text": written.strip(), "answer": _answer(written), "sums": sums}

    def shown(self, result: Mapping[str, Any]) -> str:
        """Say how many sums were evaluated."""
        count = len(result["sums"])
        return f"({count} {'sum was' if count == 1 else 'sums were'} evaluated exactly.)" if count else ""

    def _checked(self, found: str, piece: str, sums: list[dict[str, str]]) -> tuple[str, str]:
        """Return a piece up to an "=" behind a sum, and the value to write there; the whole piece and "" else."""
        for match in re.finditer("=", piece):
            expression = expression_before((found + piece[: match.start()]).rpartition("\n")[2].rpartition("=")[2])
            if expression is not None:
                value = plain(evaluate(expression))
                sums.append({"expression": expression, "value": value})
                return piece[: match.end()], f" {value}"
        return piece, ""


def finished_sums(text: str) -> dict[str, Any] | None:
    """Return the result for a bare expression; None where the text is none."""
    bare = text.strip().rstrip("?= ")
    try:
        value = plain(evaluate(bare))
    except InvalidInput:
        return None
    return {"text": f"{bare} = {value}", "answer": value, "sums": [{"expression": bare, "value": value}]}


def _answer(written: str) -> str | None:
    """Return the number behind "answer is", else the last number."""
    behind = re.split(r"answer is|Answer:", written)
    numbers = _NUMBER.findall(behind[-1]) if len(behind) > 1 else []
    numbers = numbers[:1] or _NUMBER.findall(written)[-1:]
    return numbers[0].replace(",", "").lstrip("$") if numbers else None
