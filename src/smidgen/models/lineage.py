"""What was done to a model, step by step, and what it came from; licence and card travel along."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from smidgen.errors import DamagedFile

PART, EYES = "part", "vision"
"""Parameter and value by which a step says that it was done to what reads images, and not to the language model."""


@dataclass(frozen=True)
class Origin:
    """Facts of the model everything started from.

    Attributes:
        name: Reference as the user gave it.
        sha256: Digest of the file (GGUF) or of the folder's files.
        bytes: Size of the weights on disk.
        parameters: Count of weights.
        dequantised_from: Number format the weights were read from when that was not a float, as "Q4_1".
        licence: SPDX identifier or the licence's name.
        base_model: Repository of the published original.
    """

    name: str
    sha256: str
    bytes: int
    parameters: int
    dequantised_from: str | None = None
    licence: str | None = None
    base_model: str | None = None


@dataclass(frozen=True)
class Step:
    """One change of the model: the operation's name and its parameters, as they stand in the recipe.

    Attributes:
        operation: Its name.
        parameters: What it was told.
        note: What a reader of the result must know, as that zeros save no room.
    """

    operation: str
    parameters: dict[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Lineage:
    """Origin, steps, and the maps from this model's parts back to the origin's.

    Attributes:
        origin: What it was made from.
        steps: What was done, first to last.
        kept_layers: For every block the index it had in the origin; None while nothing was removed.
        kept_tokens: For every token id the id it had in the origin; None while nothing was removed.
        kept_heads: For every block the numbers its query heads had in the origin; None while nothing was removed.
    """

    origin: Origin
    steps: tuple[Step, ...] = ()
    kept_layers: tuple[int, ...] | None = None
    kept_tokens: tuple[int, ...] | None = None
    kept_heads: tuple[tuple[int, ...], ...] | None = None

    @property
    def has_pruned_weights(self) -> bool:
        """Whether single weights were set to zero, which must stay zero when the model is trained."""
        return any(
            step.operation == "prune"
            and step.parameters.get("structure") in ("weight", "synapse")
            and step.parameters.get(PART) != EYES
            for step in self.steps
        )

    def then(self, operation: str, **parameters: Any) -> Lineage:
        """Return the lineage with one more step."""
        return replace(self, steps=(*self.steps, Step(operation, parameters)))

    def noted(self, note: str) -> Lineage:
        """Return the lineage with a note on its last step, after what is noted there already."""
        last = self.steps[-1]
        return replace(self, steps=(*self.steps[:-1], replace(last, note=f"{last.note} {note}".strip())))

    def without_layers(self, kept: tuple[int, ...]) -> Lineage:
        """Return the lineage after keeping the blocks with these present indices."""
        before = self.kept_layers
        heads = None if self.kept_heads is None else tuple(self.kept_heads[index] for index in kept)
        layers = kept if before is None else tuple(before[index] for index in kept)
        return replace(self, kept_layers=layers, kept_heads=heads)

    def without_heads(self, kept: tuple[tuple[int, ...], ...]) -> Lineage:
        """Return the lineage after keeping, of every block, the query heads with these present numbers."""
        before = self.kept_heads
        if before is not None:
            kept = tuple(tuple(were[head] for head in now) for were, now in zip(before, kept, strict=True))
        return replace(self, kept_heads=kept)

    def without_tokens(self, kept: tuple[int, ...]) -> Lineage:
        """Return the lineage after keeping the tokens with these present ids."""
        before = self.kept_tokens
        return replace(self, kept_tokens=kept if before is None else tuple(before[token] for token in kept))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; steps without a note have no entry for one."""
        data = asdict(self)
        data["steps"] = [
            {name: value for name, value in step.items() if name != "note" or value} for step in data["steps"]
        ]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Lineage:
        """Rebuild a lineage from `to_dict`'s data."""
        layers, tokens, heads = (data.get(f"kept_{part}") for part in ("layers", "tokens", "heads"))
        return cls(
            origin=Origin(**data["origin"]),
            steps=tuple(Step(**step) for step in data["steps"]),
            kept_layers=None if layers is None else tuple(layers),
            kept_tokens=None if tokens is None else tuple(tokens),
            kept_heads=None if heads is None else tuple(tuple(block) for block in heads),
        )

    @classmethod
    def read(cls, record: Path) -> Lineage:
        """Read a lineage from the file that holds `to_dict`'s data as JSON.

        Raises:
            DamagedFile: It holds something else.
        """
        try:
            return cls.from_dict(json.loads(record.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFile(
                f"{record} cannot be read: {error}.", remedy="Remove it or make the model again."
            ) from error
