"""Public small models as facts: one TOML file each, with where the facts come from and when they were read.

No fact is recalled: what no opened source states is absent, and is shown as unknown. Licences, which many models
share, stand in ``licences.toml``.
"""

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
from smidgen.models.architecture import Architecture

_LICENCES = "licences.toml"


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
class Licence:
    """What a licence allows, in plain words.

    Attributes:
        identifier: As model cards write it.
        name: Its name in words.
        url: Where it can be read.
        source: The page or file that the facts below were read from.
        date: The day they were read.
        commercial: Whether commercial use is allowed: "yes", "no", or "limited" to users or revenue below a bound;
            None where it was not read.
        forbids: What it forbids or demands, one sentence each.
        notice: The sentence that the licence wants to stand beside every copy; None where it wants none.
    """

    identifier: str
    name: str
    url: str
    source: str
    date: datetime.date
    commercial: str | None = None
    forbids: tuple[str, ...] = ()
    notice: str | None = None

    @property
    def permissive(self) -> bool:
        """Whether anyone may use it for anything, with no more to do than to keep its text."""
        return self.commercial == "yes" and not self.forbids


@dataclass(frozen=True)
class Score:
    """One published figure.

    Attributes:
        benchmark: Short name of the benchmark: ``mmlu``, ``gsm8k`` …
        value: The figure in percent.
        how: Shots, metric and which checkpoint, as the source says.
        source: The page or file that states it.
    """

    benchmark: str
    value: float
    how: str
    source: str


@dataclass(frozen=True)
class Entry:
    """What is known of one public model; None and empty mean that no opened source says it.

    Attributes:
        name: The name to ask for it by.
        title: Its name in words.
        family: The architecture's family, as transformers names it.
        base_model: Repository of the published original on the Hugging Face hub.
        source: Where these facts come from.
        date: The day the facts were read.
        instruct: Whether it was trained to follow instructions.
        parameters: Count of weights as published.
        context_length: Longest context, in tokens.
        languages: Languages it was published for, by their codes; "many others" where a source says so.
        modalities: What it reads.
        specialty: The work it was made for, such as "code" or "math"; None for general use.
        licence: The licence's identifier.
        licence_source: The page or file that states the licence, where that is not ``source``.
        ollama: The name in Ollama's library.
        architecture: The numbers that its size and speed follow from.
        scores: Published figures.
        dequantised_from: Number format of the stored weights, which are dequantised when they are trained.
        file: Name of the GGUF file that packages of the index carry; empty where none do.
        bytes: Size of the GGUF file.
        sha256: Digest of the GGUF file, in hex.
        packages: The packages that hold it; their members in this order make up the file.
    """

    name: str
    title: str
    family: str
    base_model: str
    source: str
    date: datetime.date
    instruct: bool
    parameters: int | None = None
    context_length: int | None = None
    languages: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ("text",)
    specialty: str | None = None
    licence: str | None = None
    licence_source: str | None = None
    ollama: str | None = None
    architecture: Architecture | None = None
    scores: tuple[Score, ...] = ()
    dequantised_from: str | None = None
    file: str = ""
    bytes: int = 0
    sha256: str = ""
    packages: tuple[Package, ...] = ()

    @property
    def terms(self) -> Licence | None:
        """What its licence allows; None where the licence is not known."""
        return licences().get(self.licence) if self.licence else None

    @property
    def licence_name(self) -> str | None:
        """The licence's name in words."""
        return self.terms.name if self.terms else None

    @property
    def licence_url(self) -> str | None:
        """Where the licence can be read."""
        return self.terms.url if self.terms else None

    @property
    def licence_notice(self) -> str | None:
        """The sentence that the licence wants to stand beside every copy."""
        return self.terms.notice if self.terms else None

    @property
    def size(self) -> int | None:
        """Count of weights as published, else as the architecture has it."""
        return self.parameters or (self.architecture.parameters if self.architecture else None)

    @property
    def reference(self) -> str:
        """What to write after ``smidgen pull``."""
        return self.name if self.packages else f"hf:{self.base_model}"

    def score(self, benchmark: str) -> float | None:
        """Return a published figure in percent; None where no opened source states one."""
        return next((score.value for score in self.scores if score.benchmark == benchmark), None)


def _entry(facts: dict[str, Any]) -> Entry:
    packages = tuple(Package(**package) for package in facts.pop("packages", ()))
    architecture = facts.pop("architecture", None)
    scores = tuple(Score(**score) for score in facts.pop("scores", ()))
    for name in ("languages", "modalities"):
        if name in facts:
            facts[name] = tuple(facts[name])
    return Entry(
        **facts.pop("gguf", {}),
        **facts,
        packages=packages,
        scores=scores,
        architecture=Architecture(**architecture) if architecture else None,
    )


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("smidgen.models.catalog").joinpath(name).read_text(encoding="utf-8"))


@cache
def licences() -> Mapping[str, Licence]:
    """Return every licence of the catalog by its identifier.

    Example:
        >>> licences()["apache-2.0"].permissive, licences()["gemma"].permissive
        (True, False)
    """
    found = (
        Licence(identifier=identifier, **(facts | {"forbids": tuple(facts.get("forbids", ()))}))
        for identifier, facts in _read(_LICENCES).items()
    )
    return MappingProxyType({licence.identifier: licence for licence in found})


@cache
def entries() -> Mapping[str, Entry]:
    """Return every model of the catalog by its name.

    Example:
        >>> len(entries()) >= 60
        True
    """
    folder = resources.files("smidgen.models.catalog")
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".toml") and file.name != _LICENCES)
    found = [_entry(_read(name)) for name in names]
    return MappingProxyType({entry.name: entry for entry in found})


@cache
def packaged() -> Mapping[str, Entry]:
    """Return the models that the Python package index carries, by their names.

    Example:
        >>> sorted(packaged())
        ['gemma3:270m', 'smollm2:135m']
    """
    return MappingProxyType({name: entry for name, entry in entries().items() if entry.packages})


def find(name: str, *, in_packages: bool = False) -> Entry:
    """Return one model's facts; case does not matter.

    Args:
        name: The model's name.
        in_packages: Look only among those that the Python package index carries.

    Raises:
        ReferenceNotFound: The catalog has no such model.

    Example:
        >>> find("SmolLM2:135m").dequantised_from
        'Q4_1'
    """
    known = packaged() if in_packages else entries()
    entry = known.get(name.strip().lower())
    if entry is None:
        raise ReferenceNotFound.among("model in the catalog", name, known)
    return entry
