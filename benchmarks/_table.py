"""What the tables share: rows that are measured once and kept, trainings that go on, figures, the command line."""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from smidgen.data import builtin
from smidgen.data.packing import windows
from smidgen.data.rows import Corpus
from smidgen.errors import SmidgenError
from smidgen.evaluate.quality import compare_models
from smidgen.models.files import atomic_write, make_folder
from smidgen.models.model import Model
from smidgen.progress import Event
from smidgen.shrink.distill.distill import Distill, DistillResult


def report(event: Event) -> None:
    """Show progress to a person: one line on stderr that is written over."""
    if sys.stderr.isatty():
        print(f"\r\033[K{event.stage} {event.done:.0f} {event.unit} {event.note}", end="", file=sys.stderr, flush=True)


class Rows:
    """The rows of a table in a folder; each is known by all that it depends on.

    Args:
        asked: The command line; ``work`` is the folder.
        names: Options that every figure depends on.
        more: What else every figure depends on.
    """

    def __init__(self, asked: argparse.Namespace, names: Iterable[str], more: dict[str, Any]) -> None:
        self.work: Path = asked.work
        self.setting = {name: getattr(asked, name) for name in names} | more

    def key(self, *own: Any) -> str:
        """Return what a row is known by."""
        return hashlib.sha256(json.dumps([self.setting, *own], sort_keys=True).encode()).hexdigest()[:24]

    def once(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a row's figures, measured now or by an earlier run."""
        path = self.work / f"row-{key}.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        row = measure()
        atomic_write(path, json.dumps(row))
        return row

    def train(self, key: str, distill: Distill, student: Model, teacher: Model, rows: torch.Tensor) -> DistillResult:
        """Train without a watch, so that the last weights count; goes on where it was stopped."""
        place = self.work / f"training-{key}"
        return distill.run(student, teacher, rows, rows[:0], checkpoints=place, progress=report)


def measure(
    source: Model, model: Model, names: Iterable[str], count: int, text: Corpus | None = None
) -> dict[str, float]:
    """Measure a model against the source on held-out text, the built-in one where none is given.

    Args:
        source: What it was made from.
        model: What is measured.
        names: The figures of `smidgen.evaluate.quality.Quality` to return.
        count: Windows of 512 tokens at most.
        text: What neither was trained on.
    """
    length = min(512, model.anatomy.context_length)
    read = windows(text or builtin.held_out(), model.tokenizer, length=length, count=count)
    kept = model.lineage.kept_tokens
    quality = compare_models(source, model, read, name="held-out", kept_tokens=kept, progress=report)
    return {name: getattr(quality, name) for name in names}


def parser(purpose: str, work: str) -> argparse.ArgumentParser:
    """Return the options that every table has.

    Args:
        purpose: What is compared, in a sentence.
        work: Name of the folder for temporary files that keeps the rows where none is given.
    """
    found = argparse.ArgumentParser(description=purpose)
    found.add_argument("--model", default="smollm2:135m")
    found.add_argument("--tokens", type=int, default=15_360, help="tokens to heal with")
    found.add_argument("--batch", type=int, default=4, help="rows per step")
    found.add_argument("--length", type=int, default=256, help="tokens per row")
    found.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    found.add_argument("--calibration", type=int, default=24, help="windows to prune by")
    found.add_argument("--windows", type=int, default=24, help="windows to measure on")
    found.add_argument("--threads", type=int, help="threads of the arithmetic")
    found.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / work)
    found.add_argument("--json", action="store_true")
    return found


def steps_of(asked: argparse.Namespace) -> int:
    """Return the steps in which the asked count of tokens is read."""
    return max(1, asked.tokens // (asked.batch * asked.length))


def run(
    asked: argparse.Namespace,
    measured: Callable[[], list[dict[str, Any]]],
    table: Callable[[list[dict[str, Any]]], list[str]],
) -> int:
    """Measure what is asked for, print it, and return the exit code."""
    if asked.threads:
        torch.set_num_threads(asked.threads)
    try:
        make_folder(asked.work)
        rows = measured()
    except SmidgenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(rows, indent=1) if asked.json else "\n".join(table(rows)))
    return 0
