import os
import subprocess
import sys
from typing import Annotated, Any

import pytest
import typer

from smidgen.cli import options
from smidgen.cli.options import Group, Settings, default_threads, everywhere, prepare_process, with_settings
from smidgen.errors import InvalidInput


@pytest.fixture(autouse=True)
def same_environment(monkeypatch):
    """Undo what a test does to the environment and to torch."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    monkeypatch.setattr(os, "environ", dict(os.environ))
    yield
    if torch:
        torch.set_num_threads(threads)


def test_what_is_said_is_kept():
    settings = everywhere(True, True, 3, "cuda:1", "8GB", True, 7)
    assert settings == Settings(True, True, 3, "cuda:1", 8 * 10**9, True, 7)


def test_threads_default_to_the_physical_cores_or_what_the_environment_says():
    os.environ.pop("OMP_NUM_THREADS", None)
    from smidgen import machine

    assert everywhere().threads == default_threads() == machine.cores()[0]
    os.environ["OMP_NUM_THREADS"] = "3"
    assert everywhere().threads == 3
    assert everywhere(threads=2).threads == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("threads", 0),
        ("threads", -1),
        ("threads", 5000),
        ("device", "gpu"),
        ("device", "cuda:"),
        ("device", "CPU "),
        ("max_memory", "8"),
        ("max_memory", "much"),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_a_wrong_value_is_refused_by_its_option(option, value):
    with pytest.raises(InvalidInput, match=f"--{option.replace('_', '-')}") as caught:
        everywhere(**{option: value})
    assert caught.value.remedy


def test_a_command_gets_its_settings_and_its_own_options():
    seen = []

    def command(settings: Settings, name: str, times: Annotated[int, typer.Option("--times")] = 1) -> None:
        seen.append((settings.seed, settings.json, name, times))

    app = typer.Typer(add_completion=False)
    app.command()(with_settings(command))
    app(["model", "--seed", "5", "--times", "2", "--json"], standalone_mode=False)
    app(["--times", "3", "other"], standalone_mode=False)
    assert seen == [(5, True, "model", 2), (0, False, "other", 3)]


def test_a_group_of_options_comes_as_one():
    def asked(
        first: Annotated[int, typer.Option("--first")] = 1, second: Annotated[bool, typer.Option()] = False
    ) -> Any:
        return first, second

    seen = []

    def command(name: str, settings: Settings, *, pair: Annotated[Any, Group(asked)], last: int = 3) -> None:
        seen.append((name, pair, last, settings.seed))

    app = typer.Typer(add_completion=False)
    app.command()(with_settings(command))
    app(["model", "--first", "5", "--second", "--seed", "2"], standalone_mode=False)
    app(["model", "--last", "4"], standalone_mode=False)
    assert seen == [("model", (5, True), 3, 2), ("model", (1, False), 4, 0)]


def test_a_command_without_settings_stays_as_it_is():
    def command(name: str) -> None:
        """Do nothing."""

    assert with_settings(command) is command


def test_the_process_is_prepared_before_torch():
    code = (
        "import sys; from smidgen.cli.options import Settings, prepare_process; prepare_process(Settings(threads=1));"
        "assert 'torch' not in sys.modules;"
        "import os, torch;"
        "print(torch.get_num_threads(), os.environ['MKL_CBWR'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "AUTO,STRICT", "1"]


def test_a_loaded_torch_obeys_and_a_set_mode_stays(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    prepare_process(options.Settings(threads=1, offline=True))
    assert torch.get_num_threads() == 1
    assert os.environ["MKL_CBWR"] == "COMPATIBLE" and os.environ["HF_HUB_OFFLINE"] == "1"
