"""Which token and which block of the teacher answers to which of the student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Block
    from smidgen.models.model import Model

PROBES = (
    "Hello world",
    " the quick  brown fox",
    "don't stop, it's 9:45",
    "1234567890",
    "def f(x):\n\treturn x ** 2",
    "naïve Übergröße",
    "數據模型 ひらがな",
    "привет мир",
    "🙂👩‍🚀",
)
"""Short texts on which tokenizers tend to differ."""


@dataclass(frozen=True)
class Vocabulary:
    """How the student's tokens lie in the teacher's vocabulary.

    Attributes:
        teacher_ids: For each of the student's ids the teacher's, -1 where it has none, int64 ``[vocabulary]``; None:
            the same.
        columns: The student's ids that the teacher has, int64 ``[shared]``; None: all.
    """

    teacher_ids: torch.Tensor | None = None
    columns: torch.Tensor | None = None

    def asked(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the student's tokens as the teacher's, of the same shape."""
        return ids if self.teacher_ids is None else self.teacher_ids[ids]

    def rows(self) -> torch.Tensor | None:
        """Return the teacher's ids in the order of `columns`, None for all."""
        if self.teacher_ids is None:
            return None
        return self.teacher_ids if self.columns is None else self.teacher_ids[self.columns]


def match_vocabulary(student: Model, teacher: Model) -> Vocabulary:
    """Match the tokens of two models: by lineage where they have one origin, else by what the tokens spell.

    Rows of padding beyond the tokenizer take no part.

    Raises:
        Unsupported: The student has tokens that the teacher lacks.
    """
    import torch

    sizes = student.anatomy.vocabulary_size, teacher.anatomy.vocabulary_size
    pairs = _by_lineage(student, teacher)
    if pairs is None:
        pairs = _by_spelling(student, teacher)
    if sizes[0] == sizes[1] and len(pairs) == sizes[0] and all(one == two for one, two in pairs.items()):
        return Vocabulary()
    ids = torch.full((sizes[0],), -1, dtype=torch.int64)
    ids[torch.tensor(list(pairs))] = torch.tensor(list(pairs.values()))
    columns = None if bool((ids >= 0).all()) else (ids >= 0).nonzero().flatten()
    return Vocabulary(ids, columns)


def _by_lineage(student: Model, teacher: Model) -> dict[int, int] | None:
    if not _same_origin(student, teacher):
        return None
    kept = []
    for model in (student, teacher):
        tokens = model.lineage.kept_tokens
        kept.append(range(model.anatomy.vocabulary_size) if tokens is None else tokens)
        if len(kept[-1]) != model.anatomy.vocabulary_size:
            return None
    if student.lineage.kept_tokens is None and teacher.lineage.kept_tokens is None and len(kept[0]) != len(kept[1]):
        return None
    places = {origin: place for place, origin in enumerate(kept[1])}
    missing = [origin for origin in kept[0] if origin not in places]
    if missing:
        raise Unsupported(
            f"The teacher lacks {len(missing):,} of the student's tokens, the first of them {missing[0]}.",
            remedy="Teach with the model that the student was made from.",
        )
    return {place: places[origin] for place, origin in enumerate(kept[0])}


def _by_spelling(student: Model, teacher: Model) -> dict[int, int]:
    mine, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    sizes = student.anatomy.vocabulary_size, teacher.anatomy.vocabulary_size
    missing = sorted(token for token in mine if theirs.get(token, sizes[1]) >= sizes[1])
    if missing:
        raise Unsupported(
            f"The tokenizers of student and teacher differ: the teacher lacks {len(missing):,} of the student's "
            f"{len(mine):,} tokens, such as {missing[0]!r}.",
            remedy="Teach with a model that has the same tokenizer.",
        )
    _require_same_pieces(student, teacher)
    return {
        number: theirs[token] for token, number in sorted(mine.items(), key=lambda each: each[1]) if number < sizes[0]
    }


def _require_same_pieces(student: Model, teacher: Model) -> None:
    """Refuse tokenizers that share their tokens and still cut a text differently.

    Where the student lacks one of the teacher's pieces it cannot but cut otherwise, which is no difference.
    """
    known = student.tokenizer.get_vocab()
    for text in PROBES:
        theirs, mine = (each.tokenizer.tokenize(text, add_special_tokens=False) for each in (teacher, student))
        if mine != theirs and all(piece in known for piece in theirs):
            raise Unsupported(
                f"The tokenizers of student and teacher differ: {text!r} becomes {mine} and {theirs}.",
                remedy="Teach with a model that has the same tokenizer.",
            )


