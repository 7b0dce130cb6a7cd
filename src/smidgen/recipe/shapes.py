"""What a model could be cut down to, and what each cut would cost.

A shape counts layers, neurons per MLP, tokens and, where there are any, experts per layer. The cost of a cut is
measured: the model is cut in memory, not healed, and its predictions are compared with the source's on a little
calibration text.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from smidgen import divergence, formats
from smidgen.progress import Progress, silent, track
from smidgen.recipe.recipe import Step
from smidgen.shrink.precision import autocast
from smidgen.shrink.quantize.allocate import Choice, least_damage

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy
    from smidgen.models.model import Model

LEAST_LAYER_SHARE = 1 / 3
LAYERS_GONE = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50)
LEAST_NEURON_SHARE = 1 / 3
LEAST_TOKENS = 4096
EXPERT_SHARES = (3 / 4, 1 / 2, 1 / 4)
CRITERIA = {"layer": "block_influence", "neuron": "wanda", "expert": "use"}
"""By which the parts go that are chosen by figures of the calibration text."""
PROBED_TOKENS = 1024
NATS_PER_SPELLED = 5.0
"""About what it costs to spell a dropped token in pieces: 0.6 nats per token where a tenth of the text was dropped."""
TOKEN_BYTES = 20
"""About what one token and its merge take in the file's tokenizer."""


@dataclass(frozen=True, order=True)
class Shape:
    """How much of a model stays.

    Attributes:
        layers: Decoder blocks.
        neurons: Hidden width of every MLP.
        tokens: Rows of the embedding.
        experts: MLPs of every block of which a router chooses; 0 where it has one for all tokens.
    """

    layers: int
    neurons: int
    tokens: int
    experts: int = 0

    @classmethod
    def of(cls, anatomy: Anatomy) -> Shape:
        """Return the whole shape of a model."""
        first = anatomy.blocks[0]
        return cls(len(anatomy.blocks), first.neurons, anatomy.vocabulary_size, first.experts)

    def to_dict(self) -> dict[str, int]:
        """Return plain data for the plan; experts where there are any."""
        return {name: count for name, count in asdict(self).items() if name != "experts" or count}

    def cuts(self, whole: Shape) -> list[tuple[str, int]]:
        """List the kinds of parts that are cut, with how many stay."""
        pairs = (("layer", "layers"), ("expert", "experts"), ("neuron", "neurons"), ("vocabulary", "tokens"))
        return [
            (structure, getattr(self, name)) for structure, name in pairs if getattr(self, name) < getattr(whole, name)
        ]

    def steps(self, whole: Shape) -> list[Step]:
        """Return the steps that cut a model down to this shape, the cheapest to undo first."""
        steps = []
        if self.tokens < whole.tokens:
            steps.append(Step("prune", {"structure": "vocabulary", "criterion": "use", "keep": self.tokens}))
        if self.layers < whole.layers:
            parameters = {"structure": "layer", "criterion": "block_influence", "keep": self.layers}
            steps.append(Step("prune", parameters))
        if self.experts < whole.experts:
            steps.append(Step("prune", {"structure": "expert", "criterion": "use", "keep": self.experts}))
        if self.neurons < whole.neurons:
            steps.append(Step("prune", {"structure": "neuron", "criterion": CRITERIA["neuron"], "keep": self.neurons}))
        return steps

    def describe(self, whole: Shape) -> str:
        """Say in words what is cut.

        Example:
            >>> Shape(27, 1536, 32768).describe(Shape(30, 1536, 49152))
            '27 of 30 layers, 32,768 of 49,152 tokens'
        """
        names = ("layers", "experts", "neurons", "tokens")
        pairs = ((name, getattr(self, name), getattr(whole, name)) for name in names)
        cut = [f"{kept:,} of {full:,} {name}" for name, kept, full in pairs if kept < full]
        return ", ".join(cut) or "the whole model"


