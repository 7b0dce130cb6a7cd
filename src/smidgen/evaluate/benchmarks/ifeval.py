"""IFEval: instructions whose fulfilment a program can check."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.evaluate.benchmarks import _instructions
from smidgen.evaluate.benchmarks._benchmark import Answer, MessageBenchmark, Question

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Ifeval(MessageBenchmark):
    """IFEval: requests with 25 kinds of instructions that a program can check.

    The model writes up to 1,280 tokens behind the bare prompt, or answers it as a message with ``ifeval:chat=true``. An
    instruction is followed strictly where its check holds of the text, loosely where it holds of the text without
    asterisks, its first line or its last line. ``prompt_level_*`` are the shares of prompts all of whose instructions
    are followed, ``inst_level_*`` the shares of instructions. As the task ifeval (version 4.0) of lm-evaluation-harness
    0.4.13 has it, save how sentences, words in capital letters and languages are told, for which that uses other
    packages. Source: Zhou et al. 2023, arXiv 2311.07911.
    """

    expects: ClassVar[str] = "prompt, instruction_id_list and kwargs, a list of the instructions' values"
    source: ClassVar[str] = "google/IFEval, split train"
    writes: ClassVar[int] = 1280
    main: ClassVar[str] = "prompt_level_strict_acc"

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        names, values = record.texts("instruction_id_list"), record.value("kwargs")
        if not isinstance(values, list) or len(values) != len(names) or not all(isinstance(v, Mapping) for v in values):
            raise record.error(f"has {len(names)} instructions and 'kwargs' that are no list of as many objects")
        checks = [_checked(record, name, given) for name, given in zip(names, values, strict=True)]
        prompt = record.text("prompt")
        return Question(
            prompts=(prompt,), references=tuple(json.dumps(each) for each in checks), worked=prompt, message=self.chat
        )

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Say whether all instructions are followed, and which share of them."""
        strict, loose = _followed(question, answer)
        return {
            "prompt_level_strict_acc": float(all(strict)),
            "prompt_level_loose_acc": float(all(loose)),
        }

    def summary(self, questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
        """Return the shares of instructions that are followed, all together and of each kind."""
        kinds: dict[str, list[tuple[bool, bool]]] = {}
        for question, answer in zip(questions, answers, strict=True):
            names = (json.loads(reference)[0] for reference in question.references)
            for name, *both in zip(names, *_followed(question, answer), strict=True):
                kinds.setdefault(name, []).append((both[0], both[1]))
        pairs = [pair for each in kinds.values() for pair in each]
        return {
            "inst_level_strict_acc": sum(strict for strict, _ in pairs) / len(pairs),
            "inst_level_loose_acc": sum(loose for _, loose in pairs) / len(pairs),
            "instructions": {
                name: {"items": len(each), "strict": sum(pair[0] for pair in each), "loose": sum(p[1] for p in each)}
                for name, each in sorted(kinds.items())
            },
        }


def _checked(record: Record, name: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return an instruction with the values it needs, each of which has been tried once."""
    if name not in _instructions.CHECKS:
        raise InvalidInput(
            f"{record.place} has the instruction {name!r}.",
            remedy=ReferenceNotFound.among("instruction", name, _instructions.CHECKS).remedy,
        )
    needed = _instructions.needs(name)
    missing = [need for need in needed if not given.get(need)]
    if missing:
        raise record.error(f"has the instruction {name!r} without {' and '.join(missing)}")
    values = {need: given[need] for need in needed}
    for relation in (value for need, value in values.items() if need.endswith("relation")):
        if relation not in (_instructions.LEAST, _instructions.LESS):
            raise record.error(f"has the relation {relation!r}, expected 'at least' or 'less than'")
    try:
        _instructions.follows(name, values, "A word.")
    except (TypeError, AttributeError, ValueError, re.error) as error:
        raise record.error(f"has values of {name!r} that cannot be: {error}") from None
    return name, values


def _followed(question: Question, answer: Answer) -> tuple[list[bool], list[bool]]:
    """Return of each instruction whether it is followed strictly, and whether loosely."""
    checks = [json.loads(reference) for reference in question.references]
    versions = _instructions.loosened(answer.text)
    strict = [_instructions.follows(name, values, answer.text) for name, values in checks]
    loose = [
        whole or any(_instructions.follows(name, values, version) for version in versions)
        for whole, (name, values) in zip(strict, checks, strict=True)
    ]
    return strict, loose
