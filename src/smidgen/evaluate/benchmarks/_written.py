"""What benchmarks share whose answers are written freely and compared with references of the user's own rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.benchmarks._benchmark import Benchmark, Question

if TYPE_CHECKING:
    from smidgen.data.records import Record

_PROMPTS = ("prompt", "question", "instruction", "query")
_ANSWERS = ("answer", "answers", "completion", "output", "reference", "references")


class WrittenBenchmark(Benchmark):
    """The model continues the prompt as it stands, up to 256 tokens or a blank line; one reference must be met."""

    expects: ClassVar[str] = "prompt (or question) and answer (or answers, completion): a text or a list of texts"
    source: ClassVar[str] = "your own rows"
    writes: ClassVar[int] = 256
    stops: ClassVar[tuple[str, ...]] = ("\n\n",)

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        prompt = record.text(*_PROMPTS).rstrip()
        listed = isinstance(record.value(*_ANSWERS), list | tuple)
        references = record.texts(*_ANSWERS) if listed else (record.text(*_ANSWERS),)
        return Question(prompts=(prompt,), references=references, worked=f"{prompt} {references[0]}")
