"""Compares models side by side: the same prompts, texts and tasks for all, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput
from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    from smidgen.evaluate.comparing.prompts import Prompt
    from smidgen.evaluate.comparing.results import Comparison
    from smidgen.evaluate.tasks import Exam


@dataclass(frozen=True)
class CompareSetting:
    """How models are compared.

    Attributes:
        texts: Data that the models foretell, as `smidgen.data.loading.load` takes them; the built-in held-out text
            where there are none.
        windows: At most so many windows of 512 tokens of each text; 0 reads no text.
        rounds: How often every prompt is asked; two tell how noisy the machine is.
        tokens: Most tokens of an answer.
        seed: Seed of all chance.
        max_memory: Bytes of memory to stay within; what is free where None.
        weaknesses: Look for the known weaknesses of small models as well, which takes longest.
        fresh: Measure everything anew, and say how the figures moved since the last time.
    """

    texts: tuple[str, ...] = ()
    windows: int = 8
    rounds: int = 2
    tokens: int = 128
    seed: int = 0
    max_memory: int | None = None
    weaknesses: bool = False
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.tokens < 1 or self.windows < 0:
            raise InvalidInput(
                f"{self.rounds} rounds, {self.tokens} tokens and {self.windows} windows cannot be.",
                remedy="Give 1, 1 and 0 at least.",
            )


def compare(
    *models: str,
    prompts: str | Path | Sequence[str | Prompt] | None = None,
    tasks: Sequence[Exam] = (),
    judge: str | None = None,
    setting: CompareSetting | None = None,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Compare models: answers, speed, quality, size; and, where one is named, what a judge thinks.

    A run that was stopped, or whose server died, goes on with the same call: every answer is kept as it comes. A
    model that fails ends its own part only; `Comparison.failed` names it.

    Args:
        *models: Names, folders, ``.gguf`` files, or addresses of models behind servers that speak Ollama's or
            OpenAI's protocol (``http://host:11434/llama3.2``). The first is the one that the others are set against.
        prompts: A file or the prompts themselves; those that come with smidgen where None.
        tasks: Tasks with labels, as `smidgen.evaluate.tasks.read_exam` returns them.
        judge: A model that compares the answers in pairs, both orders each.
        setting: How they are compared.
        threads: Threads to compute with; the physical cores where None.
        offline: Reach no other machine.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: There is no such model, file or task.
        SourceUnavailable: A server does not answer when it is first spoken to.
        OutOfResources: A model does not fit into memory; none was loaded.
        InvalidInput: Fewer than two models, or one twice.

    Example:
        found = smidgen.compare("smollm2:135m", "small/model.gguf", prompts=["Why is the sky blue?"])
        print(found.to_dict()["headline"])
        Path("report.html").write_text(found.to_html())
    """
    from smidgen.evaluate.comparing.contestants import find_contestants
    from smidgen.evaluate.comparing.prompts import read_prompts
    from smidgen.evaluate.comparing.running import Plan, run
    from smidgen.evaluate.measure import read_texts

    if len(models) < 2:
        raise InvalidInput(f"Comparing needs two models at least, not {len(models)}.")
    setting = setting or CompareSetting()
    asked = read_prompts(prompts)
    names = [*models, *([judge] if judge and judge not in models else [])]
    found = find_contestants(names, limit=setting.max_memory, offline=offline, progress=progress)
    contestants = found[: len(models)]
    referee = None if judge is None else next(each for each in found if each.name == judge)
    texts = tuple(read_texts(setting.texts, offline)) if setting.windows else ()
    file = str(prompts) if isinstance(prompts, str | Path) else None
    plan = Plan(tuple(contestants), referee, asked, tuple(tasks), texts, setting, threads, file)
    return run(plan, progress)
