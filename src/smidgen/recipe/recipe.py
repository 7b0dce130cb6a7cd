"""A recipe: the exact steps from a source to a result, as `make` writes them or a person does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from smidgen.errors import DamagedFile, RecipeError, ReferenceNotFound

FORMAT = 1
FIELDS = {"format", "source", "sha256", "data", "data_sha256", "windows", "length", "seed", "threads", "steps"}


class Operation(Protocol):
    """A way of shrinking: a frozen dataclass whose fields are the step's parameters."""

    __dataclass_fields__: Any


def operations() -> dict[str, type[Any]]:
    """Return the operations a step may name."""
    from smidgen.shrink.distill.distill import Distill
    from smidgen.shrink.prune.prune import Prune
    from smidgen.shrink.quantize.quantize import Quantize

    return {"prune": Prune, "distill": Distill, "quantize": Quantize}


@dataclass(frozen=True)
class Step:
    """One operation with its parameters."""

    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Make the operation.

        Raises:
            RecipeError: The operation or one of its parameters does not exist, or one that is needed is missing.
        """
        known = operations()
        if self.operation not in known:
            raise RecipeError([str(ReferenceNotFound.among("operation", self.operation, known))])
        kind = known[self.operation]
        fields = {item.name: item for item in dataclasses.fields(kind)}
        problems = [
            str(ReferenceNotFound.among(f"parameter of {self.operation}", name, fields))
            for name in self.parameters
            if name not in fields
        ]
        for name, item in fields.items():
            optional = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
            if not optional and name not in self.parameters:
                problems.append(f"{self.operation} needs {name!r}.")
        if problems:
            raise RecipeError(problems)
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in self.parameters.items()}
        return kind(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, the operation first."""
        return {"operation": self.operation, **self.parameters}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result's bytes.

    Attributes:
        source: Reference of the model to start from.
        sha256: Its digest; None leaves it open.
        data: The user's text as given to ``--for``; None is the built-in text.
        data_sha256: Digest of the calibration text; None leaves it open.
        windows: Count of calibration windows.
        length: Tokens per window.
        seed: Of everything random.
        threads: Threads of the arithmetic; another count may change the last bits.
        steps: What is done, first to last.
    """

    source: str
    steps: tuple[Step, ...]
    sha256: str | None = None
    data: str | None = None
    data_sha256: str | None = None
    windows: int = 24
    length: int = 512
    seed: int = 0
    threads: int | None = None

    def to_yaml(self) -> str:
        """Return the text of ``recipe.yaml``."""
        import yaml

        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "steps"}
        content = {"format": FORMAT, **values, "steps": [step.to_dict() for step in self.steps]}
        text: str = yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)
        return text

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe file, collecting every fault.

        Raises:
            ReferenceNotFound: There is no such file.
            DamagedFile: It is not YAML.
            RecipeError: It does not describe a recipe.
        """
        import yaml

        if not path.is_file():
            raise ReferenceNotFound(f"There is no recipe {path}.")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DamagedFile(f"{path} is not YAML: {error}.") from error
        if not isinstance(content, dict):
            raise RecipeError([f"{path} holds no mapping."], remedy="A recipe has at least 'source' and 'steps'.")
        problems = _problems(content)
        if problems:
            raise RecipeError([f"{path}: {problem}" for problem in problems])
        steps = tuple(
            Step(entry["operation"], {name: value for name, value in entry.items() if name != "operation"})
            for entry in content["steps"]
        )
        values = {name: value for name, value in content.items() if name not in ("format", "steps")}
        return cls(steps=steps, **values)


def _problems(content: Mapping[str, Any]) -> list[str]:
    problems = [
        str(ReferenceNotFound.among("recipe field", str(name), FIELDS)) for name in content if name not in FIELDS
    ]
    if content.get("format", FORMAT) != FORMAT:
        problems.append(f"format {content['format']!r} is not {FORMAT}.")
    if not isinstance(content.get("source"), str):
        problems.append("'source' must name a model.")
    for name, least in (("windows", 1), ("length", 16), ("seed", 0), ("threads", 1)):
        value = content.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            problems.append(f"{name!r} must be a whole number of at least {least}, not {value!r}.")
    steps = content.get("steps")
    if not isinstance(steps, list) or not steps:
        return [*problems, "'steps' must list at least one step."]
    for number, entry in enumerate(steps, 1):
        if not isinstance(entry, dict) or "operation" not in entry:
            problems.append(f"step {number} has no 'operation'.")
            continue
        try:
            Step(entry["operation"], {name: value for name, value in entry.items() if name != "operation"}).build()
        except RecipeError as error:
            problems += [f"step {number}: {problem}" for problem in error.problems]
        except (TypeError, ValueError) as error:
            problems.append(f"step {number}: {error}")
    return problems
