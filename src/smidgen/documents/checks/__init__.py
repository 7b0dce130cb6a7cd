"""What must hold between the values of a document, one file each, found by its name.

A check is a frozen dataclass whose fields are what a schema's ``x-checks`` says beside ``check``. Its ``paths``
names the values that it goes by, and ``fault(values)`` says what is wrong, None where nothing is or a value is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from smidgen import registry
from smidgen.errors import InvalidInput, RecipeError, SmidgenError

if TYPE_CHECKING:
    from smidgen.documents.schema import Wanted

FOLDER = "smidgen.documents.checks"
"""The folder of the checks, for `smidgen.registry`."""

Values = Mapping[str, Any]
"""Single values by path, and for ``rows[].column`` the list of a column's values."""


class Check(Protocol):
    """A check."""

    @property
    def paths(self) -> Sequence[str]:
        """Paths of the values that it goes by."""
        ...

    def fault(self, values: Values) -> str | None:
        """Say what is wrong, in one sentence."""
        ...


def build(entry: Mapping[str, Any]) -> Check:
    """Return a check as a schema writes it.

    Raises:
        ReferenceNotFound: There is no such check, or it has no such option.
        InvalidInput: Something is missing or of the wrong type.

    Example:
        >>> build({"check": "order", "of": ["date", "due_date"]})
        Order(of=('date', 'due_date'))
    """
    options = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items() if key != "check"
    }
    try:
        check: Check = registry.build(FOLDER, str(entry.get("check", "")), options)
    except TypeError as error:
        raise InvalidInput(f"The check {dict(entry)} is not whole: {error}.") from error
    return check


def require_known(wanted: Wanted) -> None:
    """Refuse checks that do not exist, or go by values that the schema does not have.

    Raises:
        RecipeError: All such faults together.
    """
    known = {field.path for field in wanted.fields}
    known |= {f"{table.path}[].{column.path}" for table in wanted.tables for column in table.columns}
    problems: list[str] = []
    for entry in wanted.checks:
        try:
            missing = [path for path in build(entry).paths if path not in known]
        except SmidgenError as error:
            problems.append(str(error))
            continue
        if missing:
            problems.append(
                f"The check {entry['check']!r} goes by what the schema does not have: {', '.join(missing)}."
            )
    if problems:
        raise RecipeError(problems)