def candidates(model: Model) -> tuple[list[int], list[int], list[int], list[int]]:
    """List the counts of layers, neurons, tokens and experts worth trying, the largest first."""
    from smidgen.shrink.prune.prune import round_keep

    whole = Shape.of(model.anatomy)
    fewest = max(1, round(whole.layers * LEAST_LAYER_SHARE))
    going = (0,) if model.anatomy.layers_fixed else LAYERS_GONE
    layers = sorted({max(fewest, whole.layers - gone) for gone in going}, reverse=True)
    shares = (1.0, 5 / 6, 2 / 3, 1 / 2, LEAST_NEURON_SHARE)
    neurons = [whole.neurons] + [round_keep("neuron", round(whole.neurons * share), model) for share in shares[1:]]
    least = min(whole.tokens, LEAST_TOKENS)
    tokens = [whole.tokens]
    for share in (3 / 4, 2 / 3, 1 / 2, 1 / 3, 1 / 6, 1 / 12):
        tokens.append(max(least, round_keep("vocabulary", round(whole.tokens * share), model)))
    used = model.anatomy.blocks[0].experts_used
    experts = [max(used, round(whole.experts * share)) for share in (1.0, *EXPERT_SHARES)] if whole.experts else [0]
    neurons, tokens, experts = (sorted(set(counts), reverse=True) for counts in (neurons, tokens, experts))
    return layers, neurons, tokens, experts


def table_of(shape: Shape, model: Model, table: Mapping[str, list[Choice]]) -> dict[str, list[Choice]]:
    """Scale the choices of the whole model's matrices to a shape.

    Damage stays as predicted per matrix; the matrices of dropped layers go, those of pruned neurons and tokens
    shrink. A choice whose rows no longer divide into its blocks goes as well.
    """
    anatomy = model.anatomy
    whole = Shape.of(anatomy)
    scaled = {}
    # Which layers and experts go is not decided here: the first stand for those that stay, all being of one size.
    parts = [
        part
        for block in anatomy.blocks[: shape.layers]
        for key, part in block.projections.items()
        if not block.experts or "." not in key or int(key.partition(".")[2]) < shape.experts
    ]
    kept = {part.weight for part in parts}
    # Gate and up that are fused into one matrix have two rows of it for each neuron.
    fed = Counter(part.weight for part in parts if part.role in ("gate", "up"))
    read = Counter(part.weight for part in parts if part.role == "down")
    for name, front in table.items():
        rows, columns = model.weight(name).shape
        if name.startswith(anatomy.layers):
            if name not in kept:
                continue
            rows -= fed.get(name, 0) * (whole.neurons - shape.neurons)
            columns -= read.get(name, 0) * (whole.neurons - shape.neurons)
        else:
            rows = shape.tokens
        fitting = [choice for choice in front if formats.find(choice.format).fits(columns)]
        scaled[name] = [
            replace(choice, bytes=formats.find(choice.format).bytes_for((rows, columns))) for choice in fitting
        ]
    return scaled


def table_after(cut: Model, source: Model, table: Mapping[str, list[Choice]]) -> dict[str, list[Choice]]:
    """Carry the choices of the source's matrices over to a model that was cut from it.

    Args:
        cut: The cut model; its lineage says which layers stayed.
        source: What it was cut from.
        table: Choices by the source's matrix names.
    """
    now, before = cut.anatomy, source.anatomy
    kept = cut.lineage.kept_layers or tuple(range(len(now.blocks)))
    known = source.lineage.kept_layers or tuple(range(len(before.blocks)))
    origin = {f"{now.embedding}.weight": f"{before.embedding}.weight", f"{now.head}.weight": f"{before.head}.weight"}
    for block, layer in zip(now.blocks, kept, strict=True):
        earlier = before.blocks[known.index(layer)]
        origin |= {part.weight: earlier.projections[role].weight for role, part in block.projections.items()}
    carried = {}
    for name in now.matrices():
        rows, columns = cut.weight(name).shape
        fitting = [choice for choice in table[origin[name]] if formats.find(choice.format).fits(columns)]
        carried[name] = [
            replace(choice, bytes=formats.find(choice.format).bytes_for((rows, columns))) for choice in fitting
        ]
    return carried


@dataclass(frozen=True)
class Mix:
    """A shape together with what its matrices would be stored in.

    Attributes:
        shape: What stays.
        structural: Measured damage of cutting, nats per token, before healing.
        quantization: Predicted damage of storing, nats per token.
    """

    shape: Shape
    structural: float
    quantization: float

    @property
    def damage(self) -> float:
        """Both damages together."""
        return self.structural + self.quantization


