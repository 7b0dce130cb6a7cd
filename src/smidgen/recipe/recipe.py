"""A recipe: the exact steps from a source to a result, as `make` writes them or a person does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from smidgen.errors import DamagedFile, RecipeError, ReferenceNotFound, SmidgenError

FORMAT = 1
FIELDS = {"format", "source", "sha256", "data", "data_sha256", "windows", "length", "seed", "threads", "steps"}
STEP_FIELDS = ("operation", "images", "images_sha256")
"""Entries of a step that are not parameters of its operation."""


class Operation(Protocol):
    """A way of shrinking: a frozen dataclass whose fields are the step's parameters."""

    __dataclass_fields__: Any


def operations() -> dict[str, type[Any]]:
    """Return the operations a step may name."""
    from smidgen.shrink.distill.distill import Distill
    from smidgen.shrink.finetune.finetune import Finetune
    from smidgen.shrink.prune.prune import Prune
    from smidgen.shrink.quantize.quantize import Quantize

    return {"prune": Prune, "distill": Distill, "finetune": Finetune, "quantize": Quantize}


@dataclass(frozen=True)
class Step:
    """One operation with its parameters.

    Attributes:
        operation: Its name.
        parameters: What it is told.
        images: A folder of images; what reads images is then shrunk or healed going by them, and the language model
            stays.
        images_sha256: Digest of these images; None leaves it open.
    """

    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    images: str | None = None
    images_sha256: str | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Step:
        """Read what `to_dict` returns."""
        own = {name: entry[name] for name in STEP_FIELDS if name in entry}
        return cls(parameters={name: value for name, value in entry.items() if name not in STEP_FIELDS}, **own)

    def build(self) -> Any:
        """Make the operation.

        Raises:
            RecipeError: The operation or one of its parameters does not exist, is missing or of a wrong type.
            InvalidInput: The parameters do not go together.
            ReferenceNotFound: A parameter names what does not exist.
        """
        from smidgen.recipe import eyes

        known = operations()
        if self.operation not in known:
            raise RecipeError([str(ReferenceNotFound.among("operation", self.operation, known))])
        kind = known[self.operation]
        fields = {item.name: item for item in dataclasses.fields(kind)}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in self.parameters.items()}
        problems = _unfit(self.operation, kind, values)
        for name, item in fields.items():
            optional = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
            if not optional and name not in self.parameters:
                problems.append(f"{self.operation} needs {name!r}.")
        if problems:
            raise RecipeError(problems)
        return kind(**values) if self.images is None else eyes.operation(kind, values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, the operation first."""
        own = {"images": self.images, "images_sha256": self.images_sha256}
        told = {name: value for name, value in own.items() if value is not None}
        return {"operation": self.operation, **told, **self.parameters}


def _unfit(operation: str, kind: type[Any], values: Mapping[str, Any]) -> list[str]:
    """Name the parameters that an operation does not have, or that are of another type than its fields."""
    import typing

    from pydantic import TypeAdapter, ValidationError

    problems, hints = [], typing.get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            problems.append(str(ReferenceNotFound.among(f"parameter of {operation}", str(name), hints)))
            continue
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            wanted = error.errors(include_url=False)[0]["msg"]
            problems.append(f"{name!r} of {operation} is {value!r}: {wanted[0].lower()}{wanted[1:]}.")
    return problems


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
        if text.replace("\n", "").isprintable():
            return text
        # Letters that YAML takes for line ends would not come back.
        escaped: str = yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=False)
        return escaped

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
        steps = tuple(map(Step.of, content["steps"]))
        values = {name: value for name, value in content.items() if name not in ("format", "steps")}
        return cls(steps=steps, **values)


def _unlike_a_digest(name: str, value: Any) -> list[str]:
    if value is None or (isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)):
        return []
    return [f"{name!r} must be 64 hexadecimal digits, not {value!r}; leave it out to leave it open."]


def _problems(content: Mapping[str, Any]) -> list[str]:
    problems = [
        str(ReferenceNotFound.among("recipe field", str(name), FIELDS)) for name in content if name not in FIELDS
    ]
    if content.get("format", FORMAT) != FORMAT:
        problems.append(f"format {content['format']!r} is not {FORMAT}.")
    if not isinstance(content.get("source"), str):
        problems.append("'source' must name a model.")
    for name, least in (("windows", 1), ("length", 16), ("seed", 0), ("threads", 1)):
        value = content.get(name, least)
        optional = name == "threads" and value is None
        if not optional and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            problems.append(f"{name!r} must be a whole number of at least {least}, not {value!r}.")
    if not isinstance(content.get("data"), str | None):
        problems.append(f"'data' must name a text, not {content['data']!r}.")
    for name in ("sha256", "data_sha256"):
        problems += _unlike_a_digest(name, content.get(name))
    steps = content.get("steps")
    if not isinstance(steps, list) or not steps:
        return [*problems, "'steps' must list at least one step."]
    for number, entry in enumerate(steps, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("operation"), str):
            problems.append(f"step {number} has no 'operation': name one of {', '.join(sorted(operations()))}.")
            continue
        if not isinstance(entry.get("images"), str | None):
            problems.append(f"step {number}: 'images' must name a folder of images, not {entry['images']!r}.")
        problems += [f"step {number}: {each}" for each in _unlike_a_digest("images_sha256", entry.get("images_sha256"))]
        try:
            Step.of(entry).build()
        except RecipeError as error:
            problems += [f"step {number}: {problem}" for problem in error.problems]
        except SmidgenError as error:
            problems.append(f"step {number}: {error}")
    return problems
