"""Every error a person can meet, drawn as one tree.

Each error says what was wrong, where, what was expected and how to mend it. The command line prints the
message without a traceback and exits with the class's ``exit_code``.

    SmidgenError (2)
    ├── ReferenceNotFound        a model, file, name or option that does not exist
    ├── InvalidInput             a value that cannot be understood or is out of range
    │   └── RecipeError          several faults of a recipe or budget, collected
    ├── DamagedFile              a file that is not what its format promises
    ├── Unsupported              understood, but smidgen cannot do it (yet) for this model or machine
    ├── MissingExtra             an optional package is not installed
    ├── OutOfResources           too little disk, memory or time to end well
    ├── Locked                   another process holds the store or the run folder
    ├── SourceUnavailable        the network, index or hub could not deliver
    ├── EngineFailed             the inference engine stopped or refused            (1)
    ├── BudgetNotMet             the best that was found misses the budget          (3)
    ├── QualityDrifted           a receipt's figures moved when measured again      (3)
    ├── ItemsFailed              a batch completed with failed items                (4)
    └── Interrupted              stopped by the user; the same command resumes      (130)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SmidgenError(Exception):
    """Root of all errors meant for a person.

    Args:
        message: What is wrong and where, in one sentence.
        remedy: What to do about it, in one sentence.
    """

    exit_code = 2

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class ReferenceNotFound(SmidgenError):
    """A model, file, method or option that does not exist.

    Example:
        >>> print(ReferenceNotFound.among("solver", "gtpq", ["gptq", "nearest"]))
        There is no solver 'gtpq'. Did you mean 'gptq'? Known: gptq, nearest.
    """

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> ReferenceNotFound:
        """Build the error for a name that is not among the known ones, naming the nearest match."""
        choices = sorted(known)
        close = difflib.get_close_matches(name.lower(), [choice.lower() for choice in choices], n=1)
        nearest = next((choice for choice in choices if close and choice.lower() == close[0]), None)
        guess = f"Did you mean {nearest!r}? " if nearest else ""
        listing = ", ".join(choices) if choices else "none"
        return cls(f"There is no {kind} {name!r}.", remedy=f"{guess}Known: {listing}.")


class InvalidInput(SmidgenError):
    """A value that cannot be understood or is out of range."""


class RecipeError(InvalidInput):
    """Several faults of a recipe or a budget, shown together.

    Args:
        problems: One sentence per fault, each with its place.
    """

    def __init__(self, problems: list[str], *, remedy: str | None = None) -> None:
        self.problems = problems
        listing = problems[0] if len(problems) == 1 else "\n".join(f"- {problem}" for problem in problems)
        title = "" if len(problems) == 1 else f"{len(problems)} problems:\n"
        super().__init__(f"{title}{listing}", remedy=remedy)


class DamagedFile(SmidgenError):
    """A file that is cut short, altered or not of the format its name promises."""


class Unsupported(SmidgenError):
    """Something understood that smidgen cannot do for this model, format or machine."""


class MissingExtra(SmidgenError):
    """An optional package is missing; the remedy is the pip command that installs it.

    Example:
        >>> print(MissingExtra.of("reading .parquet files", "pyarrow", "data"))
        Reading .parquet files needs the package 'pyarrow'. Install it with: pip install 'smidgen[data]'
    """

    @classmethod
    def of(cls, purpose: str, package: str, extra: str) -> MissingExtra:
        """Build the error for a purpose that needs a package of one of smidgen's extras."""
        return cls(
            f"{purpose[0].upper()}{purpose[1:]} needs the package {package!r}.",
            remedy=f"Install it with: pip install 'smidgen[{extra}]'",
        )


class OutOfResources(SmidgenError):
    """Too little disk, memory or time to end well; found before starting."""


class Locked(SmidgenError):
    """Another process holds the store or the run folder."""


class SourceUnavailable(SmidgenError):
    """The network, the package index or a hub could not deliver."""


class EngineFailed(SmidgenError):
    """The inference engine stopped, refused a model or did not answer."""

    exit_code = 1


class BudgetNotMet(SmidgenError):
    """The best result found misses the budget; it is kept and named in the message."""

    exit_code = 3


class QualityDrifted(SmidgenError):
    """A receipt's figures moved beyond their interval when they were measured again."""

    exit_code = 3


class ItemsFailed(SmidgenError):
    """A batch completed, and some of its items failed; each has its error row."""

    exit_code = 4


class Interrupted(SmidgenError):
    """Stopped by the user; what was done is kept and the same command resumes."""

    exit_code = 130