class Prober:
    """Measures on a little text what cuts cost, each at most once.

    Args:
        model: The source.
        calibration: Windows of calibration text, int64 ``[windows, length]``.
        use: How often the calibration text holds each token.
        stand_in: Whether that text only stands in for the user's, whose tokens are then not known.
        progress: Receives reports.
    """

    def __init__(
        self,
        model: Model,
        calibration: torch.Tensor,
        use: torch.Tensor,
        *,
        stand_in: bool = False,
        progress: Progress = silent,
    ) -> None:
        self.model, self.use, self.stand_in, self.progress = model, use, stand_in, progress
        self.calibration = calibration
        self.windows = calibration.flatten()[: max(PROBED_TOKENS, calibration.shape[1])].reshape(
            -1, calibration.shape[1]
        )
        self.known: dict[tuple[str, int], float] = {}
        self.reference = self._logits(model)
        self.statistics: Any = None

    def _logits(self, model: Model) -> torch.Tensor:
        import torch

        with torch.no_grad(), autocast():
            return torch.cat(
                [model.module(window, use_cache=False).logits[0].float() for window in torch.split(self.windows, 1)]
            )

    def damage(self, structure: str, keep: int) -> float:
        """Return the damage of keeping so many parts of one kind, nats per token."""
        key = (structure, keep)
        if key not in self.known:
            self.known[key] = self._tokens(keep) if structure == "vocabulary" else self._cut(structure, keep)
        return self.known[key]

    def _cut(self, structure: str, keep: int) -> float:
        from smidgen.shrink.prune.prune import Prune
        from smidgen.shrink.statistics import collect

        if self.statistics is None:
            self.statistics = collect(self.model, self.calibration[:4], progress=self.progress)
        # Without repair: it needs Hessians, and a cut is only ranked here.
        cut = Prune(structure, CRITERIA[structure], keep=keep, repair=False).apply(
            self.model, self.calibration[:4], statistics=self.statistics
        )
        return float(divergence.kl(self.reference, self._logits(cut)).mean())

    def _tokens(self, keep: int) -> float:
        """Measure what text costs when it must be spelled with fewer tokens, in nats per token of the source.

        The same text is read with both vocabularies; the kept tokens are chosen by text that does not hold it. What
        a little text cannot show, the tokens that other text will need, is estimated (`unseen_share`).
        """
        from smidgen.shrink.prune.prune import Prune

        unseen = self.use - self.windows.flatten().bincount(minlength=len(self.use))[: len(self.use)]
        cut = Prune("vocabulary", "use", keep=keep).apply(
            self.model, self.calibration[:1], token_use=unseen.clamp_min(0)
        )
        before, tokens = self._spelled(self.model)
        after, _ = self._spelled(cut)
        kept = cut.lineage.kept_tokens or ()
        return max(0.0, (after - before) / tokens) + NATS_PER_SPELLED * unseen_share(self.use, kept, self.stand_in)

    def _spelled(self, model: Model) -> tuple[float, int]:
        """Return the negative log-likelihood of the probed text in nats, and how many tokens it has."""
        import torch

        total, count = 0.0, 0
        for window in self.windows:
            text = self.model.tokenizer.decode(window)
            tokens = torch.tensor([model.tokenizer(text, add_special_tokens=False)["input_ids"]])
            with torch.no_grad(), autocast():
                logits = model.module(tokens, use_cache=False).logits[0]
            total += float(divergence.negative_log_likelihood(logits[:-1], tokens[0, 1:]).sum())
            count += tokens.shape[1]
        return total, count

    def structural(self, shape: Shape, whole: Shape) -> float:
        """Add up the damages of every cut of a shape."""
        return sum(self.damage(structure, keep) for structure, keep in shape.cuts(whole))

    def at_least(self, shape: Shape, whole: Shape) -> float:
        """Bound the damage of a shape from below by lighter cuts of the same kinds that were measured."""
        return sum(
            max(
                (value for (kind, kept), value in self.known.items() if kind == structure and kept >= keep), default=0.0
            )
            for structure, keep in shape.cuts(whole)
        )


