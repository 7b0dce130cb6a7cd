"""Shrinks what a model reads images with, going by the images of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.progress import Event, Progress, silent

if TYPE_CHECKING:
    from PIL.Image import Image

    from smidgen.models.model import Model

STRUCTURES = ("neuron", "head", "layer", "weight", "synapse")
"""What a tower has that can go; it has neither tokens nor a width of its own."""


def shrunk(model: Model, operation: Any, images: str | Path, *, most: int, progress: Progress = silent) -> Model:
    """Apply a pass to the tower of a model that sees; its language model stays as it was.

    Args:
        model: The model.
        operation: `smidgen.shrink.prune.prune.Prune` or `smidgen.shrink.quantize.quantize.Quantize`.
        images: A folder of images, or one, such as the model is to read.
        most: Tiles to go by.
        progress: Receives reports.

    Raises:
        Unsupported: The model reads no images, or what reads them cannot be shrunk.
        InvalidInput: There are no images, or a tower has no such parts.
    """
    from smidgen.models.vision import tower

    structure = getattr(operation, "structure", STRUCTURES[0])
    if structure not in STRUCTURES:
        raise InvalidInput(
            f"What reads images has no {structure} that could be cut apart from the rest.",
            remedy=f"Cut one of {', '.join(STRUCTURES)}, or leave the images out.",
        )
    taken = tower.taken(model)
    tiles = tower.windows(model, [_opened(path) for path in _paths(Path(images))], most)
    progress(Event("reading images", len(tiles), len(tiles), "tiles"))
    return tower.put_back(model, operation.apply(taken, tiles, progress=progress))


def _paths(place: Path) -> list[Path]:
    from smidgen.inference.images import SUFFIXES

    if not place.exists():
        raise ReferenceNotFound(f"There is no file or folder {str(place)!r}.", remedy="Check the path of the images.")
    found = sorted(place.rglob("*")) if place.is_dir() else [place]
    images = [path for path in found if path.suffix.lower() in SUFFIXES]
    if not images:
        raise InvalidInput(f"{place} holds no images.", remedy=f"Give files that end in {', '.join(SUFFIXES)}.")
    return images


def _opened(path: Path) -> Image:
    import io

    from PIL import Image

    from smidgen.inference import images

    with Image.open(io.BytesIO(images.read(path)), formats=["PNG"]) as image:
        return image.convert("RGB")
