"""The examples of docs/serving.md run as they are printed, but for the server's address and the model's name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "serving.md"
EXAMPLES = re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
SAID = {
    "From the OpenAI client": "What is the capital of France?\nCount to three.'The' None\n' capital' 0.0\n",
    "From Anthropic's client": "What is the capital of France? end_turn\nCount to three.",
}


@pytest.mark.parametrize("heading", SAID)
def test_examples_run(heading: str, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", dict(EXAMPLES)[heading], re.DOTALL))
    assert "http://127.0.0.1:11434" in code and '"smollm2:135m"' in code
    values: dict[str, object] = {}
    exec(code.replace("http://127.0.0.1:11434", address).replace('"smollm2:135m"', '"echo"'), values)
    values["client"].close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out.startswith(SAID[heading])
