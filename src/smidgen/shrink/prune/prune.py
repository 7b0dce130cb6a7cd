"""Prune: the pass that removes parts of a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from smidgen import heap
from smidgen.errors import InvalidInput
from smidgen.progress import Event, Progress, silent
from smidgen.shrink.prune import criteria, structures
from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs
from smidgen.shrink.prune.languages import Alphabet
from smidgen.shrink.prune.structures import BlockStructure, Structure, WeightStructure

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model
    from smidgen.shrink.statistics import Statistics

OWN_FIELDS = {
    "expert": ("merge",),
    "head": ("whole_groups",),
    "neuron": ("multiple",),
    "width": ("multiple",),
    "weight": ("per",),
    "synapse": ("pattern",),
}
"""Fields of `Prune` that are handed to a structure."""


def round_keep(structure: str, keep: int, model: Model) -> int:
    """Round a count down to what keeps the fast paths, at least to one step.

    Layers are counted singly, neurons and hidden channels in steps of 256 (32 in models too narrow for that), tokens
    in steps of 256, heads so that every group keeps as many.

    Args:
        structure: Kind of part.
        keep: How many shall stay.
        model: The model.
    """
    return _rounded(structures.find(structure), keep, model)


def _rounded(structure: Structure, keep: int, model: Model) -> int:
    step = structure.step(model.anatomy)
    return max(step, keep // step * step)


@dataclass(frozen=True)
class Prune:
    """Remove layers, heads, neurons, experts, hidden channels, tokens or single weights.

    An even cut is an ordinary model of the same kind. An uneven one (``uneven``, ``allocation``) reloads in smidgen
    and, where blocks are Llama's, runs in llama.cpp.

    Attributes:
        structure: What goes: ``layer``, ``head``, ``neuron``, ``expert``, ``width``, ``vocabulary``, ``weight`` or
            ``synapse``.
        criterion: What goes first; each scores some structures only. None: the structure's own.
        keep: How many layers, hidden channels or tokens, or heads, neurons or experts per block, stay; rounded down by
            `round_keep`. Single weights have ``sparsity`` or ``pattern`` instead.
        repair: Whether the layers that read what was removed take over its share by least squares. Layers and
            tokens have none.
        chosen: Which layers, channels or tokens stay, where that is decided already; the criterion is then not asked.
        sparsity: Share of single weights that goes.
        per: Whether single weights are compared inside each ``row`` or over the whole matrix (``layer``).
        pattern: N:M, how many of how many consecutive inputs stay.
        multiple: What counts of neurons or hidden channels are multiples of; None: 256, which K-quants need, or 32
            for models too narrow for that.
        whole_groups: Whether heads go in whole groups with their key/value head.
        merge: Whether experts that go are averaged into those that stay.
        uneven: Whether blocks may keep different counts of heads, neurons or weights, by their scores.
        allocation: How many heads or neurons each block keeps, where that is decided already.
        rounds: In how many rounds the cut is made, each scored and repaired anew.
        keep_language: Keep every token of these languages or scripts (``en``, ``de,fr``, ``Latin``); ``keep`` may
            then be left out.

    Example:
        >>> Prune("neuron", "use", keep=1024)
        Traceback (most recent call last):
        smidgen.errors.InvalidInput: The criterion 'use' cannot score neuron. For neuron take one of activation, gelu, \
