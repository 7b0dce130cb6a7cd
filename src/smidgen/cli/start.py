"""``smidgen start``: another name for ``smidgen serve``."""

from __future__ import annotations

from smidgen.cli.serve import command

__all__ = ["command"]
