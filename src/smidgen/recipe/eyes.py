"""Shrinks and heals what a model reads images with, going by the images of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.progress import Event, Progress, silent

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from smidgen.models.model import Model
    from smidgen.shrink.distill.distill import Distill, DistillResult

STRUCTURES = ("neuron", "head", "layer", "weight", "synapse")
"""What a tower has that can go; it has neither tokens nor a width of its own."""

LOSSES = ("hidden", "embedding")
"""What a tower can be taught by: it has no next tokens."""

WATCHED_SHARE, MOST_WATCHED, HEALING_TILES = 0.1, 8, 64


def named(images: str | Path | None) -> str | None:
    """Return the place of images as a recipe names it."""
    return None if images is None else str(images)


def operation(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Make an operation that is done to a tower.

    Args:
        kind: `Prune`, `Quantize` or `Distill`.
        values: Its fields; where it does not say what it is taught by, by the hidden states after every block.

    Raises:
        InvalidInput: A tower has no such parts, or cannot be taught so.
    """
    names = {field.name for field in fields(kind)}
    if "objective" in names:
        raise InvalidInput("Fine-tuning goes by text.", remedy="Leave the images out, or use distill to heal by them.")
    given: dict[str, Any] = dict(values)
    if "losses" in names:
        given.setdefault("losses", {"hidden": 1.0})
        wrong = [name for name in given["losses"] if name not in LOSSES]
        if wrong or given.get("teacher", "live") != "live" or given.get("entropy") is not None:
            raise InvalidInput(
                f"What reads images has no next tokens to be taught {wrong[0] if wrong else 'by'}.",
                remedy=f"Use the losses {' and '.join(LOSSES)} with the live teacher.",
            )
    structure = given.get("structure", STRUCTURES[0])
    if structure not in STRUCTURES:
        raise InvalidInput(
            f"What reads images has no {structure} that could be cut apart from the rest.",
            remedy=f"Cut one of {', '.join(STRUCTURES)}, or leave the images out.",
        )
    return kind(**given)


def tiles(model: Model, images: str | Path, *, most: int, progress: Progress = silent) -> torch.Tensor:
    """Cut the images of a folder into the tiles that a model's tower reads, int64 ``[tiles, 3·side²]``.

    Args:
        model: The model.
        images: A folder of images, or one, such as the model is to read.
        most: Tiles at most.
        progress: Receives reports.

    Raises:
        Unsupported: The model reads no images.
        InvalidInput: There are no images, or one cannot be read.
        ReferenceNotFound: There is no such folder.
    """
    from smidgen.models.vision import tower

    if most < 1:
        raise InvalidInput(f"{most} tiles tell nothing.", remedy="Give at least 1.")
    if model.vision is None:
        raise Unsupported(
            f"{model.lineage.origin.name} reads no images, so that nothing of it goes by them.",
            remedy="Leave the images out, or name the folder of a model that sees.",
        )
    found = tower.windows(model, _opened(paths(images)), most)
    progress(Event("reading images", len(found), len(found), "tiles"))
    return found


def shrunk(model: Model, operation: Any, tiles: torch.Tensor, *, progress: Progress = silent) -> Model:
    """Apply a pass to the tower of a model that sees; its language model stays as it was.

    Args:
        model: The model.
        operation: `smidgen.shrink.prune.prune.Prune` or `smidgen.shrink.quantize.quantize.Quantize`.
        tiles: What the tower reads.
        progress: Receives reports.

    Raises:
        Unsupported: What reads images cannot be shrunk so.
    """
    from smidgen.models.vision import tower

    return tower.put_back(model, operation.apply(tower.taken(model), tiles, progress=progress))


def taught(
    student: Model,
    teacher: Model,
    operation: Distill,
    tiles: torch.Tensor,
    *,
    checkpoints: Path | None = None,
    progress: Progress = silent,
) -> tuple[Model, DistillResult]:
    """Teach the tower of a model to see as that of another does; its language model and its projector stay.

    Args:
        student: The model whose tower learns.
        teacher: The model whose tower knows.
        operation: What `operation` made.
        tiles: What both read; a tenth, 8 at most, is only watched.
        checkpoints: Folder from which a stopped training goes on.
        progress: Receives reports.

    Returns:
        The model, and what training its tower came to.

    Raises:
        InvalidInput: There are too few tiles.
        Unsupported: One of the two reads no images.
    """
    from smidgen.models.vision import tower

    if len(tiles) < 2:
        raise InvalidInput("One tile is too little to heal by.", remedy="Give more or larger images.")
    watched = max(1, min(MOST_WATCHED, round(len(tiles) * WATCHED_SHARE)))
    outcome = operation.run(
        tower.taken(student),
        tower.taken(teacher),
        tiles[:-watched],
        tiles[-watched:],
        checkpoints=checkpoints,
        progress=progress,
    )
    return tower.put_back(student, outcome.model), outcome


def paths(place: str | Path) -> list[Path]:
    """List the images of a folder in the order of their names, or one image.

    Raises:
        ReferenceNotFound: There is no such place.
        InvalidInput: It holds none.
    """
    from smidgen.inference.images import SUFFIXES

    place = Path(place).expanduser()
    if not place.exists():
        raise ReferenceNotFound(f"There is no file or folder {str(place)!r}.", remedy="Check the path of the images.")
    found = sorted(place.rglob("*")) if place.is_dir() else [place]
    images = [path for path in found if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not images:
        raise InvalidInput(f"{place} holds no images.", remedy=f"Give files that end in {', '.join(SUFFIXES)}.")
    return images


def digest(place: str | Path) -> str:
    """Return the sha256 over the images of a folder, in the order in which they are read."""
    from smidgen.models.files import sha256_of

    whole = hashlib.sha256()
    for path in paths(place):
        whole.update(bytes.fromhex(sha256_of(path)))
    return whole.hexdigest()


def _opened(places: Sequence[Path]) -> Iterator[Image]:
    import io

    from PIL import Image

    from smidgen.inference import images

    for path in places:
        with Image.open(io.BytesIO(images.read(path)), formats=["PNG"]) as image:
            yield image.convert("RGB")
