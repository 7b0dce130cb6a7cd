"""One forward pass in which every matrix is replaced just before it is used, so that what follows sees it rounded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.models.streamed import StreamedModel
from smidgen.progress import Event, Progress
from smidgen.shrink.precision import exact, working_type
from smidgen.shrink.quantize import solvers
from smidgen.shrink.quantize.folding import Folding
from smidgen.shrink.quantize.moments import mean_squares, regularised, second_moments

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Block
    from smidgen.models.model import Model, PackedTensor
    from smidgen.shrink.quantize.keeping import Kept

HEAD, EXPERT, EXPERTS_INPUT = "head", ".experts.", ".mlp_input"
FIXED_BYTES, COPIES = 650_000_000, 5
"""What libraries take, and copies of a matrix that solving it makes: 2.4 GB were measured where 3.3 are foretold."""


class SequentialPass:
    """Quantises a model in the order of its computation.

    Args:
        model: Its matrices are replaced where it holds them; a `StreamedModel` reads and lets go one block at a time.
        chosen: Number format by matrix name.
        solver: Chooses the values.
        progress: Receives one event per matrix.
        kept: Where finished parts are kept on disk; a streamed model needs it.
    """

    def __init__(
        self,
        model: Model,
        chosen: Mapping[str, str],
        solver: solvers.Solver,
        progress: Progress,
        kept: Kept | None = None,
    ) -> None:
        self.model, self.chosen, self.solver, self.progress, self.kept = model, chosen, solver, progress, kept
        self.streamed = model if isinstance(model, StreamedModel) else None
        self.packed: dict[str, PackedTensor] = {}
        self.scarce: dict[str, int] = dict(kept.scarce) if kept else {}
        self.done = len(kept.packed()) if kept else 0
        self.folding = Folding(model, chosen, solver)
        self.routed: torch.Tensor | None = None
        self.together: torch.Tensor | None = None

    def run(self, calibration: torch.Tensor, embedding: torch.Tensor) -> Mapping[str, PackedTensor]:
        """Quantise everything.

        Args:
            calibration: Token ids, int64 ``[windows, length]``; all are run through the model at once.
            embedding: What the embedding's errors cost, ``[hidden, hidden]``.

        Returns:
            The packed matrices by name.
        """
        self._quantize_embedding(embedding)
        finished = bool(self.kept) and self._quantized(HEAD)
        if not finished:
            self._quantize_head(self._quantize_blocks(calibration))
        self._note_scarce()
        return self.packed if self.kept is None else self.kept.packed()

    @property
    def note(self) -> str:
        """What is to be said of experts that saw too few tokens to know how their inputs go together."""
        if not self.scarce:
            return ""
        fewest = min(self.scarce, key=lambda site: self.scarce[site])
        experts = {site.rpartition(".")[0] for site in self.scarce}
        return (
            f"{len(experts)} experts saw fewer tokens of the calibration text than they have inputs, {fewest} only "
            f"{self.scarce[fewest]}: the less they saw, the more they are rounded by what all experts of their block "
            "read, and behind that by each input alone. Use more text."
        )

    def store(self, names: Sequence[str], hessian: torch.Tensor | None) -> None:
        """Replace matrices that read the same input; those of one format are solved as one.

        Those whose format learns from a matrix what all of its rows need are solved each by itself, and those that
        still are as a file held them in that format keep its bytes.
        """
        anew = [name for name in names if not self._keep_original(name)]
        for format_name in dict.fromkeys(self.chosen[name] for name in anew):
            members = [name for name in anew if self.chosen[name] == format_name]
            together = [members] if formats.find(format_name).stands_alone else [[name] for name in members]
            for each in together:
                self._store_alike(each, hessian, format_name)

    def _keep_original(self, name: str) -> bool:
        """Keep a matrix as it was read, where that is in the format that is asked for."""
        if self.streamed is not None:
            return False
        found = self.model.original(name)
        if found is None or found.format != self.chosen[name]:
            return False
        self.packed[name] = found
        self._report(found.format)
        return True

    def _report(self, format_name: str) -> None:
        self.done += 1
        self.progress(Event("quantizing", self.done, len(self.chosen), "matrices", format_name))

    def _store_alike(self, members: Sequence[str], hessian: torch.Tensor | None, format_name: str) -> None:
        """Replace matrices that are solved as one."""
        import torch

        weights = [self.model.weight(name) for name in members]
        with exact():
            whole = weights[0] if len(weights) == 1 else torch.cat([weight.float() for weight in weights])
            packed = self.solver.store(whole, hessian, formats.find(format_name))
        rows = [len(weight) for weight in weights]
        for name, weight, data in zip(members, weights, torch.split(packed, rows), strict=True):
            if self.streamed is None or not self._is_on_disk(name):
                _overwrite(weight, data, format_name)
            data = data if len(members) == 1 else data.clone()
            self.packed[name] = _packed(format_name, data, weight)
            self._report(format_name)

    def _is_on_disk(self, name: str) -> bool:
        return bool(self.model.module.get_parameter(name).device.type == "meta")

    def _quantized(self, part: str) -> bool:
        return self.kept is not None and self.kept.finished(part)

    def _keep(self, part: str, hidden: torch.Tensor | None = None) -> None:
        """Put what was packed since the last part on disk."""
        if self.kept is not None:
            self.kept.keep(part, self.packed, self.scarce, hidden)
            self.packed = {}

    def _quantize_embedding(self, hessian: torch.Tensor) -> None:
        """Quantise the embedding first, since everything after reads it."""
        name = f"{self.model.anatomy.embedding}.weight"
        if not self._quantized("embedding"):
            if name in self.chosen:
                self.store([name], hessian)
            self._keep("embedding")

    def _quantize_blocks(self, calibration: torch.Tensor) -> torch.Tensor:
        """Quantise the blocks and return what the head reads, ``[windows, length, hidden]``."""
        blocks, module = self.model.anatomy.blocks, self.model.module
        finished = [block for block in blocks if self._quantized(part_of(block))]
        hooks = [hook for block in blocks[len(finished) :] for hook in self._watch(block)]
        passed = [module.get_submodule(block.path) for block in finished]
        for layer in passed:
            layer.forward = lambda hidden, *_, **__: hidden
        if finished:
            assert self.kept is not None
            hidden = self.kept.hidden(part_of(finished[-1]))
            passed[-1].forward = lambda *_, **__: hidden
        try:
            return self._forward(calibration)
        finally:
            for hook in hooks:
                hook.remove()
            for layer in passed:
                del layer.forward

    def _forward(self, calibration: torch.Tensor) -> torch.Tensor:
        import torch

        if self.streamed is None:
            return self._final(calibration)
        ids, places = torch.unique(calibration, return_inverse=True)
        with self.streamed.rows_of_embedding(self._embedding_rows(ids)):
            return self._final(places)

    def _final(self, tokens: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.model.module.base_model(tokens, use_cache=False).last_hidden_state
        return found

    def _embedding_rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embedding's rows of some tokens as they are after quantising."""
        name = f"{self.model.anatomy.embedding}.weight"
        if name not in self.chosen:
            return self.model.weight(name)[ids].float()
        assert self.kept is not None
        stored = self.kept.packed()[name]
        return formats.find(stored.format).for_matrix(stored.data).unpack(stored.data[ids])

    def _watch(self, block: Block) -> list[Any]:
        """Hook a block, so that its weights are there when it is computed and each is replaced before it is used."""
        module, streamed = self.model.module, self.streamed
        layer = module.get_submodule(block.path)
        waiting: dict[str, list[str]] = {}
        hooks = []
        if streamed is not None:
            hooks.append(layer.register_forward_pre_hook(lambda *_: streamed.load(block)))
        for site in self.model.anatomy.sites():
            names = [f"{path}.weight" for path in site.modules if f"{path}.weight" in self.chosen]
            if names and site.block == block.index:
                waiting[site.name] = names
                first = module.get_submodule(site.modules[0])
                hooks.append(first.register_forward_pre_hook(self._hook(site.name, waiting)))
                hooks += self.folding.hooks(site)

        if block.router and waiting:
            router = module.get_submodule(block.router)
            hooks.append(router.register_forward_pre_hook(lambda _, inputs: self._remember(inputs[0])))

        def after(_: Any, inputs: Any, output: torch.Tensor) -> None:
            for site_name, names in waiting.items():  # experts that no token was routed to
                self.scarce[site_name] = 0
                others = self._of_all_experts(site_name)
                self.store(names, self._identity(names) if others is None else others)
            self.routed = None
            if streamed is not None:
                streamed.release(block)
            self._keep(part_of(block), output)

        return [*hooks, layer.register_forward_hook(after)]

    def _identity(self, names: Sequence[str]) -> torch.Tensor:
        import torch

        width = self.model.shape(names[0])[1]
        return torch.eye(width) if self.solver.reads_pairs else torch.ones(width)

    def _hook(self, site: str, waiting: dict[str, list[str]]) -> Any:
        def before(module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
            tokens, width = inputs[0].numel() // inputs[0].shape[-1], inputs[0].shape[-1]
            moments = self._moments(inputs[0])
            if EXPERT in site and tokens < width:
                self.scarce[site] = tokens
                moments = regularised(moments, tokens / width, self._of_all_experts(site))
            scales = self.folding.scales(site, waiting[site], moments)
            self.store(waiting.pop(site), moments if scales is None else moments / scales.outer(scales))
            return None if scales is None else (inputs[0] / scales.to(inputs[0].dtype), *inputs[1:])

        return before

    def _remember(self, inputs: torch.Tensor) -> None:
        """Keep what a block's router reads until its experts are done: what they read is a part of it."""
        self.routed, self.together = inputs, None

    def _of_all_experts(self, site: str) -> torch.Tensor | None:
        """Return the moments of what all experts of the block read together; None for what each makes of it."""
        if self.routed is None or not site.endswith(EXPERTS_INPUT):
            return None
        if self.together is None:
            self.together = self._moments(self.routed)
        return self.together

    def _moments(self, inputs: torch.Tensor) -> torch.Tensor:
        return second_moments(inputs) if self.solver.reads_pairs else mean_squares(inputs)

    def _note_scarce(self) -> None:
        if self.note:
            self.progress(Event("quantizing", note=self.note))

    def _quantize_head(self, hidden: torch.Tensor) -> None:
        name = f"{self.model.anatomy.head}.weight"
        if name in self.chosen and not self.model.anatomy.tied:
            self.store([name], self._moments(hidden))
        self._keep(HEAD)


def memory_bytes(model: Model, tokens: int, solver: str) -> int:
    """Return about the memory that quantising takes with one block in memory at a time.

    Args:
        model: What is to be quantised.
        tokens: Of calibration text.
        solver: Its name.
    """
    anatomy = model.anatomy
    sites = [[model.shape(f"{path}.weight") for path in site.modules] for site in anatomy.sites()]
    block = max(sum(math.prod(model.shape(name)) for name in _names(each)) for each in anatomy.blocks)
    joined = max((sum(map(math.prod, shapes)) for shapes in sites if len(shapes) > 1), default=0)
    largest = max(min(rows, solvers.ROWS_AT_A_TIME) * columns for shapes in sites for rows, columns in shapes)
    pairs = max(columns for shapes in sites for _, columns in shapes) ** 2 if solvers.find(solver).reads_pairs else 0
    wide = working_type().itemsize * 3 * max(each.neurons for each in anatomy.blocks)
    # H and, while it is inverted, twice that in float64; then H, its factor, and copies of what is solved.
    solving = max(20 * pairs, 8 * pairs + 4 * (joined + COPIES * largest))
    return FIXED_BYTES + 4 * block + tokens * (16 * anatomy.hidden_size + wide) + solving


def _names(block: Block) -> list[str]:
    return list(dict.fromkeys(part.weight for part in block.projections.values()))


def part_of(block: Block) -> str:
    """Name a block as a part that is kept.

    Example:
        >>> from smidgen.models.anatomy import Block
        >>> part_of(Block(3, "model.layers.3", {}, (), 1, 1, 64, 128))
        'block-0003'
    """
    return f"block-{block.index:04d}"


def _packed(format_name: str, data: torch.Tensor, weight: torch.Tensor) -> PackedTensor:
    from smidgen.models.model import PackedTensor

    return PackedTensor(format_name, data, (weight.shape[0], weight.shape[1]))


def _overwrite(weight: torch.Tensor, data: torch.Tensor, format_name: str) -> None:
    """Give a weight the values that its bytes stand for, some rows at a time."""
    number_format, rows = formats.find(format_name).for_matrix(data), solvers.ROWS_AT_A_TIME
    for first in range(0, len(weight), rows):
        weight[first : first + rows].copy_(number_format.unpack(data[first : first + rows]))
