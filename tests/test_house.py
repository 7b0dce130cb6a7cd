import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import smidgen

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "smidgen").rglob("*.py"))


def test_imports_run_downward_only():
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_is_instant_and_light():
    heavy = "[name for name in ('torch', 'pydantic', 'numpy', 'typer') if name in sys.modules]"
    code = f"import sys, time, smidgen; print(time.process_time(), *{heavy})"

    def measured():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, *loaded = done.stdout.split()
        assert loaded == []
        return float(seconds)

    assert min(measured() for _ in range(4)) < 0.3, "the processor's seconds, which do not count what others do"


def test_the_public_names_are_pinned():
    verbs = [
        "apply",
        "compare",
        "distill",
        "extract",
        "finetune",
        "load",
        "make",
        "measure",
        "merge",
        "prune",
        "pull",
        "quantize",
        "run",
        "verify",
    ]
    assert smidgen.__all__ == ["__version__", *verbs]
    assert set(smidgen.__all__) <= set(dir(smidgen))


@pytest.mark.parametrize("name", [name for name in smidgen.__all__ if name != "__version__"])
def test_every_public_verb_is_a_function_with_help(name):
    verb = getattr(smidgen, name)
    assert callable(verb) and verb.__name__ == name and verb.__doc__
    assert getattr(smidgen, name) is verb


def test_the_version_is_that_of_the_package():
    written = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert written and smidgen.__version__ == written[1]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'shrinkwrap'"):
        smidgen.shrinkwrap  # noqa: B018


def test_no_room_bears_a_verb_s_name():
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "src" / "smidgen").iterdir()}
    assert not rooms & {*smidgen.__all__}


def test_every_module_says_what_it_is():
    silent = [path for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert len(SOURCES) > 20 and silent == []


def test_every_folder_of_the_package_is_a_package():
    folders = {path.parent for path in SOURCES}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_engine_room_imports_without_torch():
    code = "import sys, smidgen.machine, smidgen.registry, smidgen.progress; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_twice_gives_the_same_package():
    assert importlib.import_module("smidgen") is smidgen
