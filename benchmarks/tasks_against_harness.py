"""Claim: smidgen scores tasks as lm-evaluation-harness 0.4.13 does, and needs less processor time for it.

    python benchmarks/tasks_against_harness.py --data FOLDER --python /path/to/python [--task NAME] [--items 200]

``FOLDER`` holds ``arc-easy.jsonl`` ({"query", "choices", "gold"}), ``hellaswag-1500.jsonl`` ({"context", "endings",
"answer"}), ``mmlu-test-1500.jsonl`` and ``mmlu-dev.jsonl`` ({"subject", "question", "choices", "answer"}). ``--python``
is the one beside which the harness is installed (``pip install lm-eval==0.4.13`` with torch and transformers).

The rows are written in the layout of the published data sets. The harness reads them offline by its own published tasks
with the model as a transformers folder in float32 (``hf``); smidgen reads the same rows and scores them with the same
folder in torch, and with the model's own GGUF in llama.cpp. Printed are, for each task: the largest difference of a
log-likelihood of the two that compute the same, all scores, and items per second of processor time, loading included.
Exit code 1 where a log-likelihood differs by more than 0.001 nats or a score differs. Stopped at any moment, the same
command goes on with what is missing; ``--alone`` leaves out the harness and times the GGUF alone.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _table
from _harness import TOLERANCE, Harness, largest_difference, likelihoods, processor_seconds

from smidgen.data.remembering import Notebook
from smidgen.evaluate.answering import Likelihoods
from smidgen.evaluate.tasks import Exam, read_exam, take
from smidgen.export import safetensors
from smidgen.inference.scoring import PromptScorer, Subject
from smidgen.models import load
from smidgen.models.sources import from_store
from smidgen.models.store import Store

LOCAL = """dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {files}}}
training_split: null
validation_split: null
test_split: test
"""
Row = dict[str, Any]


def arc(row: Row) -> Row:
    letters = "ABCDE"[: len(row["choices"])]
    choices = {"text": row["choices"], "label": list(letters)}
    return {
        "question": row["query"].removeprefix("Question: "),
        "choices": choices,
        "answerKey": letters[row["gold"]],
    }


def hellaswag(row: Row) -> Row:
    activity, _, scene = row["context"].partition(": ")
    return {"activity_label": activity, "ctx_a": scene, "ctx_b": "", "endings": row["endings"], "label": row["answer"]}


def mmlu(row: Row) -> Row:
    return {name: row[name] for name in ("subject", "question", "choices", "answer")}


TASKS: dict[str, tuple[str, Callable[[Row], Row]]] = {
    "arc": ("arc-easy.jsonl", arc),
    "hellaswag": ("hellaswag-1500.jsonl", hellaswag),
    "mmlu": ("mmlu-test-1500.jsonl", mmlu),
}
"""For each task the file of its rows, and how they become those of the published data set."""


def read(path: Path, convert: Callable[[Row], Row]) -> list[Row]:
    """Return the rows of a file in the published layout."""
    return [convert(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def written(path: Path, rows: list[Row]) -> Path:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Compared:
    """One task, as both score it.

    Args:
        task: Its name.
        asked: The command line.
        place: A folder for files.
    """

    def __init__(self, task: str, asked: argparse.Namespace, place: Path) -> None:
        name, convert = TASKS[task]
        self.task, self.asked, self.place = task, asked, place
        rows = read(asked.data / name, convert)
        if asked.shortest:
            shown = {row["subject"]: 0 for row in rows if "subject" in row}
            for row in read(asked.data / "mmlu-dev.jsonl", convert) if shown else ():
                shown[row["subject"]] = shown.get(row["subject"], 0) + len(json.dumps(row))
            rows = sorted(rows, key=lambda row: len(json.dumps(row)) + shown.get(row.get("subject", ""), 0))
        rows = rows[: asked.items]
        # The harness asks one subject after the other.
        self.rows = sorted(rows, key=lambda row: str(row.get("subject", "")))
        self.file = written(place / f"{task}.jsonl", self.rows)
        self.examples: Path | None = None
        if task == "mmlu":
            self.examples = written(place / "dev.jsonl", read(asked.data / "mmlu-dev.jsonl", convert))

    def by_harness(self, folder: Path) -> dict[str, Any]:
        """Return every choice's log-likelihood, the scores and the processor time, as the harness has them."""
        where = "import lm_eval, pathlib; print(pathlib.Path(lm_eval.__file__).parent)"
        run = subprocess.run([self.asked.python, "-c", where], check=True, capture_output=True, text=True)
        published = Path(run.stdout.strip()) / "tasks"
        harness = Harness(f"{shlex.quote(self.asked.python)} -m lm_eval", self.asked.threads or 1)
        given = {"pretrained": folder, "dtype": "float32"}
        logged, seconds = harness.samples("hf", given, self._yaml(published), batch=self.asked.batch)
        samples = [sample for each in logged.values() for sample in each]
        names = [name for name in ("acc", "acc_norm") if name in samples[0]]
        scores = {name: sum(float(sample[name]) for sample in samples) / len(samples) for name in names}
        return {"likelihoods": likelihoods(samples), "scores": scores, "seconds": seconds}

    def _yaml(self, published: Path) -> dict[str, str]:
        if self.task != "mmlu":
            file = {"arc": "arc/arc_easy.yaml", "hellaswag": "hellaswag/hellaswag.yaml"}[self.task]
            local = LOCAL.format(files=json.dumps({"test": str(self.file)}))
            return {f"local_{self.task}": f"include: {published / file}\n{local}"}
        found = {}
        assert self.examples is not None
        dev = [json.loads(line) for line in self.examples.read_text(encoding="utf-8").splitlines()]
        for subject in sorted({row["subject"] for row in self.rows}):
            files = {
                split: str(
                    written(self.place / f"{subject}-{split}.jsonl", [r for r in rows if r["subject"] == subject])
                )
                for split, rows in (("test", self.rows), ("dev", dev))
            }
            local = LOCAL.format(files=json.dumps(files)) + "fewshot_split: dev\nnum_fewshot: 5\n"
            found[f"local_{subject}"] = f"include: {published / f'mmlu/default/mmlu_{subject}.yaml'}\n{local}"
        return found

    def by_smidgen(self, subject: Subject) -> dict[str, Any]:
        """Return the same as smidgen has them."""
        before = processor_seconds()
        exam: Exam = read_exam(self.task, self.file, examples=self.examples)
        with PromptScorer(subject, threads=self.asked.threads or 1, context=2048) as scorer:
            kept = Notebook(Path(tempfile.mkdtemp(dir=self.place)) / "answers.jsonl")
            score = take(exam, str(subject.path), Likelihoods(scorer), kept, _table.report)
        seconds = processor_seconds() - before
        table = [each["likelihoods"] for each in kept.known.values()]
        return {
            "likelihoods": table,
            "scores": {name: figure.value for name, figure in score.figures.items()},
            "seconds": seconds,
        }


