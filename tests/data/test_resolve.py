import random
from pathlib import Path

import pytest

from smidgen.data import builtin
from smidgen.data.resolve import resolve
from smidgen.data.split import overlap
from smidgen.errors import InvalidInput


def test_without_data_the_built_in_text_stands_in() -> None:
    data = resolve(None)
    assert data.stand_in
    assert data.calibration == builtin.calibration()
    assert data.held_out == data.general == builtin.held_out()
    assert data.warnings == (builtin.STAND_IN_WARNING,)


def test_the_users_data_are_divided_and_general_prose_stays_beside_them(tmp_path: Path) -> None:
    generator = random.Random(0)
    lines = ["".join(generator.choices("abcdefgh ", k=90)) for _ in range(200)]
    (tmp_path / "tickets.csv").write_text("text\n" + "\n".join([*lines, lines[0]]) + "\n")
    data = resolve(tmp_path / "tickets.csv")
    assert not data.stand_in
    assert data.general == builtin.held_out()
    assert len(data.calibration.rows) + len(data.held_out.rows) == 200
    assert overlap(data.held_out, data.calibration) == 0
    assert data.warnings == ("1 duplicate row was removed.",)


def test_general_prose_that_the_users_data_hold_is_left_out(tmp_path: Path) -> None:
    topics = builtin.held_out().rows
    (tmp_path / "docs.txt").write_text("\n\n\n".join(row.plain for row in topics[-3:]))
    data = resolve(str(tmp_path / "docs.txt"))
    assert 0 < len(data.general.rows) < len(topics)
    assert "Passages of the general text that your data hold as well were left out of it." in data.warnings


def test_data_too_small_to_divide_are_refused(tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_text("A quick brown fox.")
    with pytest.raises(InvalidInput, match=r"small\.txt is too small"):
        resolve(tmp_path / "small.txt")