def unseen_share(use: torch.Tensor, kept: Sequence[int], stand_in: bool) -> float:
    """Estimate the share of the user's tokens that were dropped because the text at hand did not hold them.

    Of the user's own text, by Good and Turing: tokens never seen make up as much of what is to come as those seen
    once make up of what was read; the dropped part of them counts. Of a text that stands in, by Zipf's law over
    the order of the ids, since byte-level BPE numbers its tokens by how common they were where it was trained.

    Args:
        use: How often the text holds each token, ``[vocabulary]``.
        kept: Ids that stay.
        stand_in: Whether the text only stands in for the user's.

    Example:
        >>> import torch
        >>> unseen_share(torch.tensor([6, 1, 1, 0, 0]), [0, 1, 2, 3], stand_in=False)
        0.125
    """
    import torch

    dropped = torch.ones(len(use), dtype=torch.bool)
    dropped[list(kept)] = False
    if stand_in:
        zipf = 1.0 / (torch.arange(len(use)) + 1.0)
        return float(zipf[dropped].sum() / zipf.sum())
    unused = use == 0
    once = float((use == 1).sum() / use.sum().clamp_min(1))
    return once * float((unused & dropped).sum() / unused.sum().clamp_min(1))


def overhead_of(shape: Shape, whole: Shape, overhead: int) -> int:
    """Bytes of the file that are no matrices: the tokenizer shrinks with the vocabulary."""
    return overhead - (whole.tokens - shape.tokens) * TOKEN_BYTES


def best_mix(
    model: Model, table: Mapping[str, list[Choice]], prober: Prober, target: int, overhead: int
) -> tuple[Mix | None, list[Mix]]:
    """Find the shape with the least expected damage whose file keeps within the target.

    Shapes are visited from the whole model downwards. One is measured only when its stored damage and that of
    lighter cuts do not already exceed the best found: cutting more can only add to it.

    Args:
        model: The source.
        table: Choices per matrix of the whole model.
        prober: Measures cuts.
        target: Bytes of the file.
        overhead: Bytes of the file that are no matrices, for the whole model.

    Returns:
        The best mix, or None when nothing fits; and every mix that was weighed, best first.
    """
    whole = Shape.of(model.anatomy)
    weighed: list[Mix] = []
    best: Mix | None = None
    for shape in track(list(_shapes(model)), "weighing mixes", prober.progress, unit="shapes"):
        if best is not None and prober.at_least(shape, whole) >= best.damage:
            continue
        stored = least_damage(table_of(shape, model, table), target - overhead_of(shape, whole, overhead))
        if stored is None or (best is not None and stored + prober.at_least(shape, whole) >= best.damage):
            continue
        mix = Mix(shape, prober.structural(shape, whole), stored)
        weighed.append(mix)
        if best is None or mix.damage < best.damage:
            best = mix
    return best, sorted(weighed, key=lambda mix: mix.damage)


def _shapes(model: Model) -> Iterator[Shape]:
    """Yield all shapes, those that keep more parameters first."""
    layers, neurons, tokens, experts = candidates(model)
    anatomy, first = model.anatomy, model.anatomy.blocks[0]
    per_layer = sum(model.weight(name).numel() for name in {part.weight for part in first.projections.values()})
    mlps = [{part.weight for part in mlp.projections.values()} for mlp in first.mlps]
    per_neuron = sum(model.weight(name).numel() for name in mlps[0]) / first.neurons

    def size(shape: Shape) -> float:
        stays = max(1, shape.experts) * shape.neurons
        block = per_layer - (len(mlps) * first.neurons - stays) * per_neuron
        return shape.layers * block + shape.tokens * anatomy.hidden_size * (1 if anatomy.tied else 2)

    shapes = [Shape(*counts) for counts in itertools.product(layers, neurons, tokens, experts)]
    yield from sorted(shapes, key=lambda shape: (-size(shape), shape))


def smallest_file(model: Model, table: Mapping[str, list[Choice]], overhead: int) -> tuple[int, Shape]:
    """Return the smallest file that can be made of a model, in bytes, and its shape."""
    whole, shape = Shape.of(model.anatomy), Shape(*(counts[-1] for counts in candidates(model)))
    fronts = table_of(shape, model, table)
    return sum(front[0].bytes for front in fronts.values()) + overhead_of(shape, whole, overhead), shape


def describe_mixes(mixes: list[Mix], whole: Shape, most: int = 6) -> list[dict[str, Any]]:
    """Return the best mixes as plain data, for the plan and the report."""
    return [
        {
            "shape": mix.shape.describe(whole),
            "structural": round(mix.structural, 5),
            "quantization": round(mix.quantization, 5),
            "damage": round(mix.damage, 5),
        }
        for mix in mixes[:most]
    ]
