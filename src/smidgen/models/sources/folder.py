"""A folder of safetensors on this machine, used where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.errors import DamagedFile
from smidgen.models.checkpoint.safetensors import read_config
from smidgen.models.files import digest_of_files, sha256_of
from smidgen.models.sources import LocalModel, _layout
from smidgen.progress import Progress

if TYPE_CHECKING:
    from smidgen.models.reference import Reference
    from smidgen.models.store import Store


@dataclass(frozen=True)
class Folder:
    """Reads a folder in the transformers layout; never writes to it.

    Its digest covers the sorted names and contents of weights, configuration and tokenizer.
    """

    def fetch(self, reference: Reference, store: Store, *, offline: bool, progress: Progress) -> LocalModel:
        """Check that the folder holds a model, and describe it.

        Raises:
            InvalidInput: It holds no weights or no configuration.
            DamagedFile: A shard is missing or empty, or the configuration cannot be read.
            Unsupported: It holds only pickles, or needs its own code.
        """
        assert reference.path is not None
        folder = reference.path
        layout = _layout.select(place.name for place in folder.iterdir() if place.is_file())
        _layout.require_model(layout, reference.name)
        read_config(folder, reference.name)
        _layout.require_shards(folder, layout)
        for name in layout.weights:
            if (folder / name).stat().st_size < 8:
                raise DamagedFile(f"{folder / name} is cut short.", remedy="Fetch or write it again.")
        licence, base_model = _layout.licence_and_base(_layout.read_card(folder / "README.md"))
        return LocalModel(
            name=reference.name,
            path=folder,
            kind="safetensors",
            sha256=digest_of_files({name: sha256_of(folder / name, progress) for name in layout.model}),
            bytes=sum((folder / name).stat().st_size for name in layout.model),
            licence=licence,
            base_model=base_model,
            files=tuple(folder / name for name in layout.documents),
            facts={"source": str(folder)},
        )

    def files(self, model: LocalModel) -> dict[str, Path]:
        """Return the model's files and documents."""
        layout = _layout.select(place.name for place in model.path.iterdir() if place.is_file())
        return {name: model.path / name for name in (*layout.model, *layout.documents)}
