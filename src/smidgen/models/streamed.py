"""Models whose matrices stay on disk: a block's weights are read when it is computed and let go again.

What such a model holds in memory is its norms, biases and routers, and one block at a time, however many it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models import experts, families, packed, uneven
from smidgen.models.checkpoint import safetensors, tokenizer
from smidgen.models.facts import published_as
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.load import named_as
from smidgen.models.model import Model, PackedTensor

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Block
    from smidgen.models.sources import LocalModel

INDEX = "model.safetensors.index.json"
_AGAIN = "Fetch the model again."


class Weights(Protocol):
    """Weights on disk, by the names of the model's state dictionary."""

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Return weights in the type they are stored in or float32, mapped from the file where that can be."""


@dataclass(frozen=True)
class SafetensorsWeights:
    """The weights of a folder in the transformers layout, in one file or several.

    Attributes:
        folder: Where it lies.
        family: What is peculiar to its architecture.
    """

    folder: Path
    family: families.Family

    @cached_property
    def files(self) -> dict[str, Path]:
        """The file that holds each weight, by its published name.

        Raises:
            DamagedFile: A file is missing or cut short.
        """
        from safetensors import SafetensorError, safe_open

        index = self.folder / INDEX
        if index.is_file():
            places = safetensors.read_object(index).get("weight_map")
            if not isinstance(places, dict):
                raise DamagedFile(f"{index} does not say where the weights are.", remedy=_AGAIN)
            files = sorted({self.folder / str(name) for name in places.values()})
        else:
            files = [self.folder / "model.safetensors"]
        found: dict[str, Path] = {}
        for file in files:
            try:
                with safe_open(file, framework="pt") as opened:
                    found |= dict.fromkeys(opened.keys(), file)
            except (SafetensorError, OSError) as error:
                raise DamagedFile(f"{file} cannot be read: {error}.", remedy=_AGAIN) from error
        return found

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Return weights in the type they are stored in, mapped from their files until they are let go."""
        from safetensors import safe_open

        places: dict[Path, list[str]] = {}
        for name in names:
            places.setdefault(self.files[self.family.published_name(name)], []).append(name)
        found: dict[str, torch.Tensor] = {}
        for file, members in places.items():
            with safe_open(file, framework="pt") as opened:
                found |= {name: opened.get_tensor(self.family.published_name(name)) for name in members}
        return found


