"""The command: options, stated machines, refusals, questions in a terminal, and an answer that says what to run."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smidgen import machine
from smidgen.cli.choose import Stated
from smidgen.cli.main import main
from smidgen.cli.options import default_threads
from smidgen.errors import InvalidInput
from smidgen.evaluate.calibrate import Calibration, keep, key_of
from smidgen.models import catalog


@pytest.fixture(autouse=True)
def measured(smidgen_home: Path) -> Calibration:
    """This machine as if it had been measured before, so that no command measures it."""
    key = key_of(machine.inspect(), default_threads())
    found = Calibration(20e9, 100e9, 2, token_seconds=0.01, read_seconds=0.002, memory=60_000_000, key=key)
    keep(smidgen_home, found)
    return found


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    code = main(["choose", "--json", "--quiet", *words])
    out = capsys.readouterr().out
    assert code == 0, out
    return json.loads(out)


def test_the_answer_as_json(capsys) -> None:
    found = answer(capsys, "--task", "summarize", "--memory", "2GB", "--licence", "permissive")
    assert found["needs"]["task"] == "summarize" and found["needs"]["memory"] == 2 * 10**9 and found["assumed"] == []
    first = found["suggestions"][0]
    assert first["estimate"]["memory"] <= 2 * 10**9 and first["estimate"]["tokens_per_second"] > 0
    assert first["steps"][0].startswith("smidgen pull ") and first["reasons"]
    assert found["ruled_out"]["llama3.2:1b"] == "licence llama3.2 is not permissive"
    assert len(found["suggestions"]) + len(found["ruled_out"]) == len(catalog.entries())
    assert found["machine"]["calibrated"] is True


def test_the_answer_for_a_person(capsys) -> None:
    assert main(["choose", "--task", "chat", "--memory", "1GB", "--quiet"]) == 0
    shown = capsys.readouterr().out
    for words in ("model", "memory", "writes", "because", "Ruled out, too little memory", "Next:", "smidgen pull hf:"):
        assert words in shown
    assert "more meet all demands" in shown


def test_the_free_memory_of_this_machine_is_taken_where_nobody_says(capsys) -> None:
    found = answer(capsys)
    assert 0 < found["needs"]["memory"] < machine.memory()[0]
    assert "of what is free here" in found["assumed"][0]
    assert answer(capsys, "--max-memory", "700MB")["needs"]["memory"] == 700_000_000


def test_a_phone_is_taken_to_have_little_and_the_answer_says_so(capsys) -> None:
    found = answer(capsys, "--place", "phone")
    assert found["needs"]["memory"] == 2 * 10**9 and "on a phone" in found["assumed"][0]
    assert any("not the phone's" in note for note in found["notes"])
    assert any("bring the store's folder" in note for note in answer(capsys, "--place", "air-gapped")["notes"])


def test_a_stated_machine_is_estimated_by_its_bandwidth(capsys) -> None:
    def speeds(*words: str) -> dict[str, float]:
        found = answer(capsys, "--memory", "3GB", "--task", "classify", *words)["suggestions"]
        return {each["name"]: each["estimate"]["tokens_per_second"] for each in found if each["estimate"]}

    here, slow = speeds(), speeds("--machine", "10GB/s")
    same = [name for name in here.keys() & slow.keys() if name == "smollm2:135m"]
    assert same and slow[same[0]] == pytest.approx(here[same[0]] / 2, rel=0.01)
    assert answer(capsys, "--machine", "4GB, 10GB/s, 4 cores")["needs"]["memory"] == 3_200_000_000
    assert any("Cores alone" in note for note in answer(capsys, "--machine", "4 cores")["notes"])


@pytest.mark.parametrize("text", ["", "8", "fast", "8GB, slow"])
def test_a_machine_that_is_not_understood(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not understood"):
        Stated.parse(text)


@pytest.mark.parametrize(
    ("wish", "step"),
    [("ollama", "ollama run gemma3:1b"), ("langchain", "ollama create NAME"), ("openai", "serve"), ("json", "-server")],
)
def test_an_integration_brings_its_commands(capsys, wish: str, step: str) -> None:
    found = {each["name"]: each for each in answer(capsys, "--memory", "2GB", "--integration", wish)["suggestions"]}
    steps = " ".join(found["gemma3:1b"]["steps"])
    assert step in steps or (wish in ("openai", "json") and "smidgen serve" in steps)


def test_only_what_is_stored_when_nothing_may_be_fetched(capsys) -> None:
    found = answer(capsys, "--privacy", "stored")
    assert found["suggestions"] == [] and "No model of the catalog meets all demands" in found["advice"][0]
    assert set(found["ruled_out"].values()) >= {"is not in the store"}


def test_nothing_that_meets_all_demands_is_said_with_the_demand_that_fails_most(capsys) -> None:
    assert main(["choose", "--memory", "50MB", "--quiet"]) == 0
    assert "most fail by: too little memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--task", "chatt"], "Did you mean 'chat'"),
        (["--place", "moon"], "There is no place 'moon'"),
        (["--integration", "olama"], "Did you mean 'ollama'"),
        (["--privacy", "much"], "There is no privacy 'much'"),
        (["--licence", "free"], "There is no licence 'free'"),
        (["--memory", "2"], "has no unit"),
        (["--speed", "quick"], "is not a speed"),
        (["--context", "0"], "context of 0 tokens"),
        (["--machine", "big"], "is not understood"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(words, part, capsys) -> None:
    assert main(["choose", *words, "--quiet"]) == 2
    shown = capsys.readouterr().err
    assert part in shown and "Traceback" not in shown


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="the system has no pseudo terminals")
def test_a_terminal_is_asked_what_was_not_said() -> None:
    ours, theirs = os.openpty()
    code = "from smidgen.cli.main import main; raise SystemExit(main(['choose']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, b"summarize\npermissive\nlaptop\n2GB\nen\n")
    shown, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([ours], [], [], 1)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
        elif process.poll() is not None:
            break
    os.close(ours)
    text = shown.decode(errors="replace")
    assert process.wait(10) == 0, text
    assert "What shall it do?" in text and "shorten texts" in text and "smidgen pull" in text


def test_nobody_is_asked_where_there_is_no_terminal() -> None:
    code = "from smidgen.cli.main import main; raise SystemExit(main(['choose', '--quiet']))"
    done = subprocess.run([sys.executable, "-c", code], input="", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "What shall it do?" not in done.stdout and "Next:" in done.stdout