@dataclass(frozen=True)
class Matching:
    """Which part of the teacher answers to which of the student.

    Attributes:
        student: Who learns.
        teacher: Who knows.
        layer_map: The teacher's block by the student's, both counted from 0; None: by lineage, else spread evenly.
        head_map: The teacher's query head by the student's, in every block; None: by lineage, else by number.

    Raises:
        InvalidInput: A map names a block or a head that does not exist.
    """

    student: Model
    teacher: Model
    layer_map: Mapping[int, int] | None = None
    head_map: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        mine, theirs = self.student.anatomy.blocks, self.teacher.anatomy.blocks
        _require("layer", self.layer_map, len(mine), len(theirs))
        heads = [max(block.query_heads for block in blocks) for blocks in (mine, theirs)]
        _require("head", self.head_map, *heads)

    @cached_property
    def blocks(self) -> tuple[tuple[Block, Block], ...]:
        """The matched blocks, student's first, in order of the student's."""
        mine, theirs = self.student.anatomy.blocks, self.teacher.anatomy.blocks
        return tuple((mine[one], theirs[other]) for one, other in self._block_numbers(len(mine), len(theirs)))

    def _block_numbers(self, mine: int, theirs: int) -> list[tuple[int, int]]:
        if self.layer_map is not None:
            return sorted(self.layer_map.items())
        kept, known = self.student.lineage.kept_layers, self.teacher.lineage.kept_layers
        if _same_origin(self.student, self.teacher) and (kept or known or mine == theirs):
            places = {origin: place for place, origin in enumerate(known or range(theirs))}
            origins = kept or range(mine)
            pairs = [(number, places.get(origin, theirs)) for number, origin in enumerate(origins)]
            return [(one, other) for one, other in pairs if other < theirs]
        spread = [(number, (number + 1) * theirs // mine - 1) for number in range(mine)]
        return [(one, other) for one, other in spread if other >= 0]

    def heads(self, mine: Block, theirs: Block) -> list[tuple[int, int]] | None:
        """Return pairs of query heads of two matched blocks, None where nothing says which belong together."""
        if self.head_map is not None:
            pairs = sorted(self.head_map.items())
            return [(one, other) for one, other in pairs if one < mine.query_heads and other < theirs.query_heads]
        lineages = self.student.lineage, self.teacher.lineage
        if _same_origin(self.student, self.teacher) and any(each.kept_heads for each in lineages):
            kept, known = (_kept_heads(*each) for each in ((self.student, mine), (self.teacher, theirs)))
            if kept is not None and known is not None:
                places = {origin: place for place, origin in enumerate(known)}
                found = [(number, places[origin]) for number, origin in enumerate(kept) if origin in places]
                return found or None
        if mine.query_heads == theirs.query_heads:
            return [(number, number) for number in range(mine.query_heads)]
        return None


def _kept_heads(model: Model, block: Block) -> tuple[int, ...] | None:
    """Return the numbers that a block's heads have in the origin, None where the lineage does not tell."""
    kept = model.lineage.kept_heads
    if kept is None:
        pruned = any(
            step.operation == "prune" and step.parameters.get("structure") == "head" for step in model.lineage.steps
        )
        return None if pruned else tuple(range(block.query_heads))
    return kept[block.index] if len(kept[block.index]) == block.query_heads else None


def _require(kind: str, given: Mapping[int, int] | None, mine: int, theirs: int) -> None:
    if given is None:
        return
    if not given:
        raise InvalidInput(f"The map of {kind}s is empty.", remedy="Leave it out, or name at least one pair.")
    for whose, numbers, count in (("student", given.keys(), mine), ("teacher", given.values(), theirs)):
        wrong = [number for number in numbers if not 0 <= number < count]
        if wrong:
            raise InvalidInput(
                f"The map of {kind}s names the {whose}'s {kind} {wrong[0]}, and it has {count}, counted from 0."
            )


def _same_origin(student: Model, teacher: Model) -> bool:
    mine, theirs = student.lineage.origin.sha256, teacher.lineage.origin.sha256
    return bool(mine) and mine == theirs
