"""Which models a server can serve: those of the store, by the names that clients write, and "echo".

A stored model's facts (`smidgen.models.store.StoredModel.facts`) may hold what a Modelfile says, and whoever stores
a model from a Modelfile writes them there under these keys, each only where the Modelfile has it:

    template    str                     the chat template in Go's template language
    system      str                     the system message
    parameters  {name: value}           options, ``stop`` a list of texts
    messages    [{"role", "content"}]   turns that stand before every conversation
    license     [str]                   licence texts
    modelfile   str                     the Modelfile itself
    parent      str                     name of the model it was made from
    adapters    [file name]             LoRA adapters among the model's files
    projectors  [file name]             what turns images into tokens, among the model's files
    draft       file name               a small model that guesses ahead, among the model's files
    renderer, parser, requires  str     kept and shown

The file names inside such a model are "model.gguf", or the transformers layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound
from smidgen.inference.setup import known_parameters
from smidgen.models.names import DEFAULT_TAG, StoreName
from smidgen.models.reference import similar_names
from smidgen.serving.faults import ModelNotFound

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel
    from smidgen.models.store import Store, StoredModel

ECHO = "echo:latest"
"""The model that answers from the prompt, always there and never listed."""


@dataclass(frozen=True)
class ServedModel:
    """A model that can be loaded.

    Attributes:
        name: Its full name with the tag, as answers bear it.
        engine: Name of the engine that runs its files as they lie; a folder's may be turned into a GGUF instead.
        path: The file or folder that the engine opens; None for the echo engine.
        digest: One sha256 for the model, in hex.
        bytes: Size of its files.
        modified: When it was stored, in seconds since 1970.
        facts: What its manifest says; see this module's text for the keys a Modelfile brings.
        local: Its files, as the other rooms know them; None for the echo engine.
    """

    name: str
    engine: str
    path: Path | None
    digest: str
    bytes: int = 0
    modified: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    local: LocalModel | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path | None:
        """Where the model's files lie; None for the echo engine."""
        return self.path if self.path is None or self.path.is_dir() else self.path.parent

    @property
    def projector(self) -> Path | None:
        """The file that turns images into what the model reads; None for a model of texts only."""
        names = self.facts.get("projectors") or ()
        return None if self.folder is None or not names else self.folder / names[0]

    @property
    def draft(self) -> Path | None:
        """The small model that guesses ahead; None where there is none."""
        name = self.facts.get("draft")
        return None if self.folder is None or not name else self.folder / name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that the model itself brings, as they were written."""
        found: Mapping[str, Any] = self.facts.get("parameters") or {}
        return found

    @property
    def options(self) -> dict[str, Any]:
        """Options that the model itself brings, of those that can be honoured."""
        return known_parameters(self.parameters)


class Library:
    """The models of a store, as a server sees them.

    Args:
        store: The store; the default one where None.
    """

    def __init__(self, store: Store | None = None) -> None:
        from smidgen.models.store import Store

        self.store = store or Store()

    def list(self) -> list[ServedModel]:
        """Return every stored model that can be served, the one stored last first."""
        found = []
        for stored in sorted(self.store.list(), key=lambda model: model.added, reverse=True):
            with suppress(DamagedFile):  # those that hold no weights are not to be served
                found.append(self._served(stored))
        return found

    def find(self, name: str) -> ServedModel:
        """Return the model that a client means; case does not matter, the default tag is "latest".

        Raises:
            ModelNotFound: No stored model has that name.
            DamagedFile: It is there and not whole.
        """
        try:
            parsed = str(StoreName.parse(name.removeprefix("library/")))
            return self._served(self.store.resolve(parsed))
        except (ReferenceNotFound, InvalidInput):
            if name.lower() in (ECHO, ECHO.removesuffix(f":{DEFAULT_TAG}")):
                return ServedModel(ECHO, "echo", None, "0" * 64)
            raise ModelNotFound(name, similar_names(name, self.store.names())) from None

    def copy(self, source: str, target: str) -> None:
        """Give a stored model a second name.

        Raises:
            ModelNotFound: No stored model has the first name.
            InvalidInput: The second is no name.
        """
        model = self.find(source)
        if model.path is None:
            raise ModelNotFound(source)
        try:
            self.store.copy(model.name, target)
        except InvalidInput:
            raise InvalidInput(f'destination "{target}" is invalid') from None

    def remove(self, name: str) -> None:
        """Forget a stored model.

        Raises:
            ModelNotFound: No stored model has that name.
        """
        model = self.find(name)
        if model.path is None:
            raise ModelNotFound(name)
        self.store.remove(model.name)

    @staticmethod
    def _served(stored: StoredModel) -> ServedModel:
        from smidgen.models.sources import from_store

        local: LocalModel = from_store(stored)
        engine = "llama_cpp" if local.kind == "gguf" else "torch"
        facts = dict(stored.facts)
        return ServedModel(stored.name, engine, local.path, stored.digest, stored.bytes, stored.added, facts, local)
