import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from smidgen.cli import main as entry
from smidgen.cli.main import BROKEN_PIPE, FOUNDATION, command_names, main
from smidgen.errors import BudgetNotMet, InvalidInput, RecipeError

LIGHT = """
import sys, time
from smidgen.cli.main import main
code = main([{word!r}])
heavy = [name for name in ("torch", "pydantic", "transformers", "numpy") if name in sys.modules]
print(code, time.process_time(), *heavy, file=sys.stderr)
"""


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_are_instant_and_light(word):
    code = LIGHT.format(word=word)

    def processor_seconds():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        exit_code, seconds, *heavy = done.stderr.split()
        assert exit_code == "0" and heavy == []
        return float(seconds)

    assert min(processor_seconds() for _ in range(4)) < 0.5


def test_every_file_of_the_folder_is_a_command_in_the_help(capsys):
    folder = Path(entry.__file__).parent
    files = {path.stem.replace("_", "-") for path in folder.glob("[!_]*.py")} - FOUNDATION
    files |= {path.parent.name for path in folder.glob("*/__init__.py")}
    assert len(files) > 10 and set(command_names()) == files
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in files)


GROUPS = [name for name in command_names() if (Path(entry.__file__).parent / name).is_dir()]


@pytest.mark.parametrize("name", GROUPS)
def test_a_command_with_commands_of_its_own_lists_them(name, capsys):
    assert main([name]) == 0
    shown = capsys.readouterr().out
    assert command_names(name) and all(f" {own} " in shown for own in command_names(name))
    assert main([name, "nothing"]) == 2
    assert f"{name} nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        *sorted({*command_names()} - {*GROUPS}),
        *(f"{group} {name}" for group in GROUPS for name in command_names(group)),
    ],
)
def test_every_command_has_help_and_the_options_of_everywhere(name, capsys):
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--json", "--quiet", "--threads", "--device", "--max-memory", "--offline", "--seed"):
        assert option in shown


def test_no_words_show_the_help(capsys):
    assert main([]) == 0
    assert "Usage: smidgen" in capsys.readouterr().out


def test_version(capsys):
    import smidgen

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"smidgen {smidgen.__version__}\n"


def test_a_mistyped_command_names_the_nearest(capsys):
    assert main(["docter"]) == 2
    shown = capsys.readouterr()
    assert "Did you mean 'doctor'?" in shown.err and shown.out == ""


@pytest.mark.parametrize(
    "words", [["doctor", "--jason"], ["doctor", "extra"], ["doctor", "--seed", "x"], ["--no-such"]]
)
def test_usage_errors_exit_2_without_traceback(words, capsys):
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and "\nSee: smidgen" in shown and "Traceback" not in shown


def test_an_error_as_json_even_when_the_words_are_wrong(capsys):
    assert main(["docter", "--json"]) == 2
    shown = capsys.readouterr()
    error = json.loads(shown.out)["error"]
    assert error["type"] == "ReferenceNotFound" and error["exit_code"] == 2 and "doctor" in error["remedy"]
    assert shown.err == ""


@pytest.fixture
def raising(monkeypatch):
    """Make ``smidgen doctor`` raise what the test wants."""

    def arrange(error):
        def examine(*_, **__):
            raise error

        monkeypatch.setattr("smidgen.cli.doctor.examine", examine)

    return arrange


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            InvalidInput("The size is odd.", remedy="Use smidgen[data]."),
            2,
            "error: The size is odd.\nUse smidgen[data].\n",
        ),
        (BudgetNotMet("Too big."), 3, "error: Too big.\n"),
        (RecipeError(["one", "two"]), 2, "error: 2 problems:\n- one\n- two\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; the same command resumes\n"),
        (typer.Abort(), 130, "error: interrupted; the same command resumes\n"),
        (PermissionError(13, "Permission denied", "/out"), 2, None),
        (OSError(28, "No space left on device", "/out"), 2, None),
        (MemoryError(), 2, None),
    ],
)
def test_errors_are_one_clear_message(raising, error, code, text, capsys):
    raising(error)
    assert main(["doctor"]) == code
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and "Traceback" not in shown.err and shown.out == ""
    if text is not None:
        assert shown.err == text
    if isinstance(error, OSError):
        assert "'/out'" in shown.err


def test_problems_of_a_recipe_are_listed_in_json(raising, capsys):
    raising(RecipeError(["one", "two"]))
    assert main(["doctor", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["problems"] == ["one", "two"]


def test_an_internal_fault_keeps_its_traceback_in_a_log(raising, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_log_path", lambda *names, **options: tmp_path / "log")
    raising(ZeroDivisionError("odd"))
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().err
    (log,) = (tmp_path / "log").iterdir()
    assert "internal fault: ZeroDivisionError: odd" in shown and str(log) in shown and "Traceback" not in shown
    assert "Traceback" in log.read_text() and "examine" in log.read_text()


def test_an_internal_fault_is_shown_where_debugging(raising, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_log_path", lambda *names, **options: tmp_path)
    monkeypatch.setenv("SMIDGEN_DEBUG", "1")
    raising(ZeroDivisionError("odd"))
    assert main(["doctor"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_goes_to_the_temporary_folder(raising, capsys, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr("platformdirs.user_log_path", lambda *names, **options: blocked / "log")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    raising(ZeroDivisionError("odd"))
    assert main(["doctor"]) == 1
    assert str(tmp_path / "fault-") in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_fault():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "smidgen", "--help"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.returncode == BROKEN_PIPE and done.stderr == ""


def test_completion_offers_the_commands():
    environment = {**os.environ, "_SMIDGEN_COMPLETE": "complete_bash", "COMP_WORDS": "smidgen doc", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "smidgen"], env=environment, capture_output=True, text=True, check=True
    )
    assert "doctor" in done.stdout.split()
