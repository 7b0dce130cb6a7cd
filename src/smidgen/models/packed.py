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
from smidgen.errors import DamagedFile, SmidgenError, Unsupported
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


def require_folder(folder: Path) -> Path:
    """Return a folder that keeps a model as packed bytes.

    Raises:
        Unsupported: It is anything else, which serves no depth but its own.
    """
    if not is_folder(folder):
        raise Unsupported(
            f"{folder} is not stored hierarchically, so that it cannot be read at fewer bits.",
            remedy="Store it so first: smidgen quantize --format hierarchical.",
        )
    return folder


def at_depth(stored: Mapping[str, PackedTensor], depth: int) -> dict[str, PackedTensor]:
    """Return packed weights as they are read at a depth: of hierarchical ones the weightiest bits, others as they are.

    Raises:
        Unsupported: None of them is stored hierarchically, or none in so many bits.
    """
    found, refusal = dict(stored), None
    for name, each in stored.items():
        number_format = formats.find(each.format)
        try:
            less, data = number_format.cut(each.data, depth)
        except Unsupported as error:
            refusal = error
            continue
        found[name] = replace(each, format=less.name, data=data)
    if refusal is not None and all(found[name] is each for name, each in stored.items()):
        raise refusal
    return found


def read_as(number_format: str, shape: tuple[int, int], depth: int | None) -> tuple[str, int]:
    """Return as what a weight is read at a depth, and how many of its bytes are then left unread.

    Example:
        >>> read_as("hierarchical", (4, 64), 4), read_as("integer", (4, 64), 4)
        (('hierarchical:bits=4', 128), ('integer', 0))
    """
    import torch

    whole = formats.find(number_format)
    row = torch.zeros(1, whole.bytes_for((1, shape[1])), dtype=torch.uint8)
    try:
        less = whole if depth is None else whole.cut(row, depth)[0]
    except Unsupported:
        less = whole
    return less.name, whole.bytes_for(shape) - less.bytes_for(shape)


def shapes(path: Path) -> dict[str, tuple[str, tuple[int, int]]]:
    """Return number format and shape of every packed weight of a file, by name.

    Raises:
        DamagedFile: The file or its metadata cannot be read.
    """
    return {name: (number_format, shape) for name, (number_format, shape, _) in _described(path).items()}


def _described(path: Path) -> dict[str, tuple[str, tuple[int, int], float | None]]:
    """Return number format, shape and greatest size of the inputs of every packed weight of a file, by name."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            found = json.loads((file.metadata() or {})[KEY])
        return {
            name: (
                str(each["format"]),
                (int(each["rows"]), int(each["columns"])),
                None if each.get("inputs") is None else float(each["inputs"]),
            )
            for name, each in found.items()
        }
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path} does not say how its weights are packed: {error}.") from error


def read_folder(folder: Path, dtype: torch.dtype, *, hold: bool = False, depth: int | None = None) -> Model:
    """Load a folder of packed weights.

    Args:
        folder: Where it lies.
        dtype: Type of the weights that are not packed, and of all where they are unpacked.
        hold: Keep the matrices as bytes in the module too, for running only; the floats are made else.
        depth: Bits at which hierarchical matrices are read; all that they have where None.

    Raises:
        DamagedFile: The weights cannot be read, or do not fit the configuration.
        Unsupported: A depth is asked for that the matrices do not have.

    Example:
        model = read_folder(Path("small"), torch.bfloat16, hold=True)
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig, GenerationConfig

    from smidgen.models import families
    from smidgen.models.vision import folder as vision_folder

    raw = read_config(folder)
    family = families.for_architecture(str((raw.get("architectures") or [raw.get("model_type")])[0]))
    try:
        state, packed = load_file(folder / WEIGHTS), {}
        for name, (number_format, shape, inputs) in _described(folder / WEIGHTS).items():
            packed[name] = _checked(PackedTensor(number_format, state.pop(name), shape, inputs), name, folder)
        packed = packed if depth is None else at_depth(packed, depth)
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
    vision = vision_folder.read_beside(folder, dtype, hold=hold)
    model = Model(module.eval(), read_tokenizer(folder), family, lineage, packed, vision=vision)
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

    from smidgen.models import experts, uneven

    anatomy = family.anatomy(config)
    with init_empty_weights(include_buffers=False):
        module: Any = AutoModelForCausalLM.from_config(config)
        module = experts.take_apart(uneven.fit(module, anatomy), anatomy)
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
            whole = copy.deepcopy(part.shell[0])
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
    if type(part) is torch.nn.Linear:
        return kinds[torch.nn.Linear](part, stored)
    return kinds[torch.nn.Embedding](part, stored) if isinstance(part, torch.nn.Embedding) else None


@cache
def _kinds() -> dict[type, Any]:
    import torch

    class FromBytes(torch.autograd.Function):
        """``x Wᵀ`` with W unpacked slice by slice in either pass and kept in none."""

        @staticmethod
        def forward(ctx: Any, inputs: Any, data: Any, number_format: Any) -> Any:
            ctx.save_for_backward(data)
            ctx.number_format = number_format
            return formats.multiply(inputs, data, number_format)

        @staticmethod
        def backward(ctx: Any, slope: Any) -> Any:
            (data,) = ctx.saved_tensors
            return formats.multiply_back(slope, data, ctx.number_format), None, None

    class PackedLinear(torch.nn.Linear):
        """A linear layer that holds its weight as bytes."""

        data: torch.Tensor

        def __init__(self, part: Any, stored: PackedTensor) -> None:
            torch.nn.Module.__init__(self)
            self.in_features, self.out_features, self.bias = part.in_features, part.out_features, part.bias
            self.number_format = formats.find(stored.format).for_matrix(stored.data)
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
            self.scale = float(getattr(part, "embed_scale", 1.0))
            shell = copy.copy(part)
            shell._parameters = {"weight": None}
            self.shell = (shell,)  # inside a tuple it is no part of this module
            self.number_format = formats.find(stored.format).for_matrix(stored.data)
            self.register_buffer("data", stored.data, persistent=False)

        @property
        def weight(self) -> Any:  # type: ignore[override]
            """The floats that the bytes stand for, made anew."""
            return self.number_format.unpack(self.data)

        def forward(self, ids: Any) -> Any:
            """Return the rows of some tokens, scaled where the family scales them."""
            rows = self.number_format.unpack(self.data[ids.flatten()]).reshape(*ids.shape, -1)
            return rows if self.scale == 1 else rows * self.scale

    return {torch.nn.Linear: PackedLinear, torch.nn.Embedding: PackedEmbedding}
