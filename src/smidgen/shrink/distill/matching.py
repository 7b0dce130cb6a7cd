"""Which token and which block of the teacher answers to which of the student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.errors import Unsupported

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


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
    return {
        number: theirs[token] for token, number in sorted(mine.items(), key=lambda each: each[1]) if number < sizes[0]
    }


def match_blocks(student: Model, teacher: Model) -> list[tuple[str, str]]:
    """Return pairs of block paths: by lineage where both have one origin, else spread evenly over the teacher.

    Example: of 4 teacher blocks an unrelated student of 2 is matched with the second and the fourth.
    """
    mine, theirs = student.anatomy.blocks, teacher.anatomy.blocks
    kept, known = student.lineage.kept_layers, teacher.lineage.kept_layers
    if _same_origin(student, teacher) and (kept or known or len(mine) == len(theirs)):
        places = {origin: place for place, origin in enumerate(known or range(len(theirs)))}
        origins = kept or range(len(mine))
        return [
            (block.path, theirs[places[origin]].path)
            for block, origin in zip(mine, origins, strict=True)
            if places.get(origin, len(theirs)) < len(theirs)
        ]
    return [
        (block.path, theirs[(index + 1) * len(theirs) // len(mine) - 1].path)
        for index, block in enumerate(mine)
        if (index + 1) * len(theirs) // len(mine) >= 1
    ]


def _same_origin(student: Model, teacher: Model) -> bool:
    mine, theirs = student.lineage.origin.sha256, teacher.lineage.origin.sha256
    return bool(mine) and mine == theirs
