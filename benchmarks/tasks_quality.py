"""Claim: a small model that is only asked tells labels poorly, and the same model trained on a task tells them well.

    python benchmarks/tasks_quality.py --data FOLDER [--only SET] [--kind KIND] [--rows N] [--train-rows N] [--fit SIZE]

``FOLDER`` holds ``sms-spam.jsonl`` and ``offensive-tweets-6000.jsonl`` (``text`` and ``label``), and
``pii-classification-1000.jsonl`` (``query`` with the passage in quotes, and ``gold``). Of each set a share is held out,
alike over the labels, and no text stands on both sides. Kinds of rows:

    asked        the default model, by the likelihoods of the labels and contextual calibration
    calibrated   the same with temperature and biases fitted, each fifth of the held-out texts by the others
    specialised  ``smidgen task classify --train FILE --fit SIZE``
    rules        for the PII set alone: whether ``smidgen task redact`` finds anything, by rules
    redact       the same by rules and model together

Each row tells accuracy and macro F1, the same where every label counts alike (``--even``), those of always saying the
commonest label, size, seconds of processor time to train, texts per second (processor time of this process and its
children; of the specialised model by the clock), and of redacted texts how many still hold what a rule finds.
Stopped at any moment, the same command goes on: finished rows are kept in ``--work``.
"""

import argparse
import hashlib
import json
import re
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from smidgen.data.records import Record, read_records
from smidgen.data.remembering import Notebook
from smidgen.errors import SmidgenError
from smidgen.evaluate.labelled import label_figures, share_right
from smidgen.progress import Event
from smidgen.recipe.lessons import Lesson, read_lessons
from smidgen.recipe.specialise import Training, divided, specialise
from smidgen.tasks.jobs.classify import Classify
from smidgen.tasks.opened_model import OpenedModel

SETS = {
    "spam": ("sms-spam.jsonl", "kind of message", ("ham", "spam")),
    "offensive": ("offensive-tweets-6000.jsonl", "tone", ("neither", "offensive", "hate")),
    "pii": ("pii-classification-1000.jsonl", "answer to whether the text holds personal data", ("no", "yes")),
}
KINDS = ("asked", "calibrated", "specialised", "rules", "redact")
TOGETHER = 16
PASSAGE = re.compile(r"Passage: '''\s*(.*?)\s*'''", re.DOTALL)


def lessons_of(path: Path, task: Classify) -> list[Lesson]:
    """Read a set's texts and labels."""
    records = read_records(path)
    if records[0].has("query"):
        records = tuple(Record(each.place, _passage(each)) for each in records)
    return read_lessons(task, records)


def _passage(record: Record) -> dict[str, Any]:
    found = PASSAGE.search(record.text("query"))
    return {"text": found[1] if found else record.text("query"), "label": ("no", "yes")[record.number("gold", count=2)]}


