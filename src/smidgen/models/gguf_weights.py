"""The weights of a GGUF file by the names of the model's own state dictionary, each made floats when it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models import experts, families, uneven, uneven_gguf
from smidgen.models.checkpoint import gguf
from smidgen.models.model import PackedTensor

if TYPE_CHECKING:
    import torch

_AGAIN = "Fetch or convert it again."


@dataclass(frozen=True)
class GgufWeights:
    """The weights of one file, checked against its metadata.

    Attributes:
        file: The file, its tensors mapped.
        family: What is peculiar to its architecture.
        config: The transformers configuration that its metadata describe.
    """

    file: gguf.GgufFile
    family: families.Family
    config: Any

    @classmethod
    def open(cls, path: Path) -> GgufWeights:
        """Read a file's headers.

        Raises:
            DamagedFile: The file is cut short, or its metadata and tensors contradict each other.
            Unsupported: Its architecture or a tensor of it is not known.
        """
        file = gguf.read(path)
        family = families.for_gguf(uneven_gguf.even_metadata(file.metadata))
        weights = cls(file, family, _config(family, file))
        weights._check()
        return weights

    @cached_property
    def names(self) -> dict[str, str]:
        """Name in the file by state-dictionary name."""
        return uneven_gguf.names(self.family, self.config)

    @cached_property
    def unstored(self) -> dict[str, tuple[int, ...]]:
        """Shape of every norm that the model has and the file lacks, since an attention behind it is not there."""
        hidden = self.family.anatomy(self.config).hidden_size
        return {name: (hidden,) for name in uneven_gguf.idle(self.family, self.config)}

    @cached_property
    def stored(self) -> dict[str, gguf.StoredTensor]:
        """Every weight's tensor; where several share one, its slices in the order of their names."""
        return stored_weights(self.file, self.names)

    def read(self, names: Iterable[str], dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Return weights as the module has them.

        Args:
            names: State-dictionary names.
            dtype: The type they are given.
        """
        import torch

        anatomy = self.family.anatomy(self.config)
        norms, offset = anatomy.norm_weights(), anatomy.norm_offset
        found = {}
        for name in names:
            if name in self.unstored:
                found[name] = torch.ones(self.unstored[name], dtype=dtype)
                continue
            # What llama.cpp expects added to a norm's weight is taken off, what it expects multiplied divided out.
            values = torch.from_numpy(self.stored[name].floats() - offset * (name in norms))
            order = self.family.gguf_rows(name, uneven.row_config(self.config, anatomy, name))
            weight = (values if order is None else values[torch.argsort(order)]).to(dtype)
            if (factor := self.family.gguf_factor(name, self.file.metadata)) != 1:
                weight /= factor
            found[name] = weight
        return found

    def packed(self, name: str) -> PackedTensor | None:
        """Return a matrix's bytes with its rows in the module's order.

        None where no number format of smidgen reads them, or where the module's values are not theirs.

        Args:
            name: State-dictionary name.
        """
        import torch

        from smidgen import formats

        stored = self.stored.get(name)
        if stored is None or len(stored.shape) != 2 or self.family.gguf_factor(name, self.file.metadata) != 1:
            return None
        kinds = (formats.find(each) for each in formats.names())
        kind = next((each for each in kinds if each.ggml_type == stored.type), None)
        if not isinstance(kind, formats.BlockFormat):
            return None
        order = self.family.gguf_rows(name, uneven.row_config(self.config, self.family.anatomy(self.config), name))
        data = stored.data if order is None else stored.data[torch.argsort(order).numpy()]
        return PackedTensor(kind.name.lower(), torch.from_numpy(data.copy()), (stored.shape[0], stored.shape[1]))

    def _check(self) -> None:
        """Check that the file holds the tensors that its metadata promise, in their shapes, and no others."""
        path, tensors, names = self.file.path, self.file.tensors, self.names
        missing = next((stored for stored in names.values() if stored not in tensors), None)
        if missing is not None:
            raise DamagedFile(f"{path} lacks the tensor {missing!r}.", remedy=_AGAIN)
        idle = uneven_gguf.zeros(self.family, self.config)
        known = {*names.values(), *self.family.gguf_extras(self.config), *idle}
        foreign = next((name for name in tensors if name not in known), None)
        if foreign is not None:
            raise Unsupported(
                f"{path} holds the tensor {foreign!r}, which has no place in a model of the architecture "
                f"{self.family.architecture!r}.",
                remedy="Such a file can still be run and measured.",
            )
        try:
            shapes = _shapes(self.config)
        except (RuntimeError, TypeError) as error:  # sizes beyond what can be counted
            raise DamagedFile(f"The metadata of {path} promise a model that cannot be.", remedy=_AGAIN) from error
        sharers = Counter(names.values())
        for name, shape in shapes.items():
            if name not in names:
                continue
            found, count = tensors[names[name]].shape, sharers[names[name]]
            promised = shape if count == 1 else (count, *shape)
            if found != promised:
                raise DamagedFile(
                    f"{path} holds {names[name]!r} in the shape {found}, and its metadata promise {promised}.",
                    remedy=_AGAIN,
                )


def stored_weights(file: gguf.GgufFile, names: Mapping[str, str]) -> dict[str, gguf.StoredTensor]:
    """Return every weight's tensor in a file; where several share one, its slices in the order of their names.

    Args:
        file: The file.
        names: Name in the file by state-dictionary name.
    """
    sharers: dict[str, list[str]] = {}
    for name, stored in names.items():
        sharers.setdefault(stored, []).append(name)
    found: dict[str, gguf.StoredTensor] = {}
    for stored, members in sharers.items():
        tensor = file.tensors[stored]
        slices = [tensor] if len(members) == 1 else tensor.slices()
        found |= dict(zip(members, slices, strict=True))
    return found


def _config(family: families.Family, file: gguf.GgufFile) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    vectors = {
        name: tensor.floats() if len(tensor.shape) == 1 else tensor.data for name, tensor in file.tensors.items()
    }
    try:
        config = family.config_from_gguf(uneven_gguf.even_metadata(file.metadata), vectors)
        return uneven_gguf.with_counts(config, family, file)
    except StrictDataclassError as error:
        reason = str(error).strip().rpartition("\n")[2].strip()
        raise DamagedFile(f"The metadata of {file.path} cannot be: {reason}") from error


def _shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of a configuration's model, without making any."""
    import torch

    kind = families.module_class(config)
    with torch.device("meta"):
        anatomy = families.for_architecture(kind.__name__).anatomy(config)
        module = experts.take_apart(uneven.fit(kind(config), anatomy), anatomy)
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}
