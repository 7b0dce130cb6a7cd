"""What a quantisation from disk has finished: a file for each part, so that it goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput
from smidgen.models.files import TEMPORARY_PREFIX, atomic_path, atomic_write, make_folder
from smidgen.models.streamed import PackedOnDisk, write_packed

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import PackedTensor

IDENTITY, PARTS = "identity.json", "parts.json"


class Kept:
    """Finished parts in a folder.

    Args:
        folder: Made where missing. What another run left in it is removed.
        identity: All that decides the result, as plain data.

    Raises:
        InvalidInput: The folder holds something else, or cannot be written.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = make_folder(folder)
        text, record, parts = json.dumps(dict(identity), sort_keys=True), folder / IDENTITY, folder / PARTS
        if not record.is_file() and any(folder.iterdir()):
            raise InvalidInput(f"{folder} is not empty, and smidgen did not write it.", remedy="Name another folder.")
        known = record.is_file() and record.read_text(encoding="utf-8") == text
        leftovers = [*folder.glob(f"{TEMPORARY_PREFIX}*"), *([] if known else folder.glob("*.safetensors"))]
        for file in [*leftovers, *([] if known else [parts])]:
            file.unlink(missing_ok=True)
        atomic_write(record, text)
        self.parts: dict[str, dict[str, int]] = json.loads(parts.read_text(encoding="utf-8")) if parts.is_file() else {}

    def finished(self, part: str) -> bool:
        """Whether a part is kept."""
        return part in self.parts

    @property
    def scarce(self) -> dict[str, int]:
        """Tokens that experts with too few of them saw, by site."""
        return {site: tokens for found in self.parts.values() for site, tokens in found.items()}

    def keep(
        self, part: str, packed: Mapping[str, PackedTensor], scarce: Mapping[str, int], hidden: torch.Tensor | None
    ) -> None:
        """Write a part's packed matrices and what the next part reads; only then it counts as finished.

        Args:
            part: Its name.
            packed: Its matrices.
            scarce: See `scarce`; those of earlier parts may be among them.
            hidden: The output of a block, ``[windows, length, hidden]``; that of the block before is removed.
        """
        from safetensors.torch import save_file

        with atomic_path(self._file(part)) as temporary:
            write_packed(temporary, packed)
        if hidden is not None:
            with atomic_path(self._hidden(part)) as temporary:
                save_file({"hidden": hidden.contiguous()}, temporary)
        known = self.scarce
        self.parts[part] = {site: tokens for site, tokens in scarce.items() if site not in known}
        atomic_write(self.folder / PARTS, json.dumps(self.parts))
        for old in self.folder.glob("hidden-*.safetensors"):
            if old != self._hidden(part):
                old.unlink()

    def hidden(self, part: str) -> torch.Tensor:
        """Return what a block gave out."""
        from safetensors.torch import load_file

        return load_file(self._hidden(part))["hidden"]

    def packed(self) -> PackedOnDisk:
        """Return every packed matrix that is kept, by name; none is read before it is asked for."""
        return PackedOnDisk(self._file(part) for part in self.parts)

    def _file(self, part: str) -> Path:
        return self.folder / f"{part}.safetensors"

    def _hidden(self, part: str) -> Path:
        return self.folder / f"hidden-{part}.safetensors"
