"""The tree of errors: what every one says and how a command ends with it."""

from __future__ import annotations

import inspect

import pytest

from smidgen import errors
from smidgen.errors import MissingExtra, RecipeError, ReferenceNotFound, SmidgenError

EXIT_CODES = {"EngineFailed": 1, "BudgetNotMet": 3, "QualityDrifted": 3, "ItemsFailed": 4, "Interrupted": 130}
CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, SmidgenError)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_stands_in_the_tree_with_its_exit_code(kind: type[SmidgenError]) -> None:
    expected = EXIT_CODES.get(kind.__name__, 2)
    assert kind.exit_code == expected
    lines = [line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line]
    assert len(lines) == 1, "drawn once"
    if kind.__name__ in EXIT_CODES:
        assert lines[0].endswith(f"({expected})")
    assert kind.__doc__


def test_there_are_as_many_as_are_drawn() -> None:
    assert len(CLASSES) == 15
    assert sum("── " in line for line in (errors.__doc__ or "").splitlines()) == 14


def test_a_message_and_its_remedy_are_one_text() -> None:
    error = SmidgenError("It broke.", remedy="Mend it.")
    assert (str(error), error.message, error.remedy) == ("It broke. Mend it.", "It broke.", "Mend it.")
    assert str(SmidgenError("It broke.")) == "It broke."


def test_one_fault_is_a_sentence_and_several_are_a_list() -> None:
    assert str(RecipeError(["fit: 80 has no unit."], remedy="Write 80MB.")) == "fit: 80 has no unit. Write 80MB."
    several = RecipeError(["fit: no.", "keep: no."])
    assert str(several) == "2 problems:\n- fit: no.\n- keep: no."
    assert several.problems == ["fit: no.", "keep: no."]


def test_what_does_not_exist_names_the_nearest() -> None:
    assert str(ReferenceNotFound.among("model", "SMOLM2", ["Smollm2", "gemma"])) == (
        "There is no model 'SMOLM2'. Did you mean 'Smollm2'? Known: Smollm2, gemma."
    )
    assert str(ReferenceNotFound.among("model", "zzz", iter(["b", "a"]))) == "There is no model 'zzz'. Known: a, b."
    assert str(ReferenceNotFound.among("model", "x", [])) == "There is no model 'x'. Known: none."


def test_a_missing_package_says_how_to_get_it() -> None:
    error = MissingExtra.of("reading .parquet files", "pyarrow", "data")
    assert error.remedy == "Install it with: pip install 'smidgen[data]'"
