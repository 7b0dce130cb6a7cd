import importlib.machinery
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest

from smidgen import registry
from smidgen.cli.main import command_names

SCRIPT = Path(__file__).parents[1] / "scripts" / "docs"


@pytest.fixture(scope="module")
def docs():
    loader = importlib.machinery.SourceFileLoader("docs_script", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_every_command_and_the_options_of_everywhere_are_described(docs):
    page = docs.commands_page()
    assert all(f"\n## smidgen {name}\n" in page for name in command_names())
    assert page.count("`--max-memory SIZE`") == 1 and "Default: 0." in page


def test_every_number_format_is_described(docs):
    page = docs.methods_page()
    names = registry.names("smidgen.formats")
    assert len(names) >= 10 and all(f"\n### {name}\n" in page for name in names)


def test_a_worked_number_becomes_code_and_fields_become_a_table(docs):
    @dataclass(frozen=True)
    class Halving:
        """Halves.

        Attributes:
            times: How often,
                in words: twice.

        Example:
            >>> Halving().times
            1
        """

        times: int = 1

    text = "\n".join(docs.method_lines("halving", Halving))
    assert "```python\n>>> Halving().times\n1\n```" in text
    assert "| `times` | `int` | `1` | How often, in words: twice. |" in text


def test_stale_pages_are_found(docs, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(docs, "DOCS", tmp_path)
    monkeypatch.setattr("sys.argv", ["docs", "--check"])
    with pytest.raises(SystemExit, match="make docs"):
        docs.main()
    monkeypatch.setattr("sys.argv", ["docs"])
    docs.main()
    monkeypatch.setattr("sys.argv", ["docs", "--check"])
    docs.main()
    (tmp_path / "commands.md").write_text("old")
    with pytest.raises(SystemExit, match=r"docs/commands\.md"):
        docs.main()
