"""A GGUF file on this machine, used where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.errors import DamagedFile
from smidgen.models.files import open_for_reading, projector_beside, sha256_of
from smidgen.models.reference import GGUF_MAGIC
from smidgen.models.sources import LocalModel, _layout
from smidgen.progress import Progress

if TYPE_CHECKING:
    from smidgen.models.reference import Reference
    from smidgen.models.store import Store


@dataclass(frozen=True)
class GgufFile:
    """Reads one GGUF file; never writes to it.

    A model card beside it that states a licence or a base model is taken for its own, with the licence texts, and so
    is ``mmproj-NAME.gguf`` beside ``NAME.gguf``, with which the model reads images.
    """

    def fetch(self, reference: Reference, store: Store, *, offline: bool, progress: Progress) -> LocalModel:
        """Check that the file begins as GGUF does, and describe it.

        Raises:
            DamagedFile: It does not.
            InvalidInput: It may not be read.
        """
        assert reference.path is not None
        path = reference.path
        with open_for_reading(path) as file:
            magic = file.read(len(GGUF_MAGIC))
        if magic != GGUF_MAGIC:
            raise DamagedFile(f"{path} is not a GGUF file.", remedy="Fetch or convert it again.")
        documents, card = _documents(path.parent)
        licence, base_model = _layout.licence_and_base(card)
        return LocalModel(
            name=reference.name,
            path=path,
            kind="gguf",
            sha256=sha256_of(path, progress),
            bytes=path.stat().st_size,
            licence=licence,
            base_model=base_model,
            files=documents,
            facts={"source": str(path), **_seeing(path)},
        )

    def files(self, model: LocalModel) -> dict[str, Path]:
        """Return the file and the documents beside it."""
        name = model.path.name if model.path.suffix.lower() == ".gguf" else f"{model.path.name}.gguf"
        beside = {each: model.path.with_name(each) for each in model.facts.get("projectors", ())}
        return {name: model.path, **beside, **{document.name: document for document in model.files}}


def _seeing(path: Path) -> dict[str, object]:
    """Return the facts of a model beside which lies what it reads images with."""
    beside = projector_beside(path)
    is_named = path.suffix.lower() == ".gguf" and beside.is_file()
    return {"weights": path.name, "projectors": [beside.name]} if is_named else {}


def _documents(folder: Path) -> tuple[tuple[Path, ...], dict[str, object]]:
    card = _layout.read_card(folder / "README.md")
    if not (card.get("license") or card.get("base_model")):
        return (), {}
    layout = _layout.select(place.name for place in folder.iterdir() if place.is_file())
    return tuple(folder / name for name in layout.documents), card
