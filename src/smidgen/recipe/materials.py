"""What the steps of one run work on: the source, the texts, and the tokens cut from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from smidgen.data.resolve import CalibrationData
    from smidgen.data.rows import Corpus
    from smidgen.models.model import Model
    from smidgen.progress import Progress
    from smidgen.shrink.quantize.sensitivity import Sensitivity

WATCHED_SHARE, MOST_WATCHED = 0.08, 8
WATCHED_CHARACTERS = 500
HEALING_LENGTH = 256


@dataclass(frozen=True)
class Materials:
    """The source and the texts of one run.

    Attributes:
        source: The model everything is compared with.
        texts: Calibration, held-out and general text.
        windows: Count of calibration windows.
        length: Tokens per calibration window.
        seed: Of everything random.
        threads: Threads of the arithmetic.
    """

    source: Model
    texts: CalibrationData
    windows: int
    length: int
    seed: int
    threads: int
    _probed: list[Sensitivity] = field(default_factory=list, repr=False, compare=False)

    def calibration(self, model: Model) -> torch.Tensor:
        """Cut the calibration windows with a model's own tokenizer, int64 ``[windows, length]``."""
        from smidgen.data.packing import windows

        return windows(self.texts.calibration, model.tokenizer, length=self.length, count=self.windows, seed=self.seed)

    def healing(self, model: Model) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut training windows and, from other places of the same text, a few to watch overfitting with."""
        from smidgen.data.packing import windows

        cut = windows(self.texts.calibration, model.tokenizer, length=min(HEALING_LENGTH, self.length), seed=self.seed)
        watched = max(1, min(MOST_WATCHED, round(len(cut) * WATCHED_SHARE)))
        return cut[:-watched], cut[-watched:]

    def lessons(self) -> tuple[Corpus, Corpus]:
        """Divide the calibration text into what is fine-tuned on and a little to watch overfitting with."""
        from smidgen.data.split import split

        return split(self.texts.calibration, held_out_share=WATCHED_SHARE, seed=self.seed, minimum=WATCHED_CHARACTERS)

    def token_use(self, model: Model) -> torch.Tensor:
        """Count how often the calibration text uses each token."""
        from smidgen.data.packing import token_use

        return token_use(self.texts.calibration, model.tokenizer)

    def sensitivity(self, progress: Progress) -> Sensitivity:
        """Return what the source's output notices, probed once.

        It serves for what was cut from the source too: cutting layers, neurons and tokens leaves the meaning of
        the hidden channels as it was.
        """
        from smidgen.shrink.quantize.sensitivity import PROBED_WINDOWS, probe

        if not self._probed:
            self._probed.append(probe(self.source, self.calibration(self.source)[:PROBED_WINDOWS], progress=progress))
        return self._probed[0]

    def identity(self) -> dict[str, Any]:
        """Return what decides the outcome of every step besides the step itself."""
        return {
            "source": self.source.lineage.origin.sha256,
            "text": self.texts.calibration.sha256,
            "windows": self.windows,
            "length": self.length,
            "seed": self.seed,
            "threads": self.threads,
        }