def folder_of(asked: argparse.Namespace, gguf: Path) -> Path:
    """Return the model as a transformers folder in float32, written once."""
    folder: Path = asked.work / "model"
    if not (folder / "config.json").is_file():
        import torch

        safetensors.write(load.read_gguf(gguf, torch.float32), folder, dtype="float32")
    return folder


def measured(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each task."""
    gguf = from_store(Store().resolve(asked.model)).path
    rows = _table.Rows(asked, ("model", "items", "shortest", "threads", "batch"), {})
    found = []
    for task in asked.task or TASKS:
        with tempfile.TemporaryDirectory() as place:
            compared = Compared(task, asked, Path(place))
            row: dict[str, Any] = {"task": task, "items": len(compared.rows)}
            row["gguf"] = rows.once(rows.key(task, "gguf"), lambda: compared.by_smidgen(Subject(gguf)))  # noqa: B023
            if not asked.alone:
                folder = folder_of(asked, gguf)
                torch = Subject(folder, "torch")
                row["torch"] = rows.once(rows.key(task, "torch"), lambda: compared.by_smidgen(torch))  # noqa: B023
                row["harness"] = rows.once(rows.key(task, "hf"), lambda: compared.by_harness(folder))  # noqa: B023
                both = (row["torch"]["likelihoods"], row["harness"]["likelihoods"])
                row["largest_difference"] = largest_difference(*both)
        for name in ("gguf", "torch", "harness"):
            row.get(name, {}).pop("likelihoods", None)
        found.append(row)
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows as Markdown."""
    lines = [
        "| task | items | by | scores | s of processor | items/s | largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    names = {"harness": "harness, hf float32", "torch": "smidgen, torch float32", "gguf": "smidgen, llama.cpp"}
    for row in rows:
        for name, shown in names.items():
            if name in row:
                each = row[name]
                scores = ", ".join(f"{key} {value:.4f}" for key, value in each["scores"].items())
                rate = row["items"] / each["seconds"]
                apart = f"{row['largest_difference']:.2g} nats" if name == "torch" else ""
                cells = (row["task"], row["items"], shown, scores, f"{each['seconds']:.0f}", f"{rate:.2f}", apart)
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable, help="the Python beside which lm-eval is installed")
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument(
        "--shortest", action="store_true", help="the items with the shortest prompts, for a quick check"
    )
    parser.add_argument("--batch", type=int, default=4, help="requests that the harness computes at a time")
    parser.add_argument("--alone", action="store_true", help="time the GGUF alone")
    parser.add_argument("--threads", type=int, help="threads of the arithmetic, 1 unless given")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "smidgen-harness")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found: list[dict[str, Any]] = []

    def once() -> list[dict[str, Any]]:
        found.extend(measured(asked))
        return found

    code = _table.run(asked, once, table)
    wrong = [row["task"] for row in found if "harness" in row and not agrees(row)]
    sys.exit(code or bool(wrong))


def agrees(row: dict[str, Any]) -> bool:
    """Say whether all log-likelihoods and scores are the same."""
    ours, theirs = row["torch"]["scores"], row["harness"]["scores"]
    return row["largest_difference"] <= TOLERANCE and all(abs(ours[name] - theirs[name]) < 1e-9 for name in theirs)


if __name__ == "__main__":
    main()
