"""GSM8K: word problems of primary school."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.benchmarks._benchmark import Answer, MessageBenchmark, Question

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Gsm8k(MessageBenchmark):
    r"""GSM8K: word problems of primary school, solved in writing.

    Five worked problems, then ``Question: …\nAnswer:``; the model writes up to 256 tokens. ``exact_match`` compares the
    number after ``####``, ``exact_match_flexible`` the last number of the text; as the task gsm8k (version 3.0) of
    lm-evaluation-harness 0.4.13 has it. Source: Cobbe et al. 2021, arXiv 2110.14168.

    Example:
        >>> strict("3 + 4 = 7\n#### 7."), flexible("That makes $1,007 in all.")
        ('7.', '$1,007')
    """

    expects: ClassVar[str] = "question and answer, which ends with #### and the number"
    source: ClassVar[str] = "openai/gsm8k, main, split test; worked problems from split train"
    shots: ClassVar[int] = 5
    writes: ClassVar[int] = 256
    stops: ClassVar[tuple[str, ...]] = ("Question:", "</s>", "<|im_end|>")
    main: ClassVar[str] = "exact_match"

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        prompt, answer = f"Question: {record.text('question')}\nAnswer:", record.text("answer")
        if strict(answer) == _NOTHING:
            raise record.error("has an 'answer' without #### and a number")
        return Question(prompts=(prompt,), references=(answer,), worked=f"{prompt} {answer}", message=self.chat)

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Compare the number that was written with the right one."""
        right = _plain(question.references[0])
        return {
            "exact_match": float(_plain(strict(answer.text)) == right),
            "exact_match_flexible": float(_plain(flexible(answer.text)) == right),
        }


_NOTHING = "[invalid]"


def strict(text: str) -> str:
    """Return the first number after ``####``."""
    found = re.search(r"#### (\-?[0-9\.\,]+)", text)
    return found[1].strip() if found else _NOTHING


def flexible(text: str) -> str:
    """Return the last number of a text."""
    found = [each.group() for each in re.finditer(r"-?[$0-9.,]{2,}|-?[0-9]+", text)]
    return found[-1].strip() if found else _NOTHING


def _plain(text: str) -> str:
    """Leave of an answer the number that is compared."""
    for pattern in (",", r"\$", "(?s).*#### ", r"\.$"):
        text = re.sub(pattern, "", text)
    return text.lower()
