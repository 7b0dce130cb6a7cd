"""JSON schemas as people write them, as the list of fields that are to be found."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from smidgen.documents.vocabulary import Concept, tokens
from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported

FREE = "free"
"""The kind of fields that the model writes itself, of the document's text."""
SEEN = "seen"
"""The kind of fields and lists that a model reads off the pictures of the pages."""
AUTHORED = frozenset({FREE, SEEN})
"""The kinds whose values are no words of the page, but a model's."""


@dataclass(frozen=True)
class Field:
    """A value that is to be found.

    Attributes:
        path: Its name, behind those of the objects it lies in, with points between them.
        type: "string", "number", "integer" or "boolean".
        kind: The kind of its values.
        concept: What it stands for, None where its name says nothing known.
        schema: Its own part of the schema.
        labels: What pages may call it, where its concept does not say.
        options: The values that it may have, where they are listed.
    """

    path: str
    type: str
    kind: str
    concept: Concept | None
    schema: Mapping[str, Any]
    labels: tuple[tuple[str, ...], ...] = ()
    options: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]

    @property
    def title(self) -> str:
        """What it is called, for a person or a model."""
        return str(self.schema.get("title") or " ".join(tokens(self.name)) or self.name)

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """The pattern that its texts must match."""
        return re.compile(self.schema["pattern"]) if "pattern" in self.schema else None


@dataclass(frozen=True)
class Table:
    """A list of objects: rows on a page.

    Attributes:
        path: Its name, as a field's.
        columns: The fields of one row, whose paths are their names alone.
        seen: Whether a model reads it off the pictures of the pages.
        description: What its rows are, for a model.
    """

    path: str
    columns: tuple[Field, ...]
    seen: bool = False
    description: str = ""


@dataclass(frozen=True)
class Wanted:
    """What a schema asks for.

    Attributes:
        schema: The whole schema, references put in.
        fields: Single values.
        tables: Lists of objects.
        checks: What must hold between the values.
    """

    schema: dict[str, Any]
    fields: tuple[Field, ...]
    tables: tuple[Table, ...] = ()
    checks: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def is_seen(self) -> bool:
        """Whether a model is to look at the pages."""
        return any(each.kind == SEEN for each in self.fields) or any(each.seen for each in self.tables)


def presets() -> list[str]:
    """List the schemas that come with smidgen.

    Example:
        >>> presets()
        ['chart', 'form', 'id', 'invoice', 'receipt']
    """
    folder = resources.files("smidgen.documents").joinpath("presets")
    return sorted(each.name.removesuffix(".json") for each in folder.iterdir() if each.name.endswith(".json"))


def preset(name: str) -> dict[str, Any]:
    """Return a schema that comes with smidgen.

    Raises:
        ReferenceNotFound: There is none of that name.
    """
    if name not in presets():
        raise ReferenceNotFound.among("preset", name, presets())
    text = resources.files("smidgen.documents").joinpath("presets", f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def load_schema(given: str | Path | Mapping[str, Any] | type) -> dict[str, Any]:
    """Return a schema from what a person names.

    Args:
        given: A JSON schema, the path of a file that holds one, the name of a preset, ``pydantic:module.Class``, or a
            class of pydantic itself.

    Raises:
        ReferenceNotFound: There is no such file, preset, module or class.
        InvalidInput: It is no JSON schema.

    Example:
        >>> load_schema("invoice")["title"]
        'Invoice'
    """
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, type):
        return _of_class(given, given.__name__)
    text = str(given)
    if text.startswith("pydantic:"):
        return _of_class(_imported(text.removeprefix("pydantic:")), text)
    path = Path(text)
    if not path.exists() and text in presets():
        return preset(text)
    if not path.is_file():
        raise ReferenceNotFound(
            f"There is no schema {text!r}.",
            remedy=f"Give a JSON file, pydantic:module.Class, or a preset: {', '.join(presets())}.",
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise InvalidInput(f"{path.name} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{path.name} is no JSON schema: it holds no object.")
    return found


def _imported(place: str) -> type:
    import importlib
    import sys

    module, _, name = place.rpartition(".")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ReferenceNotFound(
            f"There is no class {place!r}: {error}.", remedy="Write it as pydantic:module.Class, seen from this folder."
        ) from error
    if not isinstance(found, type):
        raise InvalidInput(f"{place} is no class.")
    return found


def _of_class(kind: type, name: str) -> dict[str, Any]:
    describe = getattr(kind, "model_json_schema", None)
    if describe is None:
        raise InvalidInput(f"{name} is no model of pydantic.", remedy="Let it inherit pydantic.BaseModel.")
    schema: dict[str, Any] = describe()
    return schema


def require_supported(wanted: Wanted, *, free: bool, sees: bool) -> None:
    """Refuse fields that a model must write itself where there is no model that can.

    Args:
        wanted: What is asked for.
        free: Whether there is a model.
        sees: Whether it reads pictures.

    Raises:
        Unsupported: There is such a field.
    """
    if wanted.is_seen and not sees:
        raise Unsupported(
            "The schema asks for what only a model that sees can tell.",
            remedy="Name one with --model: one with a projector (two FROM in a Modelfile), or a vision model's folder.",
        )
    written = next((each.path for each in wanted.fields if each.kind == FREE), None)
    if written is not None and not free:
        raise Unsupported(
            f"The field {written!r} is to be written by a model.", remedy="Name one: --model smollm2:135m."
        )
