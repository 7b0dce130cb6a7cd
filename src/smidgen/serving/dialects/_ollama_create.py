"""The request by which Ollama's API creates a model, and how it becomes a `smidgen.recipe.create.Creation`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.models.manifest import is_file_name
from smidgen.models.modelfile import ROLES, Modelfile, Turn, of_facts
from smidgen.models.reference import GGUF_MAGIC, parse
from smidgen.models.store import Store
from smidgen.models.uploads import Uploads
from smidgen.recipe import presets
from smidgen.recipe.create import Creation, is_projector
from smidgen.serving.dialects._ollama_fields import Message
from smidgen.serving.wire import Body

REMOTE = ("catalog", "hub", "ollama", "store")
"""Kinds of references that a client may name; places on this machine are none of its business."""


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/-]{0,400}", re.ASCII)


class Create(Body):
    """POST /api/create."""

    model: str = ""
    name: str = ""
    from_: str = Field(default="", alias="from")
    files: dict[str, str] = Field(default_factory=dict)
    draft_files: dict[str, str] = Field(default_factory=dict)
    adapters: dict[str, str] = Field(default_factory=dict)
    template: str = ""
    license: str | list[str] = Field(default_factory=list)
    system: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    messages: list[Message] = Field(default_factory=list)
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    quantize: str = ""
    quantization: str = ""
    draft_quantize: str = ""
    stream: bool = True

    def digests(self) -> Iterable[str]:
        """Return the digests of everything that was sent for it."""
        return (*self.files.values(), *self.draft_files.values(), *self.adapters.values())

    def creation(self, store: Store, staging: Path) -> Creation:
        """Return it as the store knows it.

        Args:
            store: The store.
            staging: An empty folder, where the files that were sent appear under their names.

        Raises:
            InvalidInput: It names nothing to make a model from, or what is no name.
            ReferenceNotFound: A file was not sent.
        """
        uploads = Uploads(store)
        if self.files:
            source, projectors = _staged(self.files, uploads, staging / "model")
        elif self.from_:
            source, projectors = require_name(self.from_, store), ()
        else:
            raise InvalidInput('neither "from" or "files" was specified')
        adapters = _staged(self.adapters, uploads, staging / "adapters")[0] if self.adapters else None
        draft = _staged(self.draft_files, uploads, staging / "draft")[0] if self.draft_files else None
        name = self.model or self.name
        if not name:
            raise InvalidInput("model is required")
        said = replace(
            self._modelfile(),
            source=source,
            projectors=projectors,
            adapters=(adapters,) if adapters else (),
            draft=draft,
        )
        kind = self.quantize or self.quantization
        return Creation(name, said, staging, _known_type(kind), _known_type(self.draft_quantize))

    def _modelfile(self) -> Modelfile:
        turns = tuple(Turn(message.role, message.content) for message in self.messages)
        odd = next((turn.role for turn in turns if turn.role not in ROLES), None)
        if odd is not None:
            raise InvalidInput(f"invalid role {odd!r}: must be one of {', '.join(ROLES)}")
        texts = [self.license] if isinstance(self.license, str) else self.license
        return replace(
            of_facts({"parameters": self.parameters}),
            template=self.template or None,
            system=self.system or None,
            licences=tuple(filter(None, texts)),
            messages=turns,
            renderer=self.renderer or None,
            parser=self.parser or None,
            requires=self.requires or None,
        )


def _known_type(name: str) -> str | None:
    """Return the type to quantize to that a client names; None where it names none."""
    try:
        return presets.find(name) if name else None
    except ReferenceNotFound as error:
        raise InvalidInput(error.message, remedy=error.remedy) from None


def require_name(text: str, store: Store) -> str:
    """Return a model's name as `smidgen.models.reference.parse` takes it, and refuse places on this machine.

    Raises:
        InvalidInput: It is a path.
        ReferenceNotFound: Nothing has that name.
    """
    name = text.strip().removeprefix("library/")
    # Not even looked at: what begins or ends as a path does.
    plain = _NAME.fullmatch(name) and ".." not in name and (":" in name or not name.lower().endswith(".gguf"))
    if not plain or parse(name, store).kind not in REMOTE:
        raise InvalidInput(f"invalid model name {text!r}")
    return name


def _staged(files: Mapping[str, str], uploads: Uploads, folder: Path) -> tuple[str, tuple[str, ...]]:
    """Lay out what was sent under its names; returns the GGUF or the folder, and the projectors beside it."""
    folder.mkdir(parents=True)
    ggufs: list[Path] = []
    for name, digest in files.items():
        if not is_file_name(name):
            raise InvalidInput(f"invalid file name {name!r}")
        blob = uploads.require(digest).resolve()
        with open(blob, "rb") as file:
            is_gguf = file.read(len(GGUF_MAGIC)) == GGUF_MAGIC
        target = folder / (f"{name}.gguf" if is_gguf and not name.lower().endswith(".gguf") else name)
        os.link(blob, target)
        ggufs += [target] if is_gguf else []
    if not ggufs:
        return str(folder), ()
    ordered = sorted(ggufs, key=is_projector)
    return str(ordered[0]), tuple(str(path) for path in ordered[1:])
