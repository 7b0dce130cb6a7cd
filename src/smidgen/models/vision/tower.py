"""The tower of a model that sees, as a model that the passes of shrinking take and return.

Its text are tiles: a tile's tokens are the values of its pixels, colour by colour and row by row, of which there are
256. What a pass makes of it is put back into the model that it was taken from.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import Unsupported
from smidgen.models import uneven
from smidgen.models.anatomy import Anatomy, Site
from smidgen.models.families import NO_LANGUAGE, Family
from smidgen.models.lineage import EYES, PART, Lineage
from smidgen.models.model import Model, PackedTensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch
    from PIL.Image import Image

    from smidgen.models.vision import Vision
    from smidgen.models.vision.family import SeeingFamily

INNER = "tower."
"""What the names of a tower's weights begin with where it is a model of its own."""

VALUES, COLOURS = 256, 3


@dataclass(frozen=True)
class TowerAnatomy(Anatomy):
    """Where everything lies inside a tower, which has no head; what makes tokens of patches is never quantised."""

    def sites(self) -> Iterator[Site]:
        """Yield every group of linear layers that read one input, all of them inside blocks."""
        return (site for site in super().sites() if site.block is not None)

    def matrices(self) -> dict[str, str]:
        """Map the name of every weight matrix of the blocks to its part: ``attention mlp``."""
        return {name: part for name, part in super().matrices().items() if part in ("attention", "mlp")}


class TowerFamily(Family):
    """What a tower is as a model of its own.

    Args:
        owner: The family of the model that it is a part of.
    """

    architecture: ClassVar[str] = "Tower"
    gguf_architecture: ClassVar[str] = NO_LANGUAGE

    def __init__(self, owner: SeeingFamily) -> None:
        self.owner = owner

    def anatomy(self, config: Any) -> TowerAnatomy:
        """Name every part of a tower of this configuration."""
        inner = self.owner.tower_anatomy(config)
        values = {name: getattr(inner, name) for name in inner.__dataclass_fields__}
        side = config.image_size[0] if isinstance(config.image_size, Sequence) else config.image_size
        paths = ("embedding", "head", "final_norm", "layers", "rotary")
        values |= {name: f"{INNER}{values[name]}" for name in paths}
        values |= {"vocabulary_size": VALUES, "context_length": COLOURS * side * side}
        values["blocks"] = tuple(_inside(block) for block in inner.blocks)
        return TowerAnatomy(**values)

    def require_loadable(self, config: Any) -> None:
        """Refuse blocks that differ, which no tower of transformers has."""
        if uneven.counts(config) is not None:
            raise Unsupported("The blocks of a tower are all alike.", remedy="Cut as much from each: leave uneven out.")


def _inside(block: Any) -> Any:
    """Return a block with its paths as they are inside the model that a tower becomes."""

    def inner(paths: Any) -> Any:
        return {role: f"{INNER}{path}" for role, path in paths.items()}

    return replace(
        block,
        path=f"{INNER}{block.path}",
        projections={role: replace(part, path=f"{INNER}{part.path}") for role, part in block.projections.items()},
        norms=tuple(f"{INNER}{path}" for path in block.norms),
        norm_before=inner(block.norm_before),
        norm_after=inner(block.norm_after),
        head_norms=inner(block.head_norms),
    )


def taken(model: Model) -> Model:
    """Return the tower of a model that sees, as a model of its own that shares its weights.

    Parts of it that nothing reads are left out, and so are missing where it is put back.

    Args:
        model: The model.

    Raises:
        Unsupported: It reads no images, or its tower cannot be had apart.
    """
    import torch

    from smidgen.models.vision._tower import kind_of

    vision = _vision(model)
    held = vision.family.tower_of(vision)
    kind: Any = type(vision.family)
    with torch.device("meta"):
        module: Any = kind_of(kind)(copy.deepcopy(held.config))
    module.tower = held
    there = set(module.state_dict())
    packed = {f"{INNER}{name}": stored for name, stored in _own(vision).items() if f"{INNER}{name}" in there}
    family = TowerFamily(vision.family)
    return Model(module.eval(), model.tokenizer, family, _history(model.lineage), packed)


def put_back(model: Model, tower: Model) -> Model:
    """Return a model with what a pass made of its tower in the place of it.

    Args:
        model: What the tower was taken from; it stays as it was.
        tower: What became of the tower.
    """
    vision = _vision(model)
    module = copy.copy(vision.module)
    module._modules = dict(vision.module._modules)
    parent, _, name = vision.family.tower.rpartition(".")
    if parent:
        module = copy.deepcopy(vision.module)
    setattr(module.get_submodule(parent), name, tower.module.tower.requires_grad_(False))
    packed = {name: stored for name, stored in vision.packed.items() if name not in _names(vision)}
    packed |= {f"{vision.family.tower}.{key.removeprefix(INNER)}": stored for key, stored in tower.packed.items()}
    new = tower.lineage.steps[len(_history(model.lineage).steps) :]
    steps = tuple(replace(step, parameters=step.parameters | {PART: EYES}) for step in new)
    lineage = replace(model.lineage, steps=(*model.lineage.steps, *steps))
    return replace(model, vision=replace(vision, module=module, packed=packed), lineage=lineage)


def _history(lineage: Lineage) -> Lineage:
    """Return what was done to the tower so far, as the lineage of a model of its own."""
    mine = [step for step in lineage.steps if step.parameters.get(PART) == EYES]
    own = [{name: value for name, value in step.parameters.items() if name != PART} for step in mine]
    return Lineage(lineage.origin, tuple(replace(step, parameters=told) for step, told in zip(mine, own, strict=True)))


def windows(model: Model, images: Iterable[Image], most: int) -> torch.Tensor:
    """Return the tiles of some images as a tower reads them, int64 ``[tiles, 3·side²]``.

    Args:
        model: The model whose tower reads them.
        images: RGB images, one after the other.
        most: Tiles that are taken at most.
    """
    import torch

    vision, tiles = _vision(model), []
    count = 0
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (vision.family.mean, vision.family.deviation))
    for image in images:
        pixels = vision.family.picture(vision, image).pixels
        tiles.append(((pixels * deviation + mean) * 255).round().clamp(0, 255).long().flatten(1))
        count += len(pixels)
        if count >= most:
            break
    return torch.cat(tiles)[:most]


def _vision(model: Model) -> Vision:
    if model.vision is None:
        raise Unsupported("This model reads no images, so that nothing of it can be shrunk that does.")
    return model.vision


def _names(vision: Vision) -> set[str]:
    return {f"{vision.family.tower}.{name}" for name in vision.module.get_submodule(vision.family.tower).state_dict()}


def _own(vision: Vision) -> dict[str, PackedTensor]:
    """Return the packed weights of the tower, by their name in it."""
    start = f"{vision.family.tower}."
    return {name.removeprefix(start): each for name, each in vision.packed.items() if name.startswith(start)}