@dataclass(frozen=True)
class GgufFileWeights:
    """The weights of a GGUF file.

    Attributes:
        path: The file; it is opened for every reading, so that none of it stays mapped.
    """

    path: Path

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Return weights as float32."""
        import torch

        from smidgen.models.gguf_weights import GgufWeights

        return GgufWeights.open(self.path).read(names, torch.float32)


@dataclass(frozen=True)
class StreamedModel(Model):
    """A model whose matrices are on disk.

    Attributes:
        source: Where the matrices are read.
        change: What is done to every matrix that is read, given its name and float32 values.
    """

    source: Weights | None = None
    change: Callable[[str, torch.Tensor], torch.Tensor] | None = None

    def weight(self, name: str) -> torch.Tensor:
        """Return one parameter; a matrix is read from disk, in the type it is stored in where nothing changes it."""
        value = super().weight(name)
        if value.device.type != "meta":
            return value
        assert self.source is not None
        found = self.source.read([name])[name]
        return found if self.change is None else self.change(name, found.float())

    def load(self, block: Block) -> None:
        """Read a block's matrices into its modules, as float32."""
        import torch

        layer = self.module.get_submodule(block.path)
        missing = [name for name, value in layer.named_parameters() if value.device.type == "meta"]
        assert self.source is not None
        found = self.source.read(f"{block.path}.{name}" for name in missing)
        for name in missing:
            whole = f"{block.path}.{name}"
            value = found.pop(whole).float()
            value = value if self.change is None else self.change(whole, value)
            put(self.module, whole, torch.nn.Parameter(value, requires_grad=False))

    def release(self, block: Block) -> None:
        """Let a block's matrices go."""
        layer = self.module.get_submodule(block.path)
        matrices = self.anatomy.matrices()
        for name, value in list(layer.named_parameters()):
            if f"{block.path}.{name}" in matrices:
                put(self.module, f"{block.path}.{name}", _on_meta(value))

    @contextmanager
    def rows_of_embedding(self, values: torch.Tensor) -> Iterator[None]:
        """Let the embedding hold some rows only; the model then knows these tokens by their place among them.

        Args:
            values: Rows of the embedding, float32 ``[tokens, hidden]``.
        """
        import torch

        embedding = self.module.get_submodule(self.anatomy.embedding)
        whole, padding = embedding.weight, embedding.padding_idx
        try:
            embedding.weight, embedding.padding_idx = torch.nn.Parameter(values, requires_grad=False), None
            yield
        finally:
            embedding.weight, embedding.padding_idx = whole, padding

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what the head reads, ``[windows, length, hidden]``, with one block in memory at a time.

        Args:
            tokens: int64 ``[windows, length]``; all are computed at once.
        """
        import torch

        hooks = []
        for block in self.anatomy.blocks:
            layer = self.module.get_submodule(block.path)
            hooks.append(layer.register_forward_pre_hook(lambda *_, block=block: self.load(block)))
            hooks.append(layer.register_forward_hook(lambda *_, block=block: self.release(block)))
        ids, places = torch.unique(tokens, return_inverse=True)
        rows = self.weight(f"{self.anatomy.embedding}.weight")[ids].float()
        try:
            with self.rows_of_embedding(rows):
                found: torch.Tensor = self.module.base_model(places, use_cache=False).last_hidden_state
            return found
        finally:
            for hook in hooks:
                hook.remove()

    def head(self) -> torch.nn.Linear:
        """Return the output projection with its weights in memory, float32; a tied one has the embedding's."""
        import torch

        anatomy = self.anatomy
        own = self.module.get_submodule(anatomy.head)
        weight = self.weight(f"{anatomy.embedding if anatomy.tied else anatomy.head}.weight").float()
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        layer.weight, layer.bias = torch.nn.Parameter(weight, requires_grad=False), own.bias
        return layer


def put(module: Any, name: str, value: torch.nn.Parameter) -> None:
    """Put a parameter in the place of the one of this name."""
    path, _, last = name.rpartition(".")
    setattr(module.get_submodule(path), last, value)


def _on_meta(value: torch.Tensor) -> torch.nn.Parameter:
    import torch

    return torch.nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=False)


def open_local(local: LocalModel) -> StreamedModel:
    """Open a model whose files are on this machine, reading its headers and small weights only.

    Args:
        local: What `smidgen.models.sources.fetch` returned.

    Raises:
        DamagedFile: Configuration, weights or tokenizer cannot be read.
        Unsupported: Its architecture is not known, or its weights are not laid out as published.

    Example:
        model = open_local(fetch(parse("./mistral-7b", store), store))
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = _open_gguf(local.path) if local.kind == "gguf" else _open_folder(local.path)
    return named_as(model, local)


def can_stream(local: LocalModel) -> bool:
    """Whether a model can be read block by block: it is no folder of packed bytes, and reads no images."""
    from smidgen.models.vision.folder import is_seeing

    return local.kind == "gguf" or not (packed.is_folder(local.path) or is_seeing(local.path))


def _open_folder(folder: Path) -> StreamedModel:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, GenerationConfig

    raw = safetensors.read_config(folder)
    family = families.for_architecture(str((raw.get("architectures") or [raw.get("model_type")])[0]))
    try:
        config = AutoConfig.from_pretrained(folder)
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise DamagedFile(f"{folder / 'config.json'} cannot be: {str(error).strip()}", remedy=_AGAIN) from error
    module = shell(config, family)
    if (folder / "generation_config.json").is_file():
        module.generation_config = GenerationConfig.from_pretrained(folder)
    record = folder / safetensors.LINEAGE_FILE
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    origin = Origin(name=str(folder), sha256="", bytes=stored, parameters=_count(module))
    lineage = Lineage.read(record) if record.is_file() else Lineage(origin)
    weights = SafetensorsWeights(folder, family)
    _require_layout(module, weights, folder)
    model = StreamedModel(module, safetensors.read_tokenizer(folder), family, lineage, source=weights)
    return _with_small_weights(model)


def _open_gguf(path: Path) -> StreamedModel:
    from smidgen.models.gguf_weights import GgufWeights

    opened = GgufWeights.open(path)
    metadata, module = opened.file.metadata, shell(opened.config, opened.family)
    kinds: dict[str, int] = {}
    for tensor in opened.file.tensors.values():
        kinds[tensor.format] = kinds.get(tensor.format, 0) + tensor.data.nbytes
    main = max(kinds, key=lambda name: kinds[name])
    licence = metadata.get("general.license")
    origin = Origin(
        name=str(path),
        sha256="",
        bytes=path.stat().st_size,
        parameters=_count(module),
        dequantised_from=None if main in ("F32", "F16", "BF16") else main,
        licence=licence if isinstance(licence, str) else None,
        base_model=published_as(metadata),
    )
    own = tokenizer.from_gguf(metadata)
    return _with_small_weights(StreamedModel(module, own, opened.family, Lineage(origin), source=GgufFileWeights(path)))


def shell(config: Any, family: families.Family) -> Any:
    """Make the transformers model of a configuration with every weight on the device ``meta``, buffers computed."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    anatomy = family.anatomy(config)
    with init_empty_weights(include_buffers=False):
        module: Any = uneven.fit(AutoModelForCausalLM.from_config(config, dtype=torch.float32), anatomy)
        module = experts.take_apart(module, anatomy)
    module.tie_weights()
    return module.requires_grad_(False).eval()


