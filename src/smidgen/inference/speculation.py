"""Speculative decoding: tokens are guessed ahead cheaply, and the model checks several of them in one step.

The guesses come from a small draft model with the same vocabulary (Leviathan et al. 2023, Fast Inference from
Transformers via Speculative Decoding), or from what followed the last tokens where they stood before in the context
(n-gram or prompt lookup decoding). The model keeps a guess only where it would have written the same, so that greedy
answers are what they are without, up to the rounding of several tokens in one product.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smidgen.errors import InvalidInput, ReferenceNotFound

Kind = Literal["off", "ngram", "draft"]

MODES = ("auto", "off", "ngram", "draft")
"""What a person can ask for; "auto" takes what was measured to help."""

NGRAM_TOKENS, NGRAM_MATCH = 16, 4
"""Tokens that are guessed by what stands in the context already, and how many must have matched before them."""

DRAFT_TOKENS = 4
"""Tokens that a draft guesses ahead where nobody says."""

_VARIABLES = ("SMIDGEN_SPECULATE", "OLLAMA_SPECULATE")


@dataclass(frozen=True)
class Speculation:
    """How tokens are guessed ahead.

    Attributes:
        kind: "off", "ngram" for guesses from the context, "draft" for those of a model.
        draft: Path of the draft, a GGUF.
        tokens: Most tokens that are guessed at once.
        match: Tokens in a row that must stand in the context already, for "ngram".
    """

    kind: Kind = "off"
    draft: str | None = None
    tokens: int = 0
    match: int = 0


OFF = Speculation()
NGRAM = Speculation("ngram", tokens=NGRAM_TOKENS, match=NGRAM_MATCH)


@dataclass(frozen=True)
class SpeculationRequest:
    """What a person asks for, and what there is to guess with.

    Attributes:
        mode: One of `MODES`.
        draft: The model's draft; None where it has none.
        tokens: Tokens that the draft guesses at once; `DRAFT_TOKENS` where None, and no draft at 0.

    Raises:
        ReferenceNotFound: There is no such mode.
        InvalidInput: A draft is asked for where there is none.
    """

    mode: str = "auto"
    draft: Path | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ReferenceNotFound.among("way to speculate", self.mode, MODES)
        if self.mode == "draft" and self.by_draft is None:
            raise InvalidInput(
                "This model has no draft that could guess ahead.",
                remedy="Make one with 'smidgen make --draft-for', or name one with DRAFT in its Modelfile.",
            )

    @property
    def by_draft(self) -> Speculation | None:
        """How the draft would guess; None where there is none."""
        if self.draft is None or self.tokens == 0:
            return None
        return Speculation("draft", str(self.draft), self.tokens or DRAFT_TOKENS)

    @property
    def candidates(self) -> tuple[Speculation, ...]:
        """What may help, the most promising first.

        Example:
            >>> [each.kind for each in SpeculationRequest(draft=Path("small.gguf")).candidates]
            ['draft', 'ngram']
            >>> SpeculationRequest("off").candidates
            ()
        """
        every = tuple(each for each in (self.by_draft, NGRAM) if each is not None)
        return every if self.mode == "auto" else tuple(each for each in every if each.kind == self.mode)


def mode_from(environment: Mapping[str, str] | None = None) -> str:
    """Return the mode that the environment asks for, "auto" where it does not say.

    Example:
        >>> mode_from({"SMIDGEN_SPECULATE": "ngram"}), mode_from({})
        ('ngram', 'auto')
    """
    source = os.environ if environment is None else environment
    return next((text for name in _VARIABLES if (text := source.get(name, "").strip().lower())), "auto")
