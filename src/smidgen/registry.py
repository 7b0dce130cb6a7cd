"""Finds a family's methods by file name.

A method is one file in its family's folder, holding one public class of the same name in CamelCase:
``shrink/prune/criteria/block_influence.py`` holds ``BlockInfluence``. Outsiders add theirs with an entry point
of the group ``smidgen.<folder>`` (here ``smidgen.criteria``). Files that begin with ``_`` are helpers.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from smidgen.errors import ReferenceNotFound


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _entry_points(package: str) -> dict[str, importlib.metadata.EntryPoint]:
    group = f"smidgen.{package.rpartition('.')[2]}"
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=group)}


@cache
def names(package: str) -> tuple[str, ...]:
    """List a family's method names, without importing any of them.

    Args:
        package: Dotted name of the family's folder.

    Example:
        >>> names("smidgen.shrink.quantize.solvers")
        ('gptq', 'learned', 'nearest', 'scale')
    """
    path = importlib.import_module(package).__path__
    files = {module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_")}
    return tuple(sorted(files | set(_entry_points(package))))


def _singular(package: str) -> str:
    kind = package.rpartition(".")[2].replace("_", " ")
    return {"criteria": "criterion", "families": "family", "losses": "loss"}.get(kind, kind.removesuffix("s"))


@cache
def find(package: str, name: str) -> type:
    """Return the class of one method.

    Args:
        package: Dotted name of the family's folder.
        name: The method's name; case, ``-`` and ``_`` do not matter.

    Raises:
        ReferenceNotFound: No file and no entry point has that name.
    """
    known = names(package)
    match = next((candidate for candidate in known if _plain(candidate) == _plain(name)), None)
    if match is None:
        raise ReferenceNotFound.among(_singular(package), name, known)
    entry = _entry_points(package).get(match)
    if entry is not None:
        loaded: type = entry.load()
        return loaded
    module = importlib.import_module(f"{package}.{match}")
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__ and _plain(value.__name__) == _plain(match):
            return value
    raise AssertionError(f"{module.__file__} holds no class named like the file")


def build(package: str, name: str, options: Mapping[str, Any], *, also: Sequence[str] = ()) -> Any:
    """Make one method from its options.

    Args:
        package: Dotted name of the family's folder.
        name: The method's name.
        options: Values of its fields.
        also: Options that are understood elsewhere, to be named among the known ones.

    Raises:
        ReferenceNotFound: There is no such method, or it has no such option.
        InvalidInput: An option's value is not possible.

    Example:
        >>> build("smidgen.shrink.quantize.solvers", "gptq", {"damping": 0.1})
        Gptq(damping=0.1)
    """
    kind = find(package, name)
    known = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    for option in options:
        if option not in known:
            raise ReferenceNotFound.among(f"option of the {_singular(package)} {name}", option, [*also, *known])
    return kind(**options)
