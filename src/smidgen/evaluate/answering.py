"""How a model answers the questions of a benchmark: by the likelihood of given endings, or by writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from smidgen.evaluate.benchmarks._benchmark import Answer, Question
from smidgen.inference.branches import shared_beginning

if TYPE_CHECKING:
    from pathlib import Path

    from smidgen.inference.engine import Engine
    from smidgen.inference.scoring import PromptScorer


class Answering(Protocol):
    """Answers questions."""

    def answer(self, before: str, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions that all stand behind the same text."""
        ...


class Likelihoods:
    """Answers by the likelihood of each ending.

    Prompt and ending are cut into tokens together, and the ending is what follows as many tokens as the prompt has
    alone; white space at the prompt's end counts to the ending. What is longer than the context loses its beginning.
    All this is as lm-evaluation-harness 0.4.13 does it with the model ``hf``.

    Args:
        scorer: The opened model.
    """

    def __init__(self, scorer: PromptScorer) -> None:
        self._scorer = scorer
        self.cut = 0

    def answer(self, before: str, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions that all stand behind the same text."""
        known: dict[str, list[int]] = {}
        pairs = [
            self._tokens(f"{before}{prompt}", ending, known)
            for question in questions
            for prompt, ending in zip(question.prompts, question.endings, strict=True)
        ]
        # Up to where the text before ends, and not as far as it happens to go: equal bits whatever is asked together.
        shared = shared_beginning(
            [[*self._scorer.prompt_tokens(before.rstrip()), -1], *(prompt for prompt, _ in pairs)]
        )
        asked: list[tuple[list[int], list[list[int]]]] = []
        for prompt, ending in pairs:
            if asked and asked[-1][0] == prompt[shared:]:
                asked[-1][1].append(ending)
            else:
                asked.append((prompt[shared:], [ending]))
        rows = self._scorer.endings(asked, shared=pairs[0][0][:shared])
        found = iter([each for row in rows for each in row])
        answers = []
        for question in questions:
            own = [next(found) for _ in question.endings]
            answers.append(Answer(tuple(each.log_probability for each in own), tuple(each.greedy for each in own)))
        return answers

    def _tokens(self, prompt: str, ending: str, known: dict[str, list[int]]) -> tuple[list[int], list[int]]:
        bare = prompt.rstrip()
        if bare not in known:
            known[bare] = self._scorer.prompt_tokens(bare)
        context = known[bare]
        following = self._scorer.prompt_tokens(prompt + ending)[len(context) :]
        excess = len(context) + len(following) - self._scorer.context - 1
        if excess > 0:
            self.cut += 1
            context = context[excess:]
        return context, following


class Writing:
    """Answers by continuing each prompt, or as a message where the question is one, always with the likeliest token.

    Args:
        engine: The opened model.
        tokens: Most tokens of an answer.
        stops: Texts at which an answer ends.
    """

    def __init__(self, engine: Engine, tokens: int, stops: Sequence[str]) -> None:
        from smidgen.inference.options import GenerationOptions

        self._engine = engine
        self._options = GenerationOptions(
            temperature=0, seed=0, num_predict=tokens, repeat_penalty=1.0, stop=tuple(stops)
        )

    def answer(self, before: str, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions that all stand behind the same text."""
        return [Answer(text=self._write(f"{before}{question.prompts[0]}", question)) for question in questions]

    def _write(self, prompt: str, question: Question) -> str:
        from smidgen.inference import images
        from smidgen.inference.engine import Message

        if question.message:
            seen = tuple(map(images.read, question.images))
            chunks = self._engine.chat([Message("user", prompt, seen)], self._options)
        else:
            chunks = self._engine.complete(prompt, self._options)
        return "".join(chunk.text for chunk in chunks)


class Reading:
    """Answers with the words that stand in a question's images, whatever the question is; no model takes part.

    Args:
        threads: Threads to compute with.

    Raises:
        MissingExtra: The packages that read documents are not installed.
    """

    def __init__(self, threads: int = 1) -> None:
        from smidgen.documents.ocr import Ocr

        self._ocr = Ocr(threads)

    def answer(self, before: str, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions that all stand behind the same text."""
        return [Answer(text="\n".join(map(self._read, question.images))) for question in questions]

    def _read(self, path: Path) -> str:
        import io

        from PIL import Image

        from smidgen.inference import images

        with Image.open(io.BytesIO(images.read(path))) as image:
            words = self._ocr.read(image.convert("RGB"))[-1]
        return " ".join(word.text for word in words)
