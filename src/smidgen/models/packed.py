"""Models that hold their matrices as the bytes they are stored in, and the folders that keep them so.

A matrix is unpacked where it is used and let go again, an embedding row by row, so that a model takes little more
memory than its bytes. The folder holds ``packed.safetensors``: bytes under the names of the weights, the weights that
are not packed, and in the file's metadata the number format and shape of every packed one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.errors import DamagedFile, SmidgenError
from smidgen.models.checkpoint.safetensors import LINEAGE_FILE, read_config, read_tokenizer
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model, PackedTensor

if TYPE_CHECKING:
    import torch

WEIGHTS = "packed.safetensors"
KEY = "smidgen.packed"


def is_folder(folder: Path) -> bool:
    """Whether a folder keeps a model as packed bytes."""
    return (folder / WEIGHTS).is_file()


def shapes(path: Path) -> dict[str, tuple[str, tuple[int, int]]]:
    """Return number format and shape of every packed weight of a file, by name.

    Raises:
        DamagedFile: The file or its metadata cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            found = json.loads((file.metadata() or {})[KEY])
        return {name: (str(each["format"]), (int(each["rows"]), int(each["columns"]))) for name, each in found.items()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path} does not say how its weights are packed: {error}.") from error


def read_folder(folder: Path, dtype: torch.dtype, *, hold: bool = False) -> Model:
    """Load a folder of packed weights.

    Args:
        folder: Where it lies.
        dtype: Type of the weights that are not packed, and of all where they are unpacked.
        hold: Keep the matrices as bytes in the module too, for running only; the floats are made else.

    Raises:
        DamagedFile: The weights cannot be read, or do not fit the configuration.

    Example:
        model = read_folder(Path("small"), torch.bfloat16, hold=True)
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig, GenerationConfig

    from smidgen.models import families

    raw = read_config(folder)
    family = families.for_architecture(str((raw.get("architectures") or [raw.get("model_type")])[0]))
    try:
        state, packed = load_file(folder / WEIGHTS), {}
        for name, (number_format, shape) in shapes(folder / WEIGHTS).items():
            packed[name] = _checked(PackedTensor(number_format, state.pop(name), shape), name, folder)
        config = AutoConfig.from_pretrained(folder)
        module = _built(config, {name: value.to(dtype) for name, value in state.items()}, packed, family)
        if (folder / "generation_config.json").is_file():
            module.generation_config = GenerationConfig.from_pretrained(folder)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DamagedFile(f"The weights in {folder} cannot be read: {first}", remedy="Make them again.") from error
    record = folder / LINEAGE_FILE
    size = (folder / WEIGHTS).stat().st_size
    lineage = Lineage.read(record) if record.is_file() else Lineage(Origin(str(folder), "", size, 0))
    model = Model(module.eval(), read_tokenizer(folder), family, lineage, packed)
    return model if hold else unpacked(model, dtype)


def _checked(stored: PackedTensor, name: str, folder: Path) -> PackedTensor:
    """Refuse bytes that are not those of their format and shape."""
    import torch

    try:
        expected = formats.find(stored.format).bytes_for(stored.shape)
    except SmidgenError as error:
        raise DamagedFile(f"{name!r} in {folder} cannot be what it says: {error}") from error
    if stored.data.dtype != torch.uint8 or stored.data.numel() != expected or len(stored.data) != stored.shape[0]:
        raise DamagedFile(
            f"{name!r} in {folder} holds {stored.data.numel():,} bytes, and {expected:,} are its format's."
        )
    return stored


def _built(config: Any, state: dict[str, Any], packed: Mapping[str, PackedTensor], family: Any) -> Any:
    """Make a module of which no weight is ever a float that is packed."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    from smidgen.models import uneven

    anatomy = family.anatomy(config)
    with init_empty_weights(include_buffers=False):
        module: Any = AutoModelForCausalLM.from_config(config)
        module = uneven.fit(module, anatomy)
    hold(module, _with_head(packed, anatomy))
    embedding = f"{anatomy.embedding}.weight"
    if anatomy.tied and embedding in state:
        state[f"{anatomy.head}.weight"] = state[embedding]
    module.load_state_dict(state, assign=True)
    if anatomy.tied and embedding in state:
        module.tie_weights()
    return module


def _with_head(packed: Mapping[str, PackedTensor], anatomy: Any) -> dict[str, PackedTensor]:
    """Add a tied head, which reads the embedding's bytes."""
    embedding = f"{anatomy.embedding}.weight"
    tied = {f"{anatomy.head}.weight": packed[embedding]} if anatomy.tied and embedding in packed else {}
    return {**packed, **tied}


def held(model: Model) -> Model:
    """Copy a model with every packed matrix held as bytes; floats that are packed are not copied."""
    module, originals = model.module, {}
    stored = _with_head(model.packed, model.anatomy)
    for name in stored:
        path = name.removesuffix(".weight")
        originals[path] = module.get_submodule(path)
    try:
        hold(module, stored)
        return replace(model, module=copy.deepcopy(module))
    finally:
        for path, part in originals.items():
            _put(module, path, part)


