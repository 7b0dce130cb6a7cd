"""What the steps of one run work on: the source, the texts, and the tokens cut from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    import torch

    from smidgen.data.resolve import CalibrationData
    from smidgen.data.rows import Corpus
    from smidgen.models.model import Model
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
        kept: File in which what the source wrote itself is kept for the next run; in none where None.
        progress: Receives reports of its writing.
    """

    source: Model
    texts: CalibrationData
    windows: int
    length: int
    seed: int
    threads: int
    kept: Path | None = None
    progress: Progress = field(default=silent, repr=False, compare=False)
    _probed: list[Sensitivity] = field(default_factory=list, repr=False, compare=False)
    _seen: dict[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def calibration(self, model: Model) -> torch.Tensor:
        """Cut the calibration windows with a model's own tokenizer, int64 ``[windows, length]``.

        Where the text only stands in for the user's, every other window is of what the source writes itself.
        """
        import torch

        from smidgen.data.packing import windows

        given, own = self.windows, self.own_text
        if own is None:
            return windows(self.texts.calibration, model.tokenizer, length=self.length, count=given, seed=self.seed)
        written = windows(own, model.tokenizer, length=self.length, count=given // 2, seed=self.seed)
        count = given - len(written)
        read = windows(self.texts.calibration, model.tokenizer, length=self.length, count=count, seed=self.seed)
        places = [*(2.0 * place for place in range(len(read))), *(2.0 * place + 1 for place in range(len(written)))]
        return torch.cat([read, written])[torch.tensor(places).argsort()]

    @cached_property
    def own_text(self) -> Corpus | None:
        """What the source writes itself, for half of the windows; None where the user gave data."""
        from smidgen.models.streamed import StreamedModel
        from smidgen.recipe.own_text import kept, write

        tokens = self.windows // 2 * self.length
        if not self.texts.stand_in or not tokens or isinstance(self.source, StreamedModel):
            return None
        return kept(self.kept, lambda: write(self.source, tokens, seed=self.seed, progress=self.progress))

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

    def tiles(self, images: str) -> torch.Tensor:
        """Cut the images of a folder into tiles as the source's tower reads them, as many as there are windows, once.

        Raises:
            Unsupported: The source reads no images.
            InvalidInput: There are none, or one cannot be read.
        """
        from smidgen.recipe import eyes

        if images not in self._seen:
            self._seen[images] = eyes.tiles(self.source, images, most=self.windows, progress=self.progress)
        return self._seen[images]

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
        own = self.own_text
        return {
            "source": self.source.lineage.origin.sha256,
            "text": self.texts.calibration.sha256 + (own.sha256 if own else ""),
            "windows": self.windows,
            "length": self.length,
            "seed": self.seed,
            "threads": self.threads,
        }
