"""Public small models as facts: one TOML file each, with where the facts come from and when they were read."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from smidgen.errors import ReferenceNotFound


@dataclass(frozen=True)
class Package:
    """One package of the Python package index that carries (a part of) a model.

    Attributes:
        name: Name on the index.
        version: The only version whose contents are known.
        bytes: Size of the wheel.
        member: Path of the model, or of its next part, inside the wheel; None where it holds only documents.
        documents: File name in the store to the path inside the wheel, for licence and card.
    """

    name: str
    version: str
    bytes: int
    member: str | None = None
    documents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """What is known of one public model.

    Attributes:
        name: The name to ask for it by.
        title: Its name in words.
        family: The architecture's family in smidgen.
        base_model: Repository of the published original.
        parameters: Count of weights.
        context_length: Longest context, in tokens.
        instruct: Whether it was trained to follow instructions.
        languages: Languages it was published for.
        licence: The licence's identifier, as model cards write it.
        licence_name: The licence's name in words.
        licence_url: Where the licence can be read.
        licence_notice: The sentence that the licence wants to stand beside every copy; None where it wants none.
        dequantised_from: Number format of the stored weights, which are dequantised when they are trained.
        source: Where the file and these facts come from.
        date: The day the facts were read.
        file: Name of the GGUF file.
        bytes: Size of the GGUF file.
        sha256: Digest of the GGUF file, in hex.
        packages: The packages that hold it; their members in this order make up the file.
    """

    name: str
    title: str
    family: str
    base_model: str
    parameters: int
    context_length: int
    instruct: bool
    languages: tuple[str, ...]
    licence: str
    licence_name: str
    licence_url: str
    licence_notice: str | None
    dequantised_from: str
    source: str
    date: datetime.date
    file: str
    bytes: int
    sha256: str
    packages: tuple[Package, ...]


def _entry(facts: dict[str, Any]) -> Entry:
    packages = tuple(Package(**package) for package in facts.pop("packages"))
    gguf = facts.pop("gguf")
    languages = tuple(facts.pop("languages"))
    notice = facts.pop("licence_notice", None)
    return Entry(**facts, **gguf, packages=packages, languages=languages, licence_notice=notice)


@cache
def entries() -> Mapping[str, Entry]:
    """Return every model of the catalog by its name.

    Example:
        >>> sorted(entries())
        ['gemma3:270m', 'smollm2:135m']
    """
    folder = resources.files("smidgen.models.catalog")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    found = [_entry(tomllib.loads(file.read_text(encoding="utf-8"))) for file in files]
    return MappingProxyType({entry.name: entry for entry in found})


def find(name: str) -> Entry:
    """Return one model's facts; case does not matter.

    Raises:
        ReferenceNotFound: The catalog has no such model.

    Example:
        >>> find("SmolLM2:135m").dequantised_from
        'Q4_1'
    """
    entry = entries().get(name.strip().lower())
    if entry is None:
        raise ReferenceNotFound.among("model in the catalog", name, entries())
    return entry