def hold(module: Any, packed: Mapping[str, PackedTensor]) -> None:
    """Put modules that compute from bytes in the place of those of packed matrices."""
    for name, stored in packed.items():
        path = name.removesuffix(".weight")
        stand_in = _stand_in(module.get_submodule(path), stored)
        if stand_in is not None:
            _put(module, path, stand_in)


def is_packed(module: Any) -> bool:
    """Whether a module holds matrices as bytes."""
    return any(type(part) in _kinds().values() for part in module.modules())


def unpacked(model: Model, dtype: torch.dtype | None = None) -> Model:
    """Copy a model with every matrix that it holds as bytes made floats again, float32 where no type is named."""
    import torch

    result = replace(model, module=copy.deepcopy(model.module), packed=dict(model.packed))
    linear, embedding = _kinds()[torch.nn.Linear], _kinds()[torch.nn.Embedding]
    for path, part in list(result.module.named_modules()):
        if type(part) is linear:
            whole: Any = torch.nn.Linear(part.in_features, part.out_features, device="meta")
            whole.bias = part.bias
        elif type(part) is embedding:
            whole = torch.nn.Embedding(part.num_embeddings, part.embedding_dim, part.padding_idx, device="meta")
        else:
            continue
        whole.weight = torch.nn.Parameter(part.weight if dtype is None else part.weight.to(dtype))
        _put(result.module, path, whole.train(part.training))
    anatomy = model.anatomy
    if anatomy.tied:
        head, own = (result.module.get_submodule(path) for path in (anatomy.head, anatomy.embedding))
        head.weight = own.weight
    return result


def held_bytes(module: Any) -> int:
    """Count the bytes of all parameters and buffers, shared ones once."""
    tensors: Mapping[int, torch.Tensor] = {
        each.data_ptr(): each for each in (*module.parameters(), *module.buffers()) if each.numel()
    }
    return sum(each.numel() * each.element_size() for each in tensors.values())


def _put(module: Any, path: str, part: Any) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, part)


def _stand_in(part: Any, stored: PackedTensor) -> Any:
    """Return the module that computes from bytes, None for kinds that have a way of their own."""
    import torch

    kinds = _kinds()
    return kinds[type(part)](part, stored) if type(part) in (torch.nn.Linear, torch.nn.Embedding) else None


@cache
def _kinds() -> dict[type, Any]:
    import torch
    import torch.nn.functional as functional

    class FromBytes(torch.autograd.Function):
        """``x Wᵀ`` with W unpacked in either pass and kept in none."""

        @staticmethod
        def forward(ctx: Any, inputs: Any, data: Any, number_format: Any) -> Any:
            ctx.save_for_backward(data)
            ctx.number_format = number_format
            return functional.linear(inputs, number_format.unpack(data).to(inputs.dtype))

        @staticmethod
        def backward(ctx: Any, slope: Any) -> Any:
            (data,) = ctx.saved_tensors
            return slope @ ctx.number_format.unpack(data).to(slope.dtype), None, None

    class PackedLinear(torch.nn.Linear):
        """A linear layer that holds its weight as bytes."""

        data: torch.Tensor

        def __init__(self, part: Any, stored: PackedTensor) -> None:
            torch.nn.Module.__init__(self)
            self.in_features, self.out_features, self.bias = part.in_features, part.out_features, part.bias
            self.number_format = formats.find(stored.format)
            self.register_buffer("data", stored.data, persistent=False)

        @property
        def weight(self) -> Any:  # type: ignore[override]
            """The floats that the bytes stand for, made anew."""
            return self.number_format.unpack(self.data)

        def forward(self, inputs: Any) -> Any:
            """Return ``x Wᵀ + b``."""
            if torch.is_autocast_enabled(inputs.device.type):
                inputs = inputs.to(torch.get_autocast_dtype(inputs.device.type))
            outputs = FromBytes.apply(inputs, self.data, self.number_format)  # type: ignore[no-untyped-call]
            return outputs if self.bias is None else outputs + self.bias

    class PackedEmbedding(torch.nn.Embedding):
        """An embedding that unpacks only the rows it is asked for."""

        data: torch.Tensor

        def __init__(self, part: Any, stored: PackedTensor) -> None:
            torch.nn.Module.__init__(self)
            self.num_embeddings, self.embedding_dim = part.num_embeddings, part.embedding_dim
            self.padding_idx = part.padding_idx
            self.number_format = formats.find(stored.format)
            self.register_buffer("data", stored.data, persistent=False)

        @property
        def weight(self) -> Any:  # type: ignore[override]
            """The floats that the bytes stand for, made anew."""
            return self.number_format.unpack(self.data)

        def forward(self, ids: Any) -> Any:
            """Return the rows of some tokens."""
            return self.number_format.unpack(self.data[ids.flatten()]).reshape(*ids.shape, -1)

    return {torch.nn.Linear: PackedLinear, torch.nn.Embedding: PackedEmbedding}
