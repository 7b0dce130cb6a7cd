"""Methods are found by file name, and those of other packages by entry point."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smidgen import registry
from smidgen.errors import ReferenceNotFound

SOLVERS = "smidgen.shrink.quantize.solvers"
FAMILIES = (
    "smidgen.formats",
    "smidgen.models.families",
    "smidgen.shrink.quantize.solvers",
    "smidgen.shrink.prune.criteria",
    "smidgen.shrink.prune.structures",
    "smidgen.shrink.distill.losses",
    "smidgen.inference.engines",
)


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    registry.names.cache_clear()
    registry.find.cache_clear()
    yield
    registry.names.cache_clear()
    registry.find.cache_clear()


@pytest.mark.parametrize("package", FAMILIES)
def test_every_name_is_found_and_bears_its_files_name(package: str) -> None:
    names = registry.names(package)
    assert names and list(names) == sorted(names)
    assert not any(name.startswith("_") for name in names)
    for name in names:
        found = registry.find(package, name)
        assert found.__name__.lower().replace("_", "") == name.replace("_", "")
        assert found.__module__ == f"{package}.{name}"


def test_spelling_makes_no_difference() -> None:
    found = {registry.find("smidgen.shrink.prune.criteria", name) for name in ("block_influence", "BlockInfluence",
             "block-influence")}  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        (SOLVERS, "gtpq", "There is no solver 'gtpq'. Did you mean 'gptq'? Known: gptq, learned, nearest, scale."),
        ("smidgen.shrink.prune.criteria", "x", "There is no criterion 'x'."),
        ("smidgen.models.families", "lama", "There is no family 'lama'. Did you mean 'llama'? Known: "),
        ("smidgen.shrink.distill.losses", "hiden", "There is no loss 'hiden'. Did you mean 'hidden'?"),
        (SOLVERS, "", "There is no solver ''. Known: gptq, learned, nearest, scale."),
    ],
)
def test_a_missing_name_names_the_nearest(package: str, name: str, message: str) -> None:
    with pytest.raises(ReferenceNotFound) as caught:
        registry.find(package, name)
    assert str(caught.value).startswith(message)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of someone else that brings a solver, as pip would install it."""
    (tmp_path / "outsider.py").write_text("class Dice:\n    pass\n")
    facts = tmp_path / "outsider-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: outsider\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[smidgen.solvers]\ndice = outsider:Dice\nbroken = outsider:Missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("outsider", None)


def test_an_entry_point_adds_a_method_that_is_imported_when_it_is_asked_for(installed: Path) -> None:
    assert registry.names(SOLVERS) == ("broken", "dice", "gptq", "learned", "nearest", "scale")
    assert "outsider" not in sys.modules
    assert registry.find(SOLVERS, "Dice").__module__ == "outsider"
    assert registry.names("smidgen.formats") == tuple(
        name for name in registry.names("smidgen.formats") if name != "dice"
    )


def test_a_file_without_its_class_is_a_fault_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "odd_methods"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "lost.py").write_text("from pathlib import Path as Lost\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AssertionError, match="no class named like the file"):
        registry.find("odd_methods", "lost")
    for name in ("odd_methods", "odd_methods.lost"):
        sys.modules.pop(name, None)
