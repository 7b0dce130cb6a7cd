"""What a model has beside its language model so that it reads images: `Model.vision`.

A model that sees is a language model of its own family, as any other, with a `Vision` at its side. Passes that shrink
the language model know nothing of it and hand it on. Everything peculiar to a family of such models stands in its file
in `smidgen.models.families`, a `SeeingFamily`: how an image becomes pixels, what the language model reads of it, how a
conversation with images is laid out, and how all this is named in published files.

The way of an image: ``family.picture(vision, image)`` makes pixels of it, ``family.layout(vision, tokenizer, turns)``
a prompt with a `PLACE` for each of its tokens, ``family.features(vision, picture)`` what stands there instead of
embedded tokens, and `embedded` puts both together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model, PackedTensor
    from smidgen.models.vision.family import SeeingFamily

PLACE = -1
"""The number that stands in a prompt where the language model reads an image instead of a token."""


@dataclass(frozen=True)
class Picture:
    """An image as a model's eyes take it in.

    Attributes:
        pixels: float32 ``[tiles, 3, height, width]``, with mean and deviation as the family has them.
        places: How many tokens of the prompt it takes.
        grid: Columns and rows of tiles that make up the image; the whole of it once more, made small, not counted.
    """

    pixels: torch.Tensor
    places: int
    grid: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Shown:
    """One turn of a conversation in which images are shown.

    Attributes:
        role: "system", "user" or "assistant".
        parts: Texts and pictures, in their order.
    """

    role: str
    parts: tuple[str | Picture, ...]


@dataclass(frozen=True)
class Vision:
    """The eyes of a model.

    Attributes:
        family: What is peculiar to models of this kind.
        module: What turns pixels into what the language model reads; no part of it is the language model's.
        published: What the published ``config.json`` says.
        packed: Weights of the module that already have their final bytes, by their name in it; it then holds the same
            values as floats.
    """

    family: SeeingFamily
    module: Any
    published: Mapping[str, Any]
    packed: Mapping[str, PackedTensor] = field(default_factory=dict)

    def parameter_count(self) -> int:
        """Count the weights."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def with_outputs(vision: Vision, path: str, kept: torch.Tensor) -> Vision:
    """Return eyes of which one linear layer writes some of its channels only.

    Args:
        vision: The eyes; they stay as they were.
        path: The layer's path in their module.
        kept: The channels, int64 ``[keep]``.
    """
    import copy
    from dataclasses import replace

    import torch

    parent, _, name = path.rpartition(".")
    module, before = copy.deepcopy(vision.module), vision.module.get_submodule(path)
    after: Any = torch.nn.Linear(before.in_features, len(kept), bias=before.bias is not None, device="meta")
    for part in ("weight", "bias"):
        if getattr(before, part) is not None:
            values = getattr(before, part).detach().index_select(0, kept.to(before.weight.device))
            setattr(after, part, torch.nn.Parameter(values, requires_grad=False))
    setattr(module.get_submodule(parent), name, after)
    packed = {name: each for name, each in vision.packed.items() if name != f"{path}.weight"}
    return replace(vision, module=module, packed=packed)


def pictures_of(turns: Sequence[Shown]) -> list[Picture]:
    """Return the pictures of a conversation, in their order."""
    return [part for turn in turns for part in turn.parts if isinstance(part, Picture)]


def seen(model: Model, pictures: Sequence[Picture]) -> torch.Tensor:
    """Return what the language model reads of some pictures, ``[places of all, hidden]``.

    Args:
        model: A model that sees.
        pictures: At least one.
    """
    import torch

    vision = model.vision
    assert vision is not None
    with torch.inference_mode():
        return torch.cat([vision.family.features(vision, picture) for picture in pictures])


def embedded(model: Model, ids: Sequence[int], features: torch.Tensor) -> torch.Tensor:
    """Return a prompt as the language model's first block reads it, ``[1, length, hidden]``.

    Args:
        model: The model.
        ids: Tokens, `PLACE` where a picture stands.
        features: What stands there, ``[places, hidden]``.

    Raises:
        InvalidInput: There are more or fewer places than the pictures take.
    """
    import torch

    tokens = torch.tensor([ids])
    places = tokens == PLACE
    if int(places.sum()) != len(features):
        raise InvalidInput(f"The prompt has {int(places.sum()):,} places for images, which take {len(features):,}.")
    embedding = model.module.get_submodule(model.anatomy.embedding)
    rows = embedding(tokens.masked_fill(places, 0))
    rows[places] = features.to(rows.dtype)
    found: torch.Tensor = rows
    return found
