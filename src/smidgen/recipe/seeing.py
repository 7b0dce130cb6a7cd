"""What a job does about images: refuses what would end blind, decides on the tower, writes what reads images."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import RecipeError, Unsupported
from smidgen.export import projector
from smidgen.models.files import atomic_path, projector_beside, sha256_of
from smidgen.models.vision.folder import is_seeing
from smidgen.recipe import eyes
from smidgen.recipe.recipe import Recipe, Step

if TYPE_CHECKING:
    from smidgen.models.model import Model
    from smidgen.models.sources import LocalModel

TOWER_FORMAT = "q8_0"
"""What the tower's matrices are stored in where there are images to go by."""

SOURCE_BYTES = 2
"""What a weight of a folder takes where figures before and after are told, as in the GGUF of its language model."""


def require(local: LocalModel, images: str | None, recipe: Recipe | None) -> None:
    """Refuse, before a weight is read, what would end in a model that sees nothing, or less than was asked for.

    Args:
        local: The source.
        images: The images of `make`.
        recipe: The steps of `apply`.

    Raises:
        Unsupported: llama.cpp cannot hold the source's eyes, or images are given and it has none that could change.
        RecipeError: Steps go by other images than the recipe was written for, or leave eyes that cannot be held.
        InvalidInput: There are no images.
        ReferenceNotFound: There is no such folder.
    """
    sees = local.path.is_dir() and is_seeing(local.path)
    for place in folders(images, recipe):
        if given(local) is not None:
            raise Unsupported(
                f"What reads images for {local.name} is a GGUF of its own, which stays as it is.",
                remedy="Leave the images out, or start from the folder that it was published as.",
            )
        if not sees:
            raise Unsupported(
                f"{local.name} reads no images, so that nothing of it goes by them.",
                remedy="Leave the images out, or name the folder of a model that sees.",
            )
        eyes.paths(place)
    require_holdable(local)
    problems = list(_problems(local, recipe.steps if recipe else ()))
    if problems:
        raise RecipeError(problems)


def require_holdable(local: LocalModel) -> None:
    """Refuse a folder of a model that sees where no GGUF of it would; its weights are not read.

    Raises:
        Unsupported: llama.cpp would see something else than the model does.
    """
    if not (local.path.is_dir() and is_seeing(local.path)):
        return
    try:
        projector.require_holdable(local.path)
    except Unsupported as error:
        raise Unsupported(
            f"No GGUF of {local.name} would see. {error.message}",
            remedy=f"Keep it as a folder, which torch runs: smidgen quantize {local.name} --fit SIZE --out FOLDER "
            "stores its matrices in fewer bits, and smidgen prune cuts it.",
        ) from error


def _problems(local: LocalModel, steps: Sequence[Step]) -> Iterable[str]:
    for number, step in enumerate(steps, 1):
        cut = step.parameters.get("structure") if step.operation == "prune" else None
        if step.images is None:
            if cut == "width" and given(local) is not None:
                yield f"step {number}: what reads images writes the whole width, so that none of it can be cut."
            continue
        if step.images_sha256 not in (None, eyes.digest(step.images)):
            yield f"step {number}: {step.images} holds other images than the recipe was written for."
        if cut == "head":
            yield f"step {number}: llama.cpp runs no tower that lost heads; cut neurons or layers of it instead."


def folders(images: str | None, recipe: Recipe | None) -> list[str]:
    """List the places of images that a job goes by, each once."""
    named = [images, *(step.images for step in (recipe.steps if recipe else ()))]
    return list(dict.fromkeys(place for place in named if place is not None))


def sealed(steps: Iterable[Step]) -> list[Step]:
    """Return steps that say which images they went by."""
    return [step if step.images is None else replace(step, images_sha256=eyes.digest(step.images)) for step in steps]


def plan(source: Model, images: str) -> list[dict[str, Any]]:
    """Return as plain data what is done to the tower going by images: 8 bits, where its rows fit."""
    from smidgen import formats
    from smidgen.models.vision import tower

    seen = tower.taken(source)
    fits = all(formats.find(TOWER_FORMAT).fits(seen.shape(name)[1]) for name in seen.anatomy.matrices())
    steps = [Step("quantize", {"default": TOWER_FORMAT}, images)] if fits else []
    return [step.to_dict() for step in sealed(steps)]


def given(local: LocalModel) -> Path | None:
    """Return the file with which a source that is a GGUF reads images; None where it reads none."""
    names = local.facts.get("projectors") or ()
    return local.path.with_name(names[0]) if names and local.kind == "gguf" else None


def write(model: Model, local: LocalModel, path: Path) -> int:
    """Write what reads images beside a model's file, and return its bytes; nothing and 0 where nothing does.

    Args:
        model: The model.
        local: What it was made from, whose own file is taken over where the model came from a GGUF.
        path: The model's file.

    Raises:
        Unsupported: llama.cpp would see something else than the model does.
    """
    target, own = projector_beside(path), given(local)
    if model.vision is not None:
        projector.write(model, target)
    elif own is not None:
        with atomic_path(target) as temporary:
            shutil.copyfile(own, temporary)
    else:
        return 0
    return target.stat().st_size


def count_source(content: dict[str, Any], model: Model, local: LocalModel) -> None:
    """Count in a receipt, among the bytes of the source and its parts, what the source reads images with.

    Args:
        content: The receipt, changed.
        model: The source.
        local: The same on disk; the bytes of a folder are already those of all that it holds.
    """
    own, parts = given(local), content["parts"]["before"]
    if own is not None:
        parts["vision"] = own.stat().st_size
        content["source"]["bytes"] += parts["vision"]
    elif model.vision is not None:
        parts["vision"] = SOURCE_BYTES * model.vision.parameter_count()


def described(path: Path, steps: Iterable[Step]) -> dict[str, Any]:
    """Return the receipt's ``vision`` for a handed over file; nothing where it reads no images."""
    beside, done = projector_beside(path), [step for step in steps if step.images is not None]
    if not beside.is_file():
        return {}
    note = "What reads images was changed going by images; no figure here was measured on images."
    if not done:
        note = "What reads images is as it was in the source; no figure here was measured on images."
    facts = {"file": beside.name, "bytes": beside.stat().st_size, "sha256": sha256_of(beside)}
    return {"vision": {**facts, "changed": bool(done), "note": note}}
