"""What a person may write where a model is asked for."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.models import catalog
from smidgen.models.files import open_for_reading, projector_beside
from smidgen.models.manifest import is_file_name
from smidgen.models.names import HUB_SPACE, StoreName

if TYPE_CHECKING:
    from smidgen.models.store import Store

Kind = Literal["catalog", "hub", "folder", "gguf", "ollama", "store"]

DEFAULT_REVISION = "main"
GGUF_MAGIC = b"GGUF"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

_FORMS = (
    "Write a name as 'smollm2:135m', a hub repository as 'hf:org/name', "
    "a folder as './folder' or a file as 'file.gguf'."
)
_MOST_SIMILAR, _LEAST_LIKENESS = 3, 0.85
_LONGEST_COMPARED = 200
_DEPTH = re.compile(r"(.+)@(\d)-?bits?", re.IGNORECASE)
_HUB_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", re.ASCII)


@dataclass(frozen=True)
class Reference:
    """A model, as it was asked for and before it is fetched.

    Attributes:
        kind: Where it is to be found: "catalog", "hub", "folder", "gguf", "ollama" (a registry) or "store".
        name: Its name there; for a folder or file the path as text.
        revision: Branch, tag or commit, for the hub.
        path: The folder or file; for the hub the one ``.gguf`` file that was asked for, if any.
        depth: Bits at which a model stored hierarchically is to be read; all that it has where None.
    """

    kind: Kind
    name: str
    revision: str | None = None
    path: Path | None = None
    depth: int | None = None

    def __str__(self) -> str:
        if self.kind == "ollama":
            return f"ollama:{self.name}"
        if self.kind != "hub":
            return self.name if self.depth is None else f"{self.name}@{self.depth}bit"
        file = f"/{self.path}" if self.path else ""
        revision = f"@{self.revision}" if self.revision and self.revision != DEFAULT_REVISION else ""
        return f"{HUB_SPACE}:{self.name}{file}{revision}"


def parse(text: str, store: Store | None = None) -> Reference:
    """Understand what a person wrote; nothing is fetched.

    ``smollm2:135m`` is in the catalog or the store, ``ollama:llama3.2`` (or ``llama3.2``, where the catalog has a
    model of that name without the tag) in Ollama's registry, ``qwen3:0.6b`` a model of the catalog that the hub has,
    ``hf:org/name@revision`` (or ``org/name``, where no such
    folder is here) on the hub, ``hf:org/name/file.gguf`` one file there, ``./folder`` (or ``folder``, where nothing
    else has that name) and ``file.gguf`` on this machine. A folder without ``config.json`` that holds exactly one GGUF
    file stands for that file. A model on this machine that is stored hierarchically may be read at fewer bits, as
    ``small@4bit``.

    Args:
        text: The reference. Case does not matter in names.
        store: Where stored names are looked up; the default store if None.

    Raises:
        InvalidInput: It has none of the forms above, or the place holds no model.
        ReferenceNotFound: It has one, and nothing has that name.
        Unsupported: A file format that smidgen does not read.

    Example:
        >>> parse("hf:HuggingFaceTB/SmolLM2-135M-Instruct@v1")
        Reference(kind='hub', name='HuggingFaceTB/SmolLM2-135M-Instruct', revision='v1', path=None, depth=None)
        >>> parse("SmolLM2:135M").name
        'smollm2:135m'
    """
    cleaned = text.strip()
    if not cleaned or not cleaned.isprintable():
        raise InvalidInput(f"{text!r} names no model." if text else "No model is named.", remedy=_FORMS)
    if (at := _DEPTH.fullmatch(cleaned)) and not os.path.exists(cleaned):
        found = parse(at[1], store)
        if found.kind in ("folder", "store", "gguf", "catalog"):
            return replace(found, depth=int(at[2]))
    scheme = cleaned.partition(":")[0].lower()
    if scheme == "ollama":
        return Reference("ollama", _registry_name(cleaned))
    if scheme in ("http", "https", "file", "ftp", "s3"):
        raise InvalidInput(f"{cleaned!r} is a web address, not a model.", remedy=_FORMS)
    if scheme == HUB_SPACE:
        return _hub(cleaned)
    if _is_path(cleaned):
        return _local(cleaned)
    if "/" in cleaned and not os.path.exists(cleaned) and (stored := _stored_name(cleaned, store)):
        return Reference("store", stored)
    if "/" in cleaned:
        deep = cleaned.partition("@")[0].count("/") > 1
        return _local(cleaned) if deep or os.path.exists(cleaned) else _hub(cleaned)
    return _named(cleaned, store)


def similar_names(text: str, stored: Iterable[str]) -> list[str]:
    """Return the names most like one that names nothing: of stored models, and of the catalog's.

    A text without a tag is held against names without theirs. None where the catalog has the very name.

    Example:
        >>> similar_names("smolm2:135", [])[0], similar_names("smollm2:135m", [])
        ('smollm2:135m', [])
    """
    lowered = text.lower()
    known = dict.fromkeys((*stored, *catalog.packaged(), *catalog.entries()))
    if len(text) > _LONGEST_COMPARED or lowered in known:
        return []
    if ":" in lowered:
        return difflib.get_close_matches(lowered, known, n=_MOST_SIMILAR, cutoff=_LEAST_LIKENESS)
    bases = dict.fromkeys(name.partition(":")[0] for name in known if not name.startswith(f"{HUB_SPACE}:"))
    close = [lowered] if lowered in bases else difflib.get_close_matches(lowered, bases, cutoff=_LEAST_LIKENESS)
    return [name for base in close for name in known if name.partition(":")[0] == base][:_MOST_SIMILAR]


def did_you_mean(names: Sequence[str]) -> str:
    """Return a question that offers some names.

    Example:
        >>> did_you_mean(["a:1b", "a:3b"])
        "Did you mean 'a:1b' or 'a:3b'?"
    """
    return f"Did you mean {' or '.join(repr(name) for name in names)}?"


def _is_path(text: str) -> bool:
    drive = re.match(r"[A-Za-z]:[\\/]", text)
    return bool(
        text.startswith(("./", "../", "/", "~", ".\\", "..\\"))
        or text in (".", "..")
        or drive
        or "\\" in text
        or text.endswith("/")
        or text.lower().endswith((".gguf", ".safetensors", *PICKLES))
    )


def _hub(text: str) -> Reference:
    path, at, revision = text.partition(":")[2].partition("@") if ":" in text else text.partition("@")
    parts = path.split("/")
    file = parts.pop() if len(parts) == 3 and parts[2].lower().endswith(".gguf") else None
    valid = len(parts) == 2 and all(_HUB_PART.fullmatch(part) and ".." not in part for part in parts)
    valid = valid and (file is None or is_file_name(file))
    if not valid or (at and not (_REVISION.fullmatch(revision) and ".." not in revision)):
        raise InvalidInput(
            f"{text!r} is not a repository of the hub.",
            remedy="Write it as 'hf:org/name', with a branch, tag or commit after '@' if you like.",
        )
    return Reference("hub", "/".join(parts), revision or DEFAULT_REVISION, Path(file) if file else None)


def _registry_name(text: str) -> str:
    """Check what stands behind ``ollama:``: ``[host/][namespace/]name[:tag]``; a host may have a port."""
    name = text.partition(":")[2]
    parts = name.removeprefix("http://").removeprefix("https://").split("/")
    host = parts.pop(0) if len(parts) == 3 else ""
    if len(parts) > 2 or not re.fullmatch(r"[A-Za-z0-9.-]*(?::\d{1,5})?", host, re.ASCII):
        raise InvalidInput(f"{text!r} is no name in a registry.", remedy="Write it as 'ollama:llama3.2:1b'.")
    StoreName.parse("/".join(parts))
    return name


def _stored_name(text: str, store: Store | None) -> str | None:
    """Return the full name of a stored model, None where none is stored under this name."""
    from smidgen.models.store import Store

    try:
        name = str(StoreName.parse(text))
    except InvalidInput:
        return None
    return name if name in (store or Store()).names() else None


def _named(text: str, store: Store | None) -> Reference:
    from smidgen.models.store import Store

    lowered = text.lower()
    if lowered in catalog.packaged():
        return Reference("catalog", lowered)
    if stored := _stored_name(text, store):
        return Reference("store", stored)
    here = os.path.exists(text)
    if not here:
        StoreName.parse(text)  # says what a name may consist of
    if lowered in catalog.entries():
        return _hub(catalog.entries()[lowered].reference)
    if lowered.partition(":")[0] in {name.partition(":")[0] for name in catalog.entries()}:
        return Reference("ollama", text)
    if here:
        return _local(text)
    names = (store or Store()).names()
    if similar := similar_names(text, names):
        known = ", ".join(sorted({*catalog.packaged(), *names, *similar}))
        raise ReferenceNotFound(f"There is no model {text!r}.", remedy=f"{did_you_mean(similar)} Known: {known}.")
    raise ReferenceNotFound.among("model", text, {*catalog.packaged(), *names})


def _local(text: str) -> Reference:
    path = Path(os.path.expanduser(text))
    if not os.path.exists(path):
        raise _missing(text, path)
    if path.is_dir():
        return _folder(text, path)
    if path.suffix.lower() in PICKLES:
        raise Unsupported(
            f"{text} is a pickle, which can run code when it is read, so smidgen never does.",
            remedy="Convert it to safetensors, or use a repository that holds safetensors.",
        )
    if path.suffix.lower() == ".gguf" or _has_magic(path):
        return Reference("gguf", text, path=path.absolute())
    raise InvalidInput(
        f"{text} is not a GGUF file.", remedy="Give a .gguf file, or the folder that holds config.json and safetensors."
    )


def _folder(text: str, path: Path) -> Reference:
    if os.path.isfile(path / "config.json"):
        return Reference("folder", text, path=path.absolute())
    every = sorted(path.glob("*.gguf"))
    seeing = {projector_beside(file) for file in every}  # what a file beside it reads images with is no model
    files = [file for file in every if file not in seeing]
    if len(files) == 1:
        return Reference("gguf", str(Path(text) / files[0].name), path=files[0].absolute())
    listing = ", ".join(file.name for file in files)
    remedy = (
        f"It holds several GGUF files; name one of: {listing}."
        if files
        else "A model's folder holds config.json and safetensors."
    )
    raise InvalidInput(f"The folder {text} has no config.json.", remedy=remedy)


def _missing(text: str, path: Path) -> ReferenceNotFound:
    beside: list[str] = []
    if os.path.isdir(path.parent):
        beside = [place.name for place in path.parent.iterdir() if place.is_dir() or place.suffix.lower() == ".gguf"]
    close = difflib.get_close_matches(path.name, beside, n=1)
    remedy = f"Did you mean {str(path.with_name(close[0]))!r}?" if close else f"Check the path. {_FORMS}"
    return ReferenceNotFound(f"There is no file or folder {text}.", remedy=remedy)


def _has_magic(path: Path) -> bool:
    with open_for_reading(path) as file:
        return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC
