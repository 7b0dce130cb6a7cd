"""One file per family of models; a family owns everything that is peculiar to its architecture.

A family says where the parts lie (`anatomy`), how the configuration is written in a GGUF's metadata and read
from it, how tensors are named there and in what order their rows lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen import registry
from smidgen.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np
    import torch

    from smidgen.models.anatomy import Anatomy
    from smidgen.models.model import Model
    from smidgen.models.vision.family import SeeingFamily


NO_LANGUAGE = "clip"
"""What files are called that turn images into what a language model reads."""


class Family:
    """What every family answers.

    Attributes:
        architecture: Class name in ``config.json``'s ``architectures``.
        published_architectures: Other names there, and kinds of models, that such models are published under.
        gguf_architecture: Value of ``general.architecture``.
        uneven_gguf_architecture: The same for models whose blocks differ in heads and neurons; None where llama.cpp
            has none.
    """

    architecture: ClassVar[str]
    published_architectures: ClassVar[tuple[str, ...]] = ()
    gguf_architecture: ClassVar[str]
    uneven_gguf_architecture: ClassVar[str | None] = None

    def reads_gguf(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a GGUF with these key-value pairs is this family's; of every file at most one family says so."""
        return metadata.get("general.architecture") == self.gguf_architecture

    def anatomy(self, config: Any) -> Anatomy:
        """Name every part of a model of this configuration."""
        raise TypeError(f"{type(self).__name__} does not describe its anatomy")

    def for_cutting(self, model: Model, structure: str) -> Model:
        """Return a model that computes the same and can lose parts of this kind; nearly always the one given."""
        return model

    def after_cutting(self, model: Model) -> Model:
        """Return a model that computes the same and that transformers can write and load; nearly always the one given.

        Raises:
            Unsupported: There is none.
        """
        return model

    def require_loadable(self, config: Any) -> None:
        """Refuse a configuration that transformers could neither write nor load again; raises Unsupported."""

    def turning_length(self, config: Any) -> int | None:
        """Return the length beyond which all tokens of a text are rotated otherwise; None where there is none."""
        return None

    def with_experts(self, config: Any, count: int) -> Any:
        """Return a copy of a configuration for blocks of so many experts."""
        raise TypeError(f"{type(self).__name__} has no experts")

    def published_name(self, name: str) -> str:
        """Return the name that a weight has in published safetensors, by its state-dictionary name."""
        return name

    def config_from_gguf(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Build the transformers configuration from a GGUF's metadata.

        Args:
            metadata: Key-value pairs of the file.
            tensors: The file's tensors as float arrays where they are small (norms, rope factors), by name.
        """
        raise TypeError(f"{type(self).__name__} cannot be read from GGUF")

    def gguf_metadata(self, config: Any) -> dict[str, Any]:
        """Return the architecture's own key-value pairs for a GGUF."""
        raise TypeError(f"{type(self).__name__} cannot be written as GGUF")

    def gguf_names(self, config: Any) -> dict[str, str]:
        """Map every state-dictionary name to the tensor's name in a GGUF; a tied head is absent.

        Matrices that share a name there are stacked in the order of their names here (`Anatomy.stored_together`).
        """
        raise TypeError(f"{type(self).__name__} cannot be written as GGUF")

    def gguf_rows(self, name: str, config: Any) -> torch.Tensor | None:
        """Return the order in which a tensor's rows lie in a GGUF, or None where it is unchanged.

        ``gguf_weight = weight[gguf_rows]``; the index is int64 ``[rows]``.
        """
        return None

    def gguf_factor(self, name: str, metadata: Mapping[str, Any]) -> float:
        """Return what a weight is multiplied by in a GGUF with these key-value pairs, a power of two."""
        return 1.0

    def gguf_extras(self, config: Any) -> dict[str, torch.Tensor]:
        """Return tensors a GGUF needs that are no parameters (rope factors), by their name there."""
        return {}


def module_class(config: Any) -> Any:
    """Return the transformers class that builds models of a configuration."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM._model_mapping[type(config)]


def all_families() -> tuple[Family, ...]:
    """Return one instance of every known family."""
    return tuple(registry.find(__name__, name)() for name in registry.names(__name__))


def for_architecture(architecture: str) -> Family:
    """Return the family of a ``config.json`` architecture, or say which are known."""
    families = all_families()
    for family in families:
        if architecture in (family.architecture, *family.published_architectures):
            return family
    known = ", ".join(sorted(family.architecture for family in families))
    raise Unsupported(f"Models of the architecture {architecture!r} cannot be taken apart.", remedy=f"Known: {known}.")


def seeing(config: Mapping[str, Any]) -> SeeingFamily | None:
    """Return the family of a ``config.json`` where its models read images; None for all others."""
    from smidgen.models.vision.family import SeeingFamily

    architecture = str((config.get("architectures") or [config.get("model_type")])[0])
    for family in all_families():
        known = (family.architecture, *family.published_architectures)
        if isinstance(family, SeeingFamily) and architecture in known:
            return family
    return None


def for_gguf(metadata: Mapping[str, Any]) -> Family:
    """Return the family of a GGUF by its key-value pairs, or say which architectures are known."""
    families = all_families()
    for family in families:
        if family.reads_gguf(metadata):
            return family
    known = ", ".join(sorted({family.gguf_architecture for family in families} - {NO_LANGUAGE}))
    raise Unsupported(
        f"GGUF files of the architecture {metadata.get('general.architecture')!r} cannot be taken apart.",
        remedy=f"Known: {known}. Such a file can still be run and measured.",
    )
