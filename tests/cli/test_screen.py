import json
import os
import pty
import subprocess
import sys

import pytest

from smidgen.cli import screen as shown
from smidgen.cli.screen import Screen, describe_count, describe_rate
from smidgen.progress import Event, track


def test_without_a_terminal_every_stage_ends_in_one_line(capsys):
    with Screen().progress() as progress:
        list(track(range(48), "reading", progress, unit="layers"))
        progress(Event("healing", 0, None, "tokens"))
        progress(Event("healing", 3000, None, "tokens", "loss 0.21"))
    captured = capsys.readouterr()
    reading, healing = captured.err.splitlines()
    assert reading.startswith("reading: 48 layers, ") and healing.startswith("healing: 3,000 tokens, loss 0.21, ")
    assert captured.out == ""


def test_a_stage_that_is_broken_off_is_still_told(capsys):
    with pytest.raises(KeyboardInterrupt), Screen().progress() as progress:
        progress(Event("reading", 3, 48, "layers"))
        raise KeyboardInterrupt
    assert capsys.readouterr().err.startswith("reading: 3 of 48 layers, ")


def test_a_long_stage_tells_where_it_is(capsys, monkeypatch):
    monkeypatch.setattr(shown, "_HEARTBEAT", 0.0)
    with Screen().progress() as progress:
        progress(Event("reading", 3, 48, "layers"))
    assert capsys.readouterr().err.splitlines()[0].endswith(" so far")


def test_a_stage_that_begins_again_is_another_stage(capsys):
    with Screen().progress() as progress:
        for _ in range(2):
            list(track("ab", "trying", progress))
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_quiet_shows_no_progress_and_no_notes_but_warnings_and_results(capsys):
    screen = Screen(quiet=True)
    with screen.progress() as progress:
        list(track("ab", "trying", progress))
    screen.say("a note")
    screen.warn("take care [of this]")
    screen.result({"a": 1}, lambda: screen.text("one"))
    captured = capsys.readouterr()
    assert captured.err == "warning: take care [of this]\n" and captured.out == "one\n"


def test_a_result_is_json_where_wanted(capsys):
    screen = Screen(json=True)
    screen.result({"a": [1, None], "ü": "\udc80"}, lambda: screen.text("one"))
    assert json.loads(capsys.readouterr().out) == {"a": [1, None], "ü": "\udc80"}


def test_a_table_keeps_long_cells_whole_and_brackets_literal(capsys):
    Screen().table(("name", "size"), [("smidgen[data]", "80 MB"), ("x" * 300, "1,000 MB")], title="models")
    out = capsys.readouterr().out
    assert "smidgen[data]" in out and "x" * 300 in out
    lines = [line.rstrip() for line in out.splitlines() if "MB" in line]
    assert len({len(line) for line in lines}) == 1, "numbers end in the same column"


def test_long_messages_are_not_broken(capsys):
    Screen().say("/a/long/path " * 40)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event("s", 12, 48, "layers"), "12 of 48 layers"),
        (Event("s", 48, 48, "layers"), "48 layers"),
        (Event("s", 1234, None, "tokens"), "1,234 tokens"),
        (Event("s", 5e6, 98362432, "bytes"), "5.0 MB of 98.4 MB"),
        (Event("s", 2, 3), "2 of 3"),
    ],
)
def test_counts(event, text):
    assert describe_count(event) == text


@pytest.mark.parametrize(
    ("event", "seconds", "text"),
    [
        (Event("s", 3000, None, "tokens"), 2.0, "1,500 tokens/s"),
        (Event("s", 3, 48, "layers"), 2.0, "1.5 layers/s"),
        (Event("s", 5e6, None, "bytes"), 2.0, "2.5 MB/s"),
        (Event("s", 0, 48, "layers"), 2.0, ""),
        (Event("s", 3, 48, "layers"), 0.0, ""),
        (Event("s", 3, 48), 2.0, ""),
    ],
)
def test_rates(event, seconds, text):
    assert describe_rate(event, seconds) == text


def test_a_terminal_gets_one_bar_per_stage():
    code = """
from smidgen.cli.screen import Screen
from smidgen.progress import Event, track
with Screen().progress() as progress:
    list(track(range(48), "reading [all]", progress, unit="layers"))
    progress(Event("healing", 3000, None, "tokens", "loss 0.21"))
"""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    environment.pop("NO_COLOR", None)
    child = subprocess.Popen([sys.executable, "-c", code], stderr=follower, stdout=subprocess.PIPE, env=environment)
    os.close(follower)
    seen = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(leader)
    out, _ = child.communicate()
    text = seen.decode()
    assert child.returncode == 0 and out == b""
    assert "reading [all]" in text and "48 layers" in text and "━" in text
    assert "3,000 tokens" in text and "loss 0.21" in text