def _require_layout(module: Any, weights: SafetensorsWeights, folder: Path) -> None:
    """Refuse weights under other names or in other shapes than those published of this family."""
    from safetensors import safe_open

    tied, files = bool(module.config.tie_word_embeddings), weights.files
    shapes: dict[str, tuple[int, ...]] = {}
    for file in dict.fromkeys(files.values()):
        with safe_open(file, framework="pt") as opened:
            shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    for name, value in module.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        found = shapes.get(weights.family.published_name(name))
        if found != tuple(value.shape):
            raise Unsupported(
                f"{folder} holds {name!r} in the shape {found}, not {tuple(value.shape)}: it cannot be read block by "
                "block.",
                remedy="Use a machine with more memory, or a GGUF of the model.",
            )


def _with_small_weights(model: StreamedModel) -> StreamedModel:
    """Read all that is no matrix that may be quantised: norms, biases, routers."""
    import torch

    assert model.source is not None
    matrices = model.anatomy.matrices()
    tied = {f"{model.anatomy.head}.weight"} if model.anatomy.tied else set()
    small = [name for name, _ in model.module.named_parameters() if name not in {*matrices, *tied}]
    for name, value in model.source.read(small).items():
        put(model.module, name, torch.nn.Parameter(value.float().clone(), requires_grad=False))
    return model


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class PackedOnDisk(Mapping[str, PackedTensor]):
    """Packed weights in files of their own, each read when it is asked for and mapped until it is let go.

    Args:
        files: Written by `write_packed`; a name stands in one of them.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self.places = {
            name: (file, number_format, shape)
            for file in files
            for name, (number_format, shape) in packed.shapes(file).items()
        }

    def __getitem__(self, name: str) -> PackedTensor:
        from safetensors import safe_open

        file, number_format, shape = self.places[name]
        with safe_open(file, framework="pt") as opened:
            return PackedTensor(number_format, opened.get_tensor(name), shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def write_packed(path: Path, tensors: Mapping[str, PackedTensor]) -> None:
    """Write packed weights to a file of their own.

    Args:
        path: Where; the caller renames it into place.
        tensors: The weights by name.
    """
    from safetensors.torch import save_file

    described = {
        name: {"format": stored.format, "rows": stored.shape[0], "columns": stored.shape[1]}
        for name, stored in sorted(tensors.items())
    }
    save_file({name: stored.data for name, stored in tensors.items()}, path, {packed.KEY: json.dumps(described)})
