"""Claim: a small model specialised for one task can lose a quarter of its layers and most of its bits and stay right.

    python benchmarks/specialised_spam.py --data sms-spam.jsonl [--rows N] [--work FOLDER] [--threads N] [--json]

The data are text messages with the labels ham and spam, one JSON object a line (``text``, ``label``). They are divided
80/20 by ``--seed``; messages of the test part that also stand in the training part are counted apart. The source is
asked by prompt alone, then fine-tuned on the training part; the fine-tuned model loses ``--cut`` of its layers, is
healed on the same data, and quantized. Every model is written as GGUF and answers through the engine that users get,
greedily; the first of the two words in its answer counts, and an answer with neither is wrong.

With all rows the claim holds where the shrunk model is right in at least 97% of the test messages and at most one
point behind the fine-tuned one; otherwise the exit code is 1. Stopped at any moment, the same command goes on: models
and answers are kept in ``--work``. Without ``--data`` nothing is measured.
"""

import argparse
import hashlib
import json
import os
import random
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from smidgen.data.loading import load as load_data
from smidgen.data.resolve import CalibrationData
from smidgen.data.rows import Corpus, Row
from smidgen.errors import SmidgenError
from smidgen.export import gguf
from smidgen.inference.engine import Message, open_engine
from smidgen.inference.options import GenerationOptions
from smidgen.models.load import load
from smidgen.models.model import Model
from smidgen.progress import Event
from smidgen.recipe.materials import Materials
from smidgen.recipe.recipe import Step
from smidgen.recipe.runner import Runner

LABELS = ("ham", "spam")
INSTRUCTION = "Is this text message spam or ham? Answer with one word.\n\n"
LEAST_ACCURACY, MOST_BEHIND = 0.97, 0.01
CHUNK = 50
"""Answers after which they are written to disk."""


def divided(corpus: Corpus, seed: int, rows: int | None) -> tuple[list[Row], list[Row]]:
    """Shuffle, take some rows, and divide them 80/20 into prompts with answers to train and to test on."""
    chosen = [Row(prompt=INSTRUCTION + (row.text or ""), completion=row.label, label=row.label) for row in corpus.rows]
    random.Random(seed).shuffle(chosen)
    chosen = chosen[:rows]
    return chosen[: round(0.8 * len(chosen))], chosen[round(0.8 * len(chosen)) :]


def answer_of(text: str) -> str | None:
    """Return the first of the labels in an answer."""
    found = re.search(r"\b(ham|spam)\b", text.lower())
    return found[1] if found else None


