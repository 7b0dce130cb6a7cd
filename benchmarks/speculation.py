"""Claim: guessing tokens ahead leaves greedy texts as they are, and copies faster; elsewhere it costs nothing.

    python benchmarks/speculation.py [--model smollm2:135m] [--draft FILE.gguf] [--prompts 20] [--tokens 96] [--json]

Twenty prompts (summaries of the documentation of Python, code, chat) and some that ask for what stands in them to be
repeated are answered greedily without guesses, with guesses from the context, and with those of a draft where one is
named or stored with the model: prompt after prompt, the ways in turns, so that a busy moment falls on all. Printed are
the medians of tokens per second of writing and of the engine's processor time for an answer, each as a ratio to none,
the share of right guesses, and how many texts were the same to the letter. The engine checks several guesses in one
product, whose sums round otherwise than those of one token; where two tokens are as good as equally likely, that can
decide. The widest gap between the two likeliest tokens at a place where texts part is printed. Exit code 1 where it is
more than rounding can bridge.
"""

import argparse
import json
import statistics
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import httpx
import psutil

from smidgen.export import runnable
from smidgen.inference.llama_server import LlamaServer, ServerSettings
from smidgen.inference.setup import Setup
from smidgen.inference.speculation import DRAFT_TOKENS, NGRAM, OFF, Speculation

ROUNDING = 0.05
"""Nats between two likeliest tokens that rounding bridges anywhere."""
ALONE = "none, one thread"

CODE = (
    "Write a Python function that returns the n-th Fibonacci number, with a docstring.",
    "Write a Python class Stack with push, pop, peek and size.",
    "Write a SQL query that counts the orders of each customer.",
    "Write a shell script that renames all .txt files to .md.",
    "Write a Python function that reads a CSV file and returns the mean of a column.",
    "Write a JavaScript function that reverses a string.",
)
CHAT = (
    "What is the capital of France, and what is it known for?",
    "How do plants make their food from light?",
    "Give me three tips for a job interview.",
    "Why is the sky blue?",
    "Tell me a short story about a fox and a crow.",
    "What is the difference between weather and climate?",
    "How do I cook rice?",
)


def passages(low: int, high: int) -> list[str]:
    """Return topics of Python's documentation of some length."""
    return [" ".join(topics[name].split()) for name in sorted(topics) if low < len(topics[name]) < high]


def questions(count: int) -> dict[str, list[str]]:
    """Return what is asked, by kind."""
    summaries = [f"Summarize in two sentences:\n\n{text}" for text in passages(900, 1300)[:7]]
    mixed = [one for three in zip(summaries, CHAT, (*CODE, ""), strict=True) for one in three if one]
    copies = [f"Repeat this text word for word:\n\n{text}" for text in passages(350, 600)[: max(1, count // 4)]]
    return {"summaries, code and chat": mixed[:count], "copying": copies}


def ask(client: httpx.Client, server: LlamaServer, question: str, tokens: int) -> dict[str, Any]:
    """Answer one question; returns the text, its timings and the processor time that the answer took."""
    process = psutil.Process(server.child.process.pid)
    laid_out = post(client, server, "/apply-template", {"messages": [{"role": "user", "content": question}]})
    prompt = post(client, server, "/tokenize", {"content": laid_out["prompt"], "add_special": True})["tokens"]
    before = sum(process.cpu_times()[:2])
    answer = completed(client, server, prompt, n_predict=tokens)
    return {
        "prompt": prompt,
        "tokens": answer["tokens"],
        "cpu": sum(process.cpu_times()[:2]) - before,
        **answer["timings"],
    }


def completed(client: httpx.Client, server: LlamaServer, prompt: list[int], **fields: Any) -> dict[str, Any]:
    """Continue tokens greedily."""
    fields |= {"prompt": prompt, "temperature": 0, "cache_prompt": False, "return_tokens": True}
    return post(client, server, "/completion", fields)


def post(client: httpx.Client, server: LlamaServer, route: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Send an object to the engine and return its answer."""
    response = client.post(server.address + route, json=fields, headers=server.headers)
    answer: dict[str, Any] = response.raise_for_status().json()
    return answer


def gap(client: httpx.Client, server: LlamaServer, one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return by how many nats the two likeliest tokens differ where two answers part; 0 where they do not."""
    pairs = zip(one["tokens"], other["tokens"], strict=False)
    place = next((index for index, (a, b) in enumerate(pairs) if a != b), None)
    if place is None:
        return 0.0
    answer = completed(client, server, one["prompt"] + one["tokens"][:place], n_predict=1, n_probs=2)
    first, second = answer["completion_probabilities"][0]["top_logprobs"][:2]
    return float(first["logprob"] - second["logprob"])


def measured(asked: argparse.Namespace, path: Path, ways: dict[str, Speculation]) -> list[dict[str, Any]]:
    """Answer every question in every way."""
    rows = []
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=600, trust_env=False))
        servers = {}
        for name, way in ways.items():
            threads = 1 if name == ALONE else asked.threads
            settings = ServerSettings(context=1024, threads=threads, speculation=way)
            servers[name] = stack.enter_context(closing(LlamaServer(path, settings)))
        for kind, listed in questions(asked.prompts).items():
            answers: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
            for question in listed:
                for name, server in servers.items():
                    answers[name].append(ask(client, server, question, asked.tokens))
            for name in ways:
                pairs = zip(answers[name], answers["none"], strict=True)
                widest = max(gap(client, servers["none"], *pair) for pair in pairs)
                rows.append(row(kind, name, answers[name], answers["none"]) | {"widest_gap": widest})
    return rows


def row(kind: str, name: str, answers: list[dict[str, Any]], none: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the answers of one way with those without."""
    pairs = list(zip(answers, none, strict=True))
    drafted = sum(each.get("draft_n", 0) for each in answers)
    accepted = sum(each.get("draft_n_accepted", 0) for each in answers)
    return {
        "prompts": kind,
        "way": name,
        "tokens_per_second": statistics.median(each["predicted_per_second"] for each in answers),
        "times_as_fast": statistics.median(a["predicted_per_second"] / b["predicted_per_second"] for a, b in pairs),
        "processor_time": statistics.median(a["cpu"] / b["cpu"] for a, b in pairs),
        "drafted": drafted,
        "accepted": accepted,
        "same": sum(a["tokens"] == b["tokens"] for a, b in pairs),
        "of": len(pairs),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    local = runnable.find(asked.model)
    draft = asked.draft or Setup.of(local).draft
    ways = {"none": OFF, ALONE: OFF, "n-gram": NGRAM}
    if draft is not None:
        ways["draft"] = Speculation("draft", str(draft), DRAFT_TOKENS)
    rows = measured(asked, runnable.gguf_of(local), ways)
    if asked.json:
        print(json.dumps(rows, indent=1))
    else:
        print("| prompts | way | tok/s | times as fast | processor time | right guesses | same text | widest gap |")
        print("|---|---|---|---|---|---|---|---|")
        for each in rows:
            print(
                f"| {each['prompts']} | {each['way']} | {each['tokens_per_second']:.1f} | {each['times_as_fast']:.2f} "
                f"| {each['processor_time']:.2f} | {each['accepted']} of {each['drafted']} "
                f"| {each['same']} of {each['of']} | {each['widest_gap']:.3f} |"
            )
    bridged = max(each["widest_gap"] for each in rows if each["way"] == ALONE)
    return int(any(each["widest_gap"] > max(ROUNDING, 2 * bridged) for each in rows))


if __name__ == "__main__":
    sys.exit(main())
