"""The teacher's likeliest tokens, kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, InvalidInput
from smidgen.models.files import atomic_path, make_folder
from smidgen.progress import Event
from smidgen.shrink.distill.losses import TopTokens
from smidgen.shrink.distill.teachers import Answering, Answers, Lesson, Teacher
from smidgen.shrink.distill.teachers.live import Live, LiveAnswering
from smidgen.shrink.precision import exact
from smidgen.shrink.training.checkpoints import fingerprint

if TYPE_CHECKING:
    import torch

LAYOUT = "1"
MOST_BYTES = 300
SHARDS_IN_MEMORY = 32


def bytes_per_token(k: int) -> int:
    """Return the bytes one token takes: int32 and float16 for each of k, float32 for the tail.

    Example:
        >>> bytes_per_token(48)
        292
    """
    return 6 * k + 4


@dataclass(frozen=True)
class Cached(Teacher):
    """Keep the k likeliest tokens, their log-probabilities and the mass of all others; read them from then on.

    A token takes 6·k + 4 bytes on disk, at most 300. For several passes over the same text: the teacher's forward
    pass is paid once per row. A shard's name is the hash of teacher, tokens, vocabulary and k, so nothing stale is
    ever read; a damaged shard is computed again. Source: Sparse logit sampling, arXiv 2503.16870, on top k.

    Attributes:
        k: Tokens kept, 1 to 49.
        rows_per_shard: Rows of one file.

    Example:
        >>> Cached().k
        48
    """

    k: int = 48
    rows_per_shard: int = 16

    def __post_init__(self) -> None:
        if self.k < 1 or bytes_per_token(self.k) > MOST_BYTES or self.rows_per_shard < 1:
            raise InvalidInput(f"A cached teacher keeps 1 to {(MOST_BYTES - 4) // 6} tokens, not {self.k}.")

    @contextmanager
    def open(self, lesson: Lesson) -> Iterator[CachedAnswering]:
        """Read answers from the folder; the teacher itself is woken for shards that are missing."""
        make_folder(lesson.folder)
        with ExitStack() as stack:
            yield CachedAnswering(self, lesson, stack)


class CachedAnswering(Answering):
    """The open cache."""

    def __init__(self, method: Cached, lesson: Lesson, stack: ExitStack) -> None:
        self.method, self.lesson, self.stack = method, lesson, stack
        self.shard = lru_cache(SHARDS_IN_MEMORY)(self._shard)
        self._about = f"{LAYOUT}\0{fingerprint(lesson.teacher.module)}\0{self.k}\0".encode()
        rows = lesson.vocabulary.rows()
        self._about += b"" if rows is None else rows.numpy().tobytes()

    @cached_property
    def k(self) -> int:
        """Tokens kept: fewer than there are, so that the tail is never empty."""
        rows = self.lesson.vocabulary.rows()
        shared = self.lesson.teacher.anatomy.vocabulary_size if rows is None else len(rows)
        return min(self.method.k, shared - 1)

    @cached_property
    def live(self) -> LiveAnswering:
        """The teacher itself."""
        return self.stack.enter_context(Live().open(replace(self.lesson, watched=(), maps=False, slopes=False)))

    def answers(self, ids: torch.Tensor, rows: torch.Tensor) -> CachedAnswers:
        """Read what the teacher said of the rows with these numbers, asking it where that is not yet kept."""
        import torch

        size = self.method.rows_per_shard
        device = next(self.lesson.teacher.module.parameters()).device
        with exact(device.type):
            parts = [(self.shard(int(row) // size), int(row) % size) for row in rows]
            joined = {name: torch.cat([shard[name][place] for shard, place in parts]) for name in parts[0][0]}
        return CachedAnswers({name: value.to(device) for name, value in joined.items()})

    def _rows(self, number: int) -> torch.Tensor:
        size = self.method.rows_per_shard
        return self.lesson.ids[number * size : (number + 1) * size]

    def path(self, number: int) -> Path:
        """Where a shard lies."""
        digest = hashlib.sha256(self._about + self._rows(number).contiguous().numpy().tobytes()).hexdigest()
        return self.lesson.folder / f"{digest[:40]}.safetensors"

    def _shard(self, number: int) -> dict[str, torch.Tensor]:
        path = self.path(number)
        if path.is_file():
            try:
                return _read(path)
            except DamagedFile as error:
                self.lesson.progress(Event("asking the teacher", note=f"{error.message} It is computed again."))
        self.lesson.progress(Event("asking the teacher", note=f"shard {number}"))
        shard = self._compute(number)
        _write(path, shard)
        return shard

    def _compute(self, number: int) -> dict[str, torch.Tensor]:
        import torch

        first = number * self.method.rows_per_shard
        found = []
        for row in range(first, first + len(self._rows(number))):
            answers = self.live.answers(self.lesson.ids[row : row + 1], torch.tensor([row]))
            found.append(self._top(answers.chunk(torch.arange(len(answers.hidden)))))
        return {name: torch.stack([each[name] for each in found]) for name in found[0]}

    def _top(self, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        import torch

        scores, places = logits.log_softmax(-1).topk(self.k, -1)
        kept, columns = scores.half(), self.lesson.vocabulary.columns
        indices = places.cpu() if columns is None else columns[places.cpu()]
        tail = (1 - scores.double().exp().sum(-1)).clamp_min(0).float()
        return {"indices": indices.to(torch.int32), "log_probabilities": kept.cpu(), "tail": tail.cpu()}


class CachedAnswers(Answers):
    """Top tokens of a batch."""

    def __init__(self, values: dict[str, torch.Tensor]) -> None:
        self.values = values

    def chunk(self, which: torch.Tensor) -> TopTokens:
        """Return the top tokens of the tokens with these numbers."""
        values = {name: value[which.to(value.device)] for name, value in self.values.items()}
        return TopTokens(values["indices"].long(), values["log_probabilities"].float(), values["tail"])


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"sha256": _digest(tensors)})


def _read(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in ("indices", "log_probabilities", "tail")}
            expected = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError) as error:
        raise DamagedFile(f"The teacher's shard {path.name} is damaged.") from error
    if _digest(tensors) != expected:
        raise DamagedFile(f"The teacher's shard {path.name} is damaged.")
    return tensors
