"""A teacher writes more examples of a described task; those that it finds likely itself are kept."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from smidgen.data.curation import Curation, Datasheet, describe
from smidgen.data.rows import Corpus, Row
from smidgen.errors import InvalidInput
from smidgen.progress import Event, Progress, silent

if TYPE_CHECKING:
    from smidgen.models.model import Model

_FIELDS = {"Text": "text", "Input": "prompt", "Output": "completion", "Label": "label"}
_FIELD = re.compile(rf"^({'|'.join(_FIELDS)}): ?", re.MULTILINE)
_BORDER = "###"


class Writer(Protocol):
    """Who writes and judges."""

    def write(self, prompt: str, seed: int) -> str:
        """Continue a prompt; the same seed gives the same words."""
        ...

    def score(self, prompt: str, text: str) -> float:
        """Return the mean log-probability per token of a text after a prompt, in nats."""
        ...


@dataclass(frozen=True)
class Writing:
    """How examples are written.

    Each prompt names the task and shows some seed examples, drawn anew every time. What comes back is read as an
    example of the seeds' shape, then cleaned together with the seeds, and of the rest the share stays that the teacher
    finds likeliest, given the task and other seeds than those it was written from. Sources: Self-Instruct,
    arXiv 2212.10560; the filter by the writer's own likelihood as in arXiv 2406.08464 (there by a reward).

    Attributes:
        task: What the examples are for, in a sentence or two.
        count: Prompts.
        shown: Seed examples in each.
        keep: Share of the usable examples that stays, above 0.
        seed: Of everything random.

    Raises:
        InvalidInput: A value is out of range.
    """

    task: str
    count: int = 100
    shown: int = 3
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.task.strip():
            raise InvalidInput("The task is not described.", remedy="Say in a sentence what the examples are for.")
        if self.count < 1 or self.shown < 1 or not 0 < self.keep <= 1:
            raise InvalidInput(
                f"{self.count} prompts with {self.shown} examples, of which {self.keep} stay, cannot be."
            )

    def require_enough(self, seeds: Corpus) -> list[Row]:
        """Return the seeds that can be shown.

        Raises:
            InvalidInput: There are too few.
        """
        usable = [row for row in seeds.rows if row.messages is None]
        if len(usable) <= self.shown:
            raise InvalidInput(
                f"{seeds.name} has {len(usable)} examples to show, and more than {self.shown} are needed.",
                remedy="Give more seed examples (texts, or prompts with completions).",
            )
        return usable


def write_examples(
    seeds: Corpus,
    writing: Writing,
    writer: Writer,
    *,
    curation: Curation | None = None,
    held_out: Corpus | None = None,
    progress: Progress = silent,
) -> tuple[Corpus, Datasheet]:
    """Let a teacher write examples like the seeds.

    Args:
        seeds: Examples by people, of one shape: texts, with or without labels, or prompts with completions.
        writing: How.
        writer: The teacher.
        curation: What is removed besides; examples that repeat a seed or each other always go.
        held_out: A text to be measured on; nothing of it may come back.
        progress: Receives one event per prompt and one per example that is judged.

    Returns:
        The written examples without the seeds, likeliest first, and the datasheet of their cleaning.

    Raises:
        InvalidInput: There are too few seeds, they are chats, or nothing usable was written.
    """
    usable = writing.require_enough(seeds)
    labels = {row.label for row in usable}
    found, sources = [], {}
    for number in range(writing.count):
        shown = random.Random(f"{writing.seed} {number}").sample(range(len(usable)), writing.shown)
        text = writer.write(prompt_of(writing.task, [usable[each] for each in shown]), writing.seed + number)
        row = read_example(text, usable[shown[0]])
        if row is not None and row.label in labels:
            found.append(replace(row, origin=f"written, prompt {number + 1}"))
            sources[found[-1].origin] = shown
        progress(Event("writing examples", number + 1, writing.count, "prompts", f"{len(found)} usable"))
    if not found:
        raise InvalidInput(
            f"Nothing that was written has the shape of {seeds.name}.", remedy="Take a larger teacher, or more prompts."
        )
    together = Corpus(f"{seeds.name} (written by the teacher)", (*usable, *found), seeds.licence)
    cleaned, sheet = describe(together, curation or Curation(), held_out=held_out)
    new = [row for row in cleaned.rows if row.origin in sources]
    scored = []
    for row in new:
        scored.append((_judged(row, usable, sources[row.origin], writing, writer), row))
        progress(Event("judging examples", len(scored), len(new), "examples"))
    scored.sort(key=lambda pair: (-pair[0], pair[1].origin))
    best = [row for _, row in scored[: max(1, round(writing.keep * len(scored)))]]
    if not best:
        raise InvalidInput("Everything that was written repeats the seed examples.", remedy="Take more prompts.")
    return cleaned.with_rows(best), sheet


def _judged(row: Row, seeds: Sequence[Row], shown: Sequence[int], writing: Writing, writer: Writer) -> float:
    """Score an example after other seeds than those it was written from, so that copies of these gain nothing."""
    others = [number for number in range(len(seeds)) if number not in shown]
    chosen = random.Random(f"{writing.seed} {row.plain}").sample(others, min(writing.shown, len(others)))
    return writer.score(prompt_of(writing.task, [seeds[each] for each in chosen]), show_example(row))


def prompt_of(task: str, examples: Iterable[Row]) -> str:
    r"""Return the prompt that asks for one more example.

    Example:
        >>> prompt_of("Sort messages.", [Row("Win!", label="spam")])
        'Sort messages.\n\n### Example 1\nText: Win!\nLabel: spam\n\n### Example 2\n'
    """
    shown = [show_example(row) for row in examples]
    parts = [f"{_BORDER} Example {number}\n{text}\n\n" for number, text in enumerate(shown, 1)]
    return f"{task.strip()}\n\n{''.join(parts)}{_BORDER} Example {len(shown) + 1}\n"


def show_example(row: Row) -> str:
    """Return an example as prompts show it."""
    fields = {name: getattr(row, part) for name, part in _FIELDS.items()}
    return "\n".join(f"{name}: {value.strip()}" for name, value in fields.items() if value is not None)


def read_example(text: str, like: Row) -> Row | None:
    r"""Read what was written as an example of another one's shape; None where it is none.

    Example:
        >>> read_example("Text: Hello\nLabel: ham\n\n### Example 5", Row("x", label="spam")).label
        'ham'
    """
    parts = _FIELD.split(text.split(_BORDER)[0])[1:]
    found: dict[str, Any] = {_FIELDS[name]: value.strip() for name, value in zip(parts[::2], parts[1::2], strict=True)}
    wanted = {part for part in _FIELDS.values() if getattr(like, part) is not None}
    if set(found) != wanted or not all(found.values()):
        return None
    return Row(**found)


@dataclass(frozen=True)
class ModelWriter:
    """A model in memory that writes and judges.

    Attributes:
        model: The teacher; it is not changed.
        longest: Tokens of an example at most.
        temperature: At which it writes.
    """

    model: Model
    longest: int = 200
    temperature: float = 0.8

    def __post_init__(self) -> None:
        self.check(self.longest, self.temperature)

    @staticmethod
    def check(longest: int, temperature: float) -> None:
        """Refuse a manner of writing that cannot be.

        Raises:
            InvalidInput: No token may be written, or the temperature is not above 0.
        """
        if longest < 1 or not 0 < temperature < float("inf"):
            raise InvalidInput(f"Examples of {longest} tokens at a temperature of {temperature} cannot be written.")

    def write(self, prompt: str, seed: int) -> str:
        """Continue a prompt."""
        import torch
        from transformers import GenerationConfig

        tokenizer, module = self.model.tokenizer, self.model.module
        ids = self._ids(prompt)
        room = self.model.anatomy.context_length - ids.shape[1]
        if room < 1:
            raise InvalidInput(
                f"{ids.shape[1]:,} tokens of prompt fill the teacher's context.", remedy="Show fewer seeds."
            )
        end = tokenizer.eos_token_id
        settings: Any = GenerationConfig(
            do_sample=True,
            temperature=self.temperature,
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            max_new_tokens=min(self.longest, room),
            eos_token_id=end,
            pad_token_id=0 if end is None else end,
        )
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            found = module.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        text: str = tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
        return text

    def score(self, prompt: str, text: str) -> float:
        """Return the mean log-probability per token of a text after a prompt."""
        import torch

        given, whole = self._ids(prompt), self._ids(prompt + text)
        whole = whole[:, : self.model.anatomy.context_length]
        with torch.no_grad():
            logits = self.model.module(input_ids=whole, use_cache=False).logits[0, :-1].float()
        scores = logits.log_softmax(-1).gather(1, whole[0, 1:, None])[:, 0]
        return float(scores[given.shape[1] - 1 :].mean())

    def _ids(self, text: str) -> Any:
        import torch

        ids = self.model.tokenizer(text, verbose=False)["input_ids"]
        return torch.tensor([ids], device=self.model.device)
