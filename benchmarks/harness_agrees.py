"""Claim: lm-evaluation-harness, asking ``smidgen serve``, gets the log-likelihoods that the model's file itself gives.

    python benchmarks/harness_agrees.py choices.jsonl --harness /path/to/lm_eval [--model smollm2:135m] [--items 200]

A line of the file is {"query": text, "choices": [text, ...], "gold": number}. The harness (``pip install
"lm-eval[api]" transformers``, best in an environment of its own) scores every choice behind its query by
``local-completions``, with token numbers or with texts (``--texts``); the same tokens are then scored by the engine
without a server between. Printed are both accuracies, how many picks are the same, the largest difference of a
log-likelihood in nats, and the seconds of both. Exit code 1 where a pick differs or a difference exceeds 0.001 nats.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _harness import TOLERANCE, Harness, largest_difference, likelihoods
from _serving import addressed

from smidgen.inference.scoring import PromptScorer
from smidgen.models.checkpoint import gguf, tokenizer
from smidgen.models.sources import from_store
from smidgen.models.store import Store

TASK = """dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{query}}}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: gold
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
Item = dict[str, Any]
SERVE = ["-m", "smidgen", "serve", "--port", "0", "--json"]


def by_harness(harness: str, model: str, items: list[Item], names: Path, texts: bool) -> list[list[float]]:
    """Return every choice's log-likelihood as the harness has it."""
    with tempfile.TemporaryDirectory() as folder, addressed(SERVE) as address:
        rows = Path(folder) / "items.jsonl"
        rows.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        given = {
            "model": model,
            "base_url": f"{address}/v1/completions",
            "tokenizer": names,
            "tokenized_requests": not texts,
            "num_concurrent": 1,
        }
        logged, _ = Harness(harness).samples("local-completions", given, {"choices": TASK.format(items=rows)})
    return likelihoods(logged["choices"])


def natively(path: Path, items: list[Item]) -> list[list[float]]:
    """Return every choice's log-likelihood as the engine says it of the same tokens."""
    found = []
    with PromptScorer(path, context=2048) as scorer:
        for item in items:
            context = f"{item['query']}\nAnswer:"
            begin = len(scorer.tokenize(context))
            found.append(
                [
                    float(scorer.next_token_logprobs(scorer.tokenize(f"{context} {choice}"), start=begin - 1).sum())
                    for choice in item["choices"]
                ]
            )
    return found


def compared(items: list[Item], ours: list[list[float]], theirs: list[list[float]]) -> dict[str, Any]:
    """Compare two tables of log-likelihoods, a row for each item.

    Returns:
        Accuracies, the share of equal picks, the largest difference in nats.
    """
    picks = [[row.index(max(row)) for row in table] for table in (ours, theirs)]
    right = [sum(pick == item["gold"] for pick, item in zip(each, items, strict=True)) for each in picks]
    return {
        "items": len(items),
        "choices": sum(map(len, ours)),
        "accuracy": right[0] / len(items),
        "harness_accuracy": right[1] / len(items),
        "same_picks": sum(one == other for one, other in zip(*picks, strict=True)),
        "largest_difference": largest_difference(ours, theirs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--harness", default="lm_eval")
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--texts", action="store_true")
    asked = parser.parse_args()
    items = [json.loads(line) for line in asked.file.read_text(encoding="utf-8").splitlines()[: asked.items]]
    path = from_store(Store().resolve(asked.model)).path
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.from_gguf(gguf.read(path).metadata).save_pretrained(folder)
        began = time.perf_counter()
        theirs = by_harness(asked.harness, asked.model, items, Path(folder), asked.texts)
    between = time.perf_counter()
    figures = compared(items, natively(path, items), theirs)
    figures |= {"harness_seconds": between - began, "seconds": time.perf_counter() - between}
    print(json.dumps(figures, indent=2))
    if figures["same_picks"] < len(items) or figures["largest_difference"] > TOLERANCE:
        sys.exit(1)


if __name__ == "__main__":
    main()