def processor_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class Bench:
    """One set of texts with its task."""

    def __init__(self, asked: argparse.Namespace, name: str) -> None:
        self.asked, self.name = asked, name
        file, about, labels = SETS[name]
        self.task = Classify(labels=labels, about=about)
        self.training = Training(
            model=asked.model,
            fit=asked.fit,
            within=asked.within,
            rows=asked.train_rows,
            epochs=asked.epochs,
            learning_rate=asked.learning_rate,
            method=asked.method,
            batch_size=asked.batch_size,
            upper=asked.upper,
            held_out=asked.held_out,
            threads=asked.threads,
            seed=asked.seed,
        )
        self.lessons = lessons_of(asked.data / file, self.task)
        _, held = divided(self.lessons, self.training)
        self.held = held[: asked.rows]
        self.right = [labels.index(lesson.answer) for lesson in self.held]

    def row(self, kind: str) -> dict[str, Any]:
        """Measure one kind of row."""
        began = processor_seconds()
        found: dict[str, Any] = self.asked_alone() if kind == "asked" else getattr(self, kind)()
        seconds = processor_seconds() - began
        found.setdefault("texts_per_second", len(self.held) / seconds)
        return {"set": self.name, "kind": kind, "texts": len(self.held), **found}

    def _likelihoods(self) -> tuple[list[list[float]], list[list[float]], int]:
        """Return l and p of every held-out text, and the bytes of the model."""
        values, probabilities = [], []
        with OpenedModel(self.asked.model, threads=self.asked.threads) as model:
            for begin in range(0, len(self.held), TOGETHER):
                texts = [lesson.text for lesson in self.held[begin : begin + TOGETHER]]
                report(Event(f"asking about {self.name}", begin, len(self.held), "texts"))
                if self.kind == "calibrated":
                    values += self.task.likelihoods(texts, model)
                else:
                    probabilities += self.task.probabilities(texts, model)
            return values, probabilities, 0 if model.local is None else model.local.bytes

    def asked_alone(self) -> dict[str, Any]:
        """Take the likeliest label after contextual calibration."""
        self.kind = "asked"
        _, found, size = self._likelihoods()
        return share_right(
            [max(range(len(row)), key=row.__getitem__) for row in found], self.right, self.task.labels
        ) | {"bytes": size}

    def calibrated(self) -> dict[str, Any]:
        """Fit temperature and biases."""
        self.kind = "calibrated"
        values, _, size = self._likelihoods()
        return label_figures(values, self.right, self.task.labels)[0] | {"bytes": size}

    def specialised(self) -> dict[str, Any]:
        """Train, make and measure as the command does."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{self.name}.jsonl"
            rows = [json.dumps({"text": lesson.text, "label": lesson.answer}) for lesson in self.lessons]
            path.write_text("\n".join(rows) + "\n", encoding="utf-8")
            name = f"bench-{self.name}"
            made = specialise("classify", self.task, path, name=name, training=self.training, progress=report)
        return made.figures | {"bytes": made.bytes, "training_seconds": made.seconds, "texts": made.figures["rows"]}

    def rules(self) -> dict[str, Any]:
        """Say yes where a rule finds something."""
        return self._redacted(names=False)

    def redact(self) -> dict[str, Any]:
        """Say yes where a rule or the model finds something."""
        return self._redacted(names=True)

    def _redacted(self, *, names: bool) -> dict[str, Any]:
        from smidgen.tasks.jobs.redact import Redact

        task, given, left_in = Redact(names=names), [], 0
        with OpenedModel(self.asked.model, threads=self.asked.threads) as model:
            for number, lesson in enumerate(self.held):
                report(Event(f"redacting {self.name}", number, len(self.held), "texts"))
                result = task.done(lesson.text, model)
                given.append(int(bool(result["found"])))
                left_in += task.rules_only(result["text"]) != result["text"]
        return share_right(given, self.right, self.task.labels) | {"left_in": left_in}


def report(event: Event) -> None:
    """Show progress to a person: one line on stderr that is written over."""
    if sys.stderr.isatty():
        share = f" {event.done:.0f} of {event.total:.0f} {event.unit}" if event.total else ""
        print(f"\r\033[K{event.stage}{share} {event.note}", end="", file=sys.stderr, flush=True)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How well tasks are done, asked and specialised.")
    parser.add_argument("--data", type=Path, help="the folder of the three sets")
    parser.add_argument("--only", choices=SETS, action="append", help="this set alone")
    parser.add_argument("--kind", choices=KINDS, action="append", help="this kind of row alone")
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--rows", type=int, help="measure on only so many held-out texts")
    parser.add_argument("--train-rows", type=int, help="train on only so many, as even over the labels as they allow")
    parser.add_argument("--epochs", type=float, default=Training.epochs)
    parser.add_argument("--learning-rate", type=float, default=Training.learning_rate)
    parser.add_argument("--method", default=Training.method, help="lora, dora, qlora or full")
    parser.add_argument("--batch-size", type=int, default=Training.batch_size)
    parser.add_argument("--upper", type=float, default=Training.upper, help="share of the blocks that is trained")
    parser.add_argument("--held-out", type=float, default=0.2)
    parser.add_argument("--fit", help="largest size of the specialised model; without it 8 bits")
    parser.add_argument("--within", help="time for cutting and healing it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "smidgen-benchmarks")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    asked = arguments(words)
    if asked.data is None:
        print("Not measured: give the folder of the sets with --data.")
        return 0
    notebook = Notebook(asked.work / "tasks-quality.jsonl")
    try:
        rows = list(measured(asked, notebook))
    except SmidgenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if asked.json:
        print(json.dumps(rows, indent=2))
        return 0
    heads = ("set", "kind", "texts", "accuracy", "macro F1", "even", "its F1", "commonest", "its F1", "bytes")
    heads = (*heads, "train s", "texts/s", "left in")
    print("".join(f"{head:>12}" for head in heads))
    for row in rows:
        ways = (row, row.get("even"), row["majority"])
        figures = ["-" if way is None else f"{way[name]:.4f}" for way in ways for name in ("accuracy", "macro_f1")]
        rest = [row.get("bytes", "-"), round(row.get("training_seconds", 0)) or "-", f"{row['texts_per_second']:.2f}"]
        rest += [row.get("left_in", "-")]
        print("".join(f"{cell:>12}" for cell in (row["set"], row["kind"], row["texts"], *figures, *rest)))
    return 0


def measured(asked: argparse.Namespace, notebook: Notebook) -> list[dict[str, Any]]:
    """Return the rows that are asked for; those that were measured before are not measured again."""
    rows = []
    for name in asked.only or SETS:
        bench: Bench | None = None
        for kind in asked.kind or KINDS:
            if kind in ("rules", "redact") and name != "pii":
                continue
            trained = [asked.train_rows, asked.fit, asked.within, asked.epochs, asked.learning_rate]
            trained = [*trained, asked.method, asked.batch_size, asked.upper] if kind == "specialised" else []
            setting = [name, kind, asked.model, asked.rows, asked.held_out, asked.seed, asked.threads, *trained]
            key = hashlib.sha256(json.dumps(setting).encode()).hexdigest()
            if key not in notebook.known:
                bench = bench or Bench(asked, name)
                notebook.keep(key, bench.row(kind))
            rows.append(notebook.known[key])
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
