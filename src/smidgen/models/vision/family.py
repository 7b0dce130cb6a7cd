"""What every family of models that read images answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import Unsupported
from smidgen.models.families import NO_LANGUAGE, Family
from smidgen.models.vision import Picture, Shown, Vision

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import PreTrainedTokenizerFast

    from smidgen.models.anatomy import Anatomy
    from smidgen.models.model import Model

State = dict[str, "torch.Tensor"]


class SeeingFamily(Family):
    """A family of models that read images, beside the family of their language model.

    Attributes:
        transcription: What such a model is asked so that it writes out the text in an image.
        tower: Path of the tower inside the module of a `Vision`.
        mean: What is subtracted from each colour of a pixel, whose values go from 0 to 1.
        deviation: What the rest is divided by.
    """

    gguf_architecture: ClassVar[str] = NO_LANGUAGE
    transcription: ClassVar[str] = "Read the text in the image."
    tower: ClassVar[str] = "vision_tower"
    mean: ClassVar[tuple[float, float, float]] = (0.485, 0.456, 0.406)
    deviation: ClassVar[tuple[float, float, float]] = (0.229, 0.224, 0.225)

    def reads_gguf(self, metadata: Mapping[str, Any]) -> bool:
        """Say no: a GGUF holds the language model alone, which is a file of its own family."""
        return False

    def language_config(self, published: Mapping[str, Any]) -> Any:
        """Build the transformers configuration of the language model.

        Args:
            published: What ``config.json`` says.

        Raises:
            Unsupported: The language model is of no family that is known.
            DamagedFile: An entry is missing or cannot be.
        """
        raise TypeError(f"{type(self).__name__} does not say what its language model is")

    def eyes(self, published: Mapping[str, Any], language: Any) -> Any:
        """Build the module of a `Vision`, its weights on the present device and not yet read.

        Args:
            published: What ``config.json`` says.
            language: Configuration of the language model.

        Raises:
            Unsupported: It asks for what this family does not have.
        """
        raise TypeError(f"{type(self).__name__} does not build its eyes")

    def divided(self, published: Mapping[str, Any], state: State) -> tuple[State, State]:
        """Divide published weights into those of the language model and those of the eyes, under their own names."""
        raise TypeError(f"{type(self).__name__} does not name its weights")

    def joined(self, published: Mapping[str, Any], language: State, eyes: State) -> State:
        """Name weights as they are published; the reverse of `divided`."""
        raise TypeError(f"{type(self).__name__} does not name its weights")

    def described(self, model: Model) -> dict[str, Any]:
        """Return what ``config.json`` says of a model as it now is."""
        raise TypeError(f"{type(self).__name__} does not write its configuration")

    def picture(self, vision: Vision, image: Image, *, count: int = 1) -> Picture:
        """Make pixels of an RGB image, one of so many that the conversation shows."""
        raise TypeError(f"{type(self).__name__} does not cut images")

    def pictures(self, vision: Vision, images: Sequence[Image]) -> list[Picture]:
        """Make pixels of all images of a conversation; a family may cut many images less finely than one."""
        return [self.picture(vision, image, count=len(images)) for image in images]

    def features(self, vision: Vision, picture: Picture) -> torch.Tensor:
        """Return what the language model reads of a picture, ``[places, hidden]``."""
        raise TypeError(f"{type(self).__name__} does not look at images")

    def narrowed(self, vision: Vision, kept: torch.Tensor) -> Vision:
        """Return eyes for a language model of which these hidden channels stayed, int64 ``[keep]``, rising.

        Raises:
            Unsupported: The family has none.
        """
        raise Unsupported(
            "The width of this model cannot be cut, since what it reads of images has that width too.",
            remedy="Cut layers, neurons or heads instead.",
        )

    def layout(self, vision: Vision, tokenizer: PreTrainedTokenizerFast, turns: Sequence[Shown]) -> list[int]:
        """Lay a conversation out as tokens, `PLACE` where pictures stand, up to where the answer begins.

        Raises:
            InvalidInput: The model knows no such turns.
        """
        raise TypeError(f"{type(self).__name__} does not lay out conversations")

    def build_tower(self, config: Any) -> Any:
        """Build the tower of a configuration, a transformers model that reads ``pixel_values``, on the present device.

        Raises:
            Unsupported: It cannot be built apart from the rest of the eyes.
        """
        raise Unsupported(
            f"What reads images in a {type(self).__name__} can be run, not shrunk.",
            remedy="Shrink its language model: leave --images out.",
        )

    def tower_of(self, vision: Vision) -> Any:
        """Return the tower of some eyes; where there is more of it than is read, one of what is read."""
        return vision.module.get_submodule(self.tower)

    def tower_anatomy(self, config: Any) -> Anatomy:
        """Name every part of a tower of this configuration, by paths inside it."""
        raise TypeError(f"{type(self).__name__} does not describe its tower")

    def gguf_layout(self) -> dict[str, Any]:
        """Return the keys with which a GGUF of the language model lays conversations out as `layout` does."""
        return {}

    def projector(self, vision: Vision) -> tuple[dict[str, Any], dict[str, str]]:
        """Return what a GGUF says of the eyes, and the name there of each of their weights by its own.

        Raises:
            Unsupported: llama.cpp would see something else than the model does.
        """
        raise Unsupported(
            f"llama.cpp cannot hold what reads images in a {type(self).__name__}.",
            remedy="Ask for safetensors instead, which torch runs.",
        )

    def in_projector(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return a weight of the eyes as it lies in a GGUF; nearly always the one given."""
        return weight

    def end_tokens(self, vision: Vision, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
        """Return tokens that end an answer besides those that the model's own files name."""
        return frozenset()
