"""Lets several models answer one question step by step, side by side with their speed, and says which one to take.

    python examples/compare_models.py smollm2:135m gemma3:270m
    python examples/compare_models.py smollm2:135m small.gguf http://localhost:11434/llama3.2 --report report.html
    python examples/compare_models.py smollm2:135m gemma3:270m --question "Why is the sky blue?" --expect scatter

Models are names, folders, .gguf files, or addresses of models behind a server of Ollama's or OpenAI's protocol.
"""

import argparse
import shutil
import sys
import textwrap
from itertools import zip_longest
from pathlib import Path

import smidgen
from smidgen.errors import SmidgenError
from smidgen.evaluate.compare import CompareSetting
from smidgen.evaluate.comparing.prompts import Prompt

QUESTION = "What is the length of the hypotenuse in a right-angled triangle? Think step by step."
EXPECTED = r"(?is)a\s*(\^\s*\{?2|²|\*\*\s*2|squared).{0,60}b\s*(\^\s*\{?2|²|\*\*\s*2|squared)|sum of the squares"


def columns(texts: list[str], width: int) -> str:
    """Set texts side by side."""
    wrapped = [[part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]] for text in texts]
    return "\n".join(" | ".join(part.ljust(width) for part in row) for row in zip_longest(*wrapped, fillvalue=""))


def main() -> None:
    """Ask, and print the answers side by side."""
    parser = argparse.ArgumentParser(description="Compare how models answer one question.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="two at least")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--expect", metavar="PATTERN", help="a regular expression that a right answer matches")
    parser.add_argument("--tokens", type=int, default=160, help="most tokens of an answer")
    parser.add_argument("--judge", metavar="MODEL", help="a model that compares the answers in both orders")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the whole report as HTML")
    asked = parser.parse_args()

    expected = asked.expect or (EXPECTED if asked.question == QUESTION else "")
    setting = CompareSetting(tokens=asked.tokens, windows=4)
    prompts = [Prompt(asked.question, pattern=expected)]
    found = smidgen.compare(*asked.models, prompts=prompts, judge=asked.judge, setting=setting)
    plain = found.to_dict()

    heads, answers = [], []
    for letter, model in zip(plain["letters"], found.models, strict=True):
        (answer,) = model.answers
        speed = f"{model.writes.median:.1f} tokens/s" if model.writes else "speed not measured"
        mark = {True: ", right", False: ", wrong", None: ""}[answer.right] if answer else ""
        heads.append(f"{letter}: {model.name}\n{speed}{mark}")
        answers.append(answer.text if answer else "(no answer)")
    width = max(20, (shutil.get_terminal_size((120, 40)).columns - 3 * (len(heads) - 1)) // len(heads))
    print(f"{asked.question}\n\n{columns(heads, width)}\n{'-+-'.join(['-' * width] * len(heads))}")
    print(f"{columns(answers, width)}\n")
    for letter, sentence in zip(plain["letters"], plain["verdicts"], strict=True):
        print(f"{letter}: {sentence}")
    print(f"\n{plain['headline']}")
    if asked.report:
        asked.report.write_text(found.to_html(), encoding="utf-8")
        print(f"Written: {asked.report}")


if __name__ == "__main__":
    try:
        main()
    except SmidgenError as error:
        sys.exit(str(error))
