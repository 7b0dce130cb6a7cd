"""The standalone judge agrees with smidgen's own figures, and says when a receipt does not."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.evaluate.quality import compare_files

JUDGE = Path(__file__).parents[2] / "benchmarks" / "judge.py"


def judge(*arguments) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(JUDGE), *map(str, arguments), "--threads", "1"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_imports_nothing_of_smidgen():
    tree = ast.parse(JUDGE.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "numpy" in imported and not any(name.startswith("smidgen") for name in imported)


@pytest.mark.parametrize("which", ["noisy", "pruned"])
def test_it_agrees_with_the_receipt_and_notices_a_false_one(source, text, tmp_path, which, request):
    result = request.getfixturevalue(which)
    kept = result.model.lineage.kept_tokens
    quality = compare_files(
        source.path, result.path, text, windows=2, length=128, kept_tokens=kept, threads=1
    ).to_dict()
    written = tmp_path / "text.txt"
    written.write_bytes(text.content.encode())
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps({"quality": [{"sha256": "0"}, quality]}))
    done = judge(source.path, result.path, written, "--receipt", receipt, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["agrees"] is True and found["tokens"] == quality["tokens"]
    for name in ("kl_mean", "kl_median", "kl_p99", "same_top", "ppl_source", "ppl_result"):
        assert found[name] == pytest.approx(quality[name], rel=1e-4), name

    for name in ("kl_mean", "ppl_source", "ppl_result"):
        receipt.write_text(json.dumps({"quality": [quality | {name: quality[name] * 1.03}]}))
        done = judge(source.path, result.path, written, "--receipt", receipt)
        assert done.returncode == 1 and f"{name}: the receipt says" in done.stdout, name


def test_inputs_that_do_not_fit_are_refused_without_a_traceback(source, noisy, text, tmp_path):
    written = tmp_path / "text.txt"
    written.write_bytes(text.content.encode())
    receipt = tmp_path / "receipt.json"
    receipt.write_text('{"quality": []}')
    for arguments, message in (
        ((source.path, noisy.path, tmp_path / "none.txt"), "cannot read"),
        ((written, noisy.path, written), "cannot load"),
        ((source.path, noisy.path, written, "--receipt", receipt), "no figures for a text"),
        ((source.path, noisy.path, written, "--receipt", written), "is no receipt"),
    ):
        done = judge(*arguments)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
