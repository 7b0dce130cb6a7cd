"""The examples of docs/serving.md and docs/serving/ run as printed, save the server's address and the model's name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "serving.md"
EXAMPLES = re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
SAID = {
    "From the OpenAI client": "What is the capital of France?\nCount to three.'The' None\n' capital' 0.0\n",
    "From Anthropic's client": "What is the capital of France? end_turn\nCount to three.",
}
ENFORCED = "with_structured_output"
"""What only a model that writes by a grammar can do."""


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run(code: str, address: str) -> str:
    """Run a program in a process of its own, which finds the server where Ollama's clients look for one."""
    environment = os.environ | {"OLLAMA_HOST": address, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("heading", SAID)
def test_examples_run(heading: str, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(blocks(dict(EXAMPLES)[heading]))
    assert "http://127.0.0.1:11434" in code and '"smollm2:135m"' in code
    values: dict[str, object] = {}
    exec(code.replace("http://127.0.0.1:11434", address).replace('"smollm2:135m"', '"echo"'), values)
    values["client"].close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out.startswith(SAID[heading])


def test_the_example_for_ollama_runs(address: str) -> None:
    (code,) = blocks(dict(EXAMPLES)["From Ollama"])
    said = run(code.replace('"smollm2:135m"', '"echo"'), address)
    assert said == "What is the capital of France?\nOnce upon a time"


def test_the_example_with_a_tool_runs(smollm2_address: str) -> None:
    (code,) = blocks(dict(EXAMPLES)["Tools"])
    said = run(code.replace("http://127.0.0.1:11434", smollm2_address), smollm2_address)
    assert said.startswith('Function(arguments=\'{"city":"')


def test_the_examples_for_langchain_run(smollm2_address: str) -> None:
    found = blocks((DOCS / "serving" / "langchain.md").read_text(encoding="utf-8"))
    code = "".join(each if ENFORCED in each else each.replace('"smollm2:135m"', '"echo"') for each in found)
    said = run(code, smollm2_address)
    question = "Human: Question: What is LangChain?\n\nAnswer: Let's think step by step.\n"
    assert said.startswith(f"{question}What is the capital of France?name='") and said.endswith("\n3 64\n")


def test_the_example_behind_nginx_runs(address: str) -> None:
    (code,) = blocks((DOCS / "serving" / "nginx.md").read_text(encoding="utf-8"))
    said = run(code.replace('"smollm2:135m"', '"echo"').replace("https://models.example.org", address), address)
    assert said == "Good day.\n"


def test_every_page_with_examples_is_tested_here() -> None:
    pages = {path.name for path in (DOCS / "serving").glob("*.md") if blocks(path.read_text(encoding="utf-8"))}
    assert pages == {"langchain.md", "nginx.md"}
    assert {heading for heading, text in EXAMPLES if blocks(text)} == {*SAID, "From Ollama", "Tools"}