class Bench:
    """One run: its data, its folder, its models."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.training, self.test = divided(load_data(asked.data), asked.seed, asked.rows)
        corpus = Corpus("training messages", tuple(self.training))
        self.texts = CalibrationData(corpus, corpus, corpus, False)
        setting = json.dumps([corpus.sha256, asked.model, asked.seed, asked.cut, asked.epochs, asked.learning_rate])
        self.work: Path = asked.work / f"spam-{hashlib.sha256(setting.encode()).hexdigest()[:12]}"
        self.work.mkdir(parents=True, exist_ok=True)

    def steps(self, source: Model, name: str, steps: list[Step]) -> tuple[Model, list[dict[str, Any]]]:
        """Run steps on a model; what was done before is not done again."""
        materials = Materials(source, self.texts, self.asked.windows, 256, self.asked.seed, self.asked.threads)
        model, records = Runner(materials, self.work / name, report).run(steps)
        return model, [{"seconds": each.seconds, "curves": each.curves} for each in records]

    def tuning(self, **changes: Any) -> Step:
        """Return the step that trains on the messages."""
        values = {"epochs": self.asked.epochs, "learning_rate": self.asked.learning_rate, "seed": self.asked.seed}
        return Step("finetune", {"objective": "supervised", "length": 256, **values, **changes})

    def answers(self, name: str, model: Model) -> list[str]:
        """Ask a model about every test message, through the engine; answers are kept."""
        path, kept = self.work / f"{name}.gguf", self.work / f"{name}.answers.json"
        if not path.is_file():
            gguf.write(model, path, progress=report)
        done: list[str] = json.loads(kept.read_text()) if kept.is_file() else []
        options = GenerationOptions.from_mapping({"temperature": 0, "num_predict": 8})
        with open_engine(path, threads=self.asked.threads, context=1024) as engine:
            while len(done) < len(self.test):
                for row in self.test[len(done) : len(done) + CHUNK]:
                    chunks = engine.chat([Message("user", row.prompt or "")], options)
                    done.append("".join(chunk.text for chunk in chunks))
                partial = kept.with_suffix(".part")
                partial.write_text(json.dumps(done))
                os.replace(partial, kept)
                report(Event(f"asking {name}", len(done), len(self.test), "messages"))
        return done

    def figures(self, name: str, model: Model) -> dict[str, Any]:
        """Return accuracy, size and what the answers were like."""
        found = [answer_of(text) for text in self.answers(name, model)]
        right = [one == row.label for one, row in zip(found, self.test, strict=True)]
        known = {row.prompt for row in self.training}
        unseen = [hit for hit, row in zip(right, self.test, strict=True) if row.prompt not in known]
        return {
            "model": name,
            "accuracy": sum(right) / len(right),
            "accuracy_unseen": sum(unseen) / max(1, len(unseen)),
            "no_answer": sum(each is None for each in found),
            "bytes": (self.work / f"{name}.gguf").stat().st_size,
            "layers": len(model.anatomy.blocks),
            "parameters": model.parameter_count(),
        }

    def run(self) -> dict[str, Any]:
        """Make all models and ask them."""
        asked = self.asked
        source = load(asked.model, progress=report)
        results = [self.figures("source", source)]
        tuned, trained = self.steps(source, "tuned", [self.tuning()])
        results.append(self.figures("fine-tuned", tuned))
        layers = len(tuned.anatomy.blocks)
        keep = layers - max(1, -int(-asked.cut * layers // 1))
        embedding = f"{tuned.anatomy.embedding}.weight"
        quantize = {"default": asked.format, "formats": {embedding: asked.embedding_format}}
        shrink = [
            Step("prune", {"structure": "layer", "criterion": asked.criterion, "keep": keep}),
            self.tuning(),
            Step("quantize", quantize),
        ]
        shrunk, done = self.steps(tuned, "shrunk", shrink)
        results.append(self.figures("shrunk", shrunk))
        share = max(sum(row.label == label for row in self.test) for label in LABELS) / len(self.test)
        rows = {"training": len(self.training), "test": len(self.test), "most_common_label": share}
        return {"rows": rows, "results": results, "training": [*trained, *done]}


def report(event: Event) -> None:
    """Show progress to a person: one line on stderr that is written over."""
    if sys.stderr.isatty():
        share = f" {event.done:.0f} of {event.total:.0f} {event.unit}" if event.total else ""
        print(f"\r\033[K{event.stage}{share} {event.note}", end="", file=sys.stderr, flush=True)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Specialise a small model for text messages, then shrink it.")
    parser.add_argument("--data", type=Path, help="the messages: JSON lines with text and label")
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--rows", type=int, help="only so many messages, for a trial")
    parser.add_argument("--cut", type=float, default=0.25, help="share of the layers to remove")
    parser.add_argument("--criterion", default="block_influence", help="by which layers go")
    parser.add_argument("--epochs", type=float, default=1.0, help="of the fine-tuning and of the healing")
    parser.add_argument("--learning-rate", type=float, help="found by short trials where not given")
    parser.add_argument("--format", default="iq4_nl", help="of the matrices")
    parser.add_argument("--embedding-format", default="q8_0")
    parser.add_argument("--windows", type=int, default=24, help="calibration windows of 256 tokens")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "smidgen-benchmarks")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    asked = arguments(words)
    if asked.data is None:
        print("Not measured: give the messages with --data.")
        return 0
    torch.set_num_threads(asked.threads)
    try:
        found = Bench(asked).run()
    except SmidgenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    tuned, shrunk = found["results"][1:]
    close = shrunk["accuracy"] >= tuned["accuracy"] - MOST_BEHIND
    found["holds"] = holds = close and shrunk["accuracy"] >= LEAST_ACCURACY
    if asked.json:
        print(json.dumps(found, indent=2))
    else:
        counts = found["rows"]
        print(f"\n{counts['training']:,} messages to train on, {counts['test']:,} to test on;", end=" ")
        print(f"always saying the most common label is right in {counts['most_common_label']:.1%}")
        print(f"{'model':<12}{'right':>9}{'unseen':>9}{'no answer':>11}{'layers':>8}{'bytes':>14}")
        for each in found["results"]:
            shares = f"{each['accuracy']:>9.2%}{each['accuracy_unseen']:>9.2%}{each['no_answer']:>11}"
            print(f"{each['model']:<12}{shares}{each['layers']:>8}{each['bytes']:>14,}")
    return 0 if holds or asked.rows is not None else 1


if __name__ == "__main__":
    raise SystemExit(main())
