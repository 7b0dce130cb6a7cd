"""``smidgen data curate``: a corpus without what is repeated, says nothing or must not be trained on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from smidgen.cli import _step
from smidgen.cli.data import _files
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.data.curation import Curation


@_step.with_fields(Curation)
def command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file, a folder, a pattern or hf:org/name.")],
    out: _files.Out,
    options: dict[str, Any],
    settings: Settings,
    language: _files.Language = None,
    held_out: _files.HeldOut = None,
    force: _files.Force = False,
) -> None:
    """Clean a corpus and say what went and why: duplicates, near duplicates, mere repetition, leaks and more.

    For example: smidgen data curate tickets.jsonl --language en --held-out exam.jsonl --out clean.jsonl
    """
    from smidgen.data.curation import describe
    from smidgen.data.loading import load

    screen = Screen(settings.json, settings.quiet)
    curation = Curation(**options, languages=tuple(language) if language else None)
    path = _files.check_file(out, data, force=force)
    corpus = load(data, offline=settings.offline)
    exam = None if held_out is None else load(held_out, offline=settings.offline)
    with screen.progress() as progress:
        cleaned, sheet = describe(corpus, curation, held_out=exam, progress=progress)
    shown = [
        (name, f"{after:,} of {before:,} kept")
        for name, (before, after) in (("rows", sheet.rows), ("characters", sheet.characters))
    ]
    _files.finish(screen, cleaned, sheet, path, {}, shown)