l1, l2, relu, taylor, wanda.
    """

    structure: str
    criterion: str | None = None
    keep: int | None = None
    repair: bool = True
    chosen: tuple[int, ...] | None = None
    sparsity: float | None = None
    per: str = "row"
    pattern: str = "2:4"
    multiple: int | None = None
    whole_groups: bool = False
    merge: bool = False
    uneven: bool = False
    allocation: tuple[int, ...] | None = None
    rounds: int = 1
    keep_language: str | None = None

    def __post_init__(self) -> None:
        structure = self.built_structure()
        if self.criterion is None:
            object.__setattr__(self, "criterion", structure.criterion)
        self._check_criterion()
        self._check_amount(structure)
        self._check_options(structure)
        if self.chosen is not None:
            self._check_chosen(structure)

    def _check_criterion(self) -> None:
        if self.structure not in self._criterion().structures:
            known = ", ".join(criteria.names_for(self.structure))
            raise InvalidInput(
                f"The criterion {self.criterion!r} cannot score {self.structure}.",
                remedy=f"For {self.structure} take one of {known}.",
            )

    def _check_amount(self, structure: Structure) -> None:
        if isinstance(structure, WeightStructure):
            if self.keep is not None:
                raise InvalidInput(f"{self.structure} takes no 'keep'.", remedy="Give 'sparsity' or 'pattern'.")
            if self.structure == "weight" and not 0 < (self.sparsity or 0) < 1:
                raise InvalidInput(
                    f"A sparsity of {self.sparsity} cannot be.", remedy="Give 'sparsity' between 0 and 1, as 0.5."
                )
            return
        if self.keep is None and self.allocation is None and self.keep_language is None:
            raise InvalidInput(f"Nothing says how many {structure.unit} stay.", remedy="Give 'keep'.")
        if self.keep is not None and self.keep < 1:
            raise InvalidInput(f"{self.keep} {structure.unit} cannot stay.", remedy="Keep at least 1.")

    def _check_options(self, structure: Structure) -> None:
        """Refuse options that mean nothing for this kind of part."""
        by_block = isinstance(structure, BlockStructure)
        for name, fits in (
            ("sparsity", self.structure == "weight"),
            ("per", self.structure == "weight"),
            ("pattern", self.structure == "synapse"),
            ("multiple", self.structure in ("neuron", "width")),
            ("whole_groups", self.structure == "head"),
            ("merge", self.structure == "expert"),
            ("uneven", by_block or self.structure == "weight"),
            ("allocation", by_block),
            ("rounds", structure.iterative and self.chosen is None and self.allocation is None),
            ("keep_language", self.structure == "vocabulary"),
        ):
            default = next(field.default for field in fields(self) if field.name == name)
            if not fits and getattr(self, name) != default:
                raise InvalidInput(f"{name!r} does not go with this cut of {self.structure}.", remedy="Leave it out.")
        if self.keep_language is not None:
            Alphabet.of(self.keep_language)
        if self.multiple is not None and (self.multiple < 32 or self.multiple % 32):
            raise InvalidInput(f"Counts cannot be multiples of {self.multiple}.", remedy="Give a multiple of 32.")
        if self.rounds < 1:
            raise InvalidInput(f"{self.rounds} rounds cannot be.", remedy="Give at least 1.")
        if self.allocation is not None:
            object.__setattr__(self, "allocation", tuple(self.allocation))
            if min(self.allocation, default=-1) < 0:
                raise InvalidInput("'allocation' must say for each block how many it keeps, 0 or more.")

    def _check_chosen(self, structure: Structure) -> None:
        assert self.chosen is not None
        if not structure.listed:
            raise InvalidInput(f"One list cannot say which {structure.unit} stay.", remedy="Leave 'chosen' out.")
        object.__setattr__(self, "chosen", tuple(self.chosen))
        if list(self.chosen) != sorted(set(self.chosen)) or len(self.chosen) != self.keep or self.chosen[0] < 0:
            raise InvalidInput(f"'chosen' must list {self.keep} different {structure.unit} in rising order.")

    @heap.reused()
    def apply(
        self,
        model: Model,
        calibration: torch.Tensor,
        *,
        token_use: torch.Tensor | None = None,
        statistics: Statistics | None = None,
        progress: Progress = silent,
    ) -> Model:
        """Build the smaller model; the one given stays as it was.

        Args:
            model: The model to prune.
            calibration: Tokens to go by, int64 ``[windows, length]``.
            token_use: How often the user's data holds each token, ``[vocabulary]``.
            statistics: Figures of this very model where they were collected already.
            progress: Receives reports.

        Raises:
            InvalidInput: ``keep``, ``chosen`` or ``allocation`` does not fit the model.
        """
        return self.cut(model, calibration, token_use=token_use, statistics=statistics, progress=progress)[0]

    def cut(
        self,
        model: Model,
        calibration: torch.Tensor,
        *,
        token_use: torch.Tensor | None = None,
        statistics: Statistics | None = None,
        progress: Progress = silent,
    ) -> tuple[Model, Any]:
        """Do what `apply` does, and return as well the indices of what stayed; None for single weights."""
        from smidgen.shrink.prune.cutting import cut_parts, cut_weights
        from smidgen.shrink.statistics import check_windows

        check_windows(calibration, model.anatomy)
        structure = self.built_structure()
        given = model
        model = model if self.makes_uneven else model.family.for_cutting(model, self.structure)
        evidence = Evidence(calibration, statistics if model is given else None, token_use, progress)
        if isinstance(structure, WeightStructure):
            return self._recorded(cut_weights(self, structure, model, evidence), None, None), None
        keep = self._count(structure, model, progress)
        result, kept = cut_parts(self, structure, model, keep, evidence)
        result = self._recorded(result, keep, kept)
        result = result.family.after_cutting(result)
        if result.family.architecture != given.family.architecture:
            note = f"The architecture is now {result.family.architecture}, which computes the same."
            result = replace(result, lineage=result.lineage.noted(note))
        return result, kept

    def built_structure(self) -> Structure:
        """Return the kind of part, told what this operation says of it."""
        own = {name: getattr(self, name) for name in OWN_FIELDS.get(self.structure, ())}
        return structures.find(self.structure, **own)

    def _criterion(self) -> Criterion:
        return criteria.find(str(self.criterion))

    @property
    def makes_uneven(self) -> bool:
        """Whether the blocks of the result may differ in heads or neurons."""
        return self.structure != "weight" and (self.uneven or self.allocation is not None)

    def needs(self) -> Needs | None:
        """Return what the criterion reads of the text, None where it is not asked or reads none."""
        decided = self.chosen is not None
        return None if decided else self._criterion().needs(self.structure)

    def _count(self, structure: Structure, model: Model, progress: Progress) -> int:
        """Return the count that stays, or say why it cannot be."""
        present, least = structure.size(model.anatomy), structure.least(model)
        if self.allocation is not None:
            return self._allocated(structure, model)
        if self.keep is None:
            return present
        if self.chosen is not None and self.chosen[-1] >= present:
            raise InvalidInput(f"'chosen' names {self.chosen[-1]}, and the model has {present:,} {structure.unit}.")
        keep = self.keep if self.chosen is not None else _rounded(structure, self.keep, model)
        if self.keep >= present or keep < least or self.keep < least:
            able = f"Keep at least {least:,} and fewer than {present:,}."
            raise InvalidInput(
                f"{self.keep:,} of {present:,} {structure.unit} cannot be kept.",
                remedy=able if least < present else "None can go: this model needs all it has. Cut something else.",
            )
        if keep != self.keep:
            progress(Event("pruning", note=f"{self.keep:,} {structure.unit} rounded to {keep:,}"))
        return keep

    def _allocated(self, structure: Structure, model: Model) -> int:
        """Check the counts of the blocks and return the largest."""
        assert self.allocation is not None and isinstance(structure, BlockStructure)
        blocks, step = model.anatomy.blocks, structure.step(model.anatomy)
        if len(self.allocation) != len(blocks):
            raise InvalidInput(f"'allocation' lists {len(self.allocation)} blocks, and the model has {len(blocks)}.")
        for block, count in zip(blocks, self.allocation, strict=True):
            least, most = structure.fewest(block), structure.present(block)
            if not least <= count <= most or (count % step and count != most):
                raise InvalidInput(
                    f"Layer {block.index} cannot keep {count} {structure.unit}.",
                    remedy=f"Give multiples of {step} from {least} to {most}.",
                )
        return max(self.allocation)

    def _recorded(self, result: Model, keep: int | None, kept: Any) -> Model:
        """Add the step to the lineage; which tokens stay stands in the lineage's own map."""
        values = asdict(self) | {"chosen": None} | ({} if self.keep is None else {"keep": keep})
        if self.structure in ("layer", "width"):
            values["chosen"] = kept.tolist()
        if self.keep_language is not None:
            values["keep"] = len(kept)
        if self.allocation is not None:
            values["allocation"] = list(self.allocation)
        # A repetition takes what was chosen, in one round.
        values["rounds"] = 1 if values["chosen"] is not None else self.rounds
        always = ("structure", "criterion", "keep", "repair", "chosen")
        defaults = {field.name: field.default for field in fields(self)}
        step = {name: value for name, value in values.items() if name in always or value != defaults[name]}
        result = result.with_step("prune", **step)
        if isinstance(self.built_structure(), WeightStructure):
            result = replace(result, lineage=result.lineage.noted(sparse_note(result)))
        return result


def sparse_note(model: Model) -> str:
    """Say what zeros among the weights of the blocks are worth.

    Args:
        model: The pruned model.
    """
    names = dict.fromkeys(each.weight for block in model.anatomy.blocks for each in block.projections.values())
    zero = sum(int((model.weight(name) == 0).sum()) for name in names)
    count = sum(model.weight(name).numel() for name in names)
    return f"{zero / count:.1%} of the blocks' weights are zero: same size and same speed unless stored sparse."
