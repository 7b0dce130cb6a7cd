"""``smidgen data write``: a teacher writes more examples of a task."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import Annotated, Any

import typer

from smidgen.cli import _step
from smidgen.cli.data import _files
from smidgen.cli.distill import checkpoint_folder
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.data.writing import ModelWriter, Writing

ANSWERS = "answers.jsonl"


@_step.with_fields(Writing, without=("seed",))
def command(
    seeds: Annotated[
        str, typer.Argument(metavar="SEEDS", help="Examples by people: texts with or without labels, or prompts.")
    ],
    teacher: Annotated[str, typer.Option("--teacher", metavar="MODEL", help="The model that writes and judges.")],
    out: _files.Out,
    options: dict[str, Any],
    settings: Settings,
    longest: Annotated[int, typer.Option("--longest", metavar="N", help="Tokens of an example at most.")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", metavar="N", help="At which it writes.")] = 0.8,
    language: _files.Language = None,
    held_out: _files.HeldOut = None,
    force: _files.Force = False,
) -> None:
    """Let a teacher write examples of a described task and keep those it finds likeliest; resumes when stopped.

    For example: smidgen data write seeds.jsonl --task "Tell spam from ham." --teacher smollm2:135m --out more.jsonl
    """
    from smidgen.data.curation import Curation
    from smidgen.data.loading import load
    from smidgen.data.remembering import RememberingWriter
    from smidgen.data.writing import write_examples
    from smidgen.models.load import load_local

    screen = Screen(settings.json, settings.quiet)
    writing = Writing(**options, seed=settings.seed)
    manner: dict[str, Any] = {"longest": longest, "temperature": temperature}
    ModelWriter.check(**manner)
    curation = Curation(languages=tuple(language) if language else None)
    path = _files.check_file(out, seeds, force=force)
    examples = load(seeds, offline=settings.offline)
    exam = None if held_out is None else load(held_out, offline=settings.offline)
    writing.require_enough(examples)
    local, parameters = _step.find_model(teacher, settings, screen)
    _step.require_memory(settings, parameters, copies=1)
    # Answers are remembered by prompt and seed, so those of a run with more prompts or another share serve as well.
    notes = checkpoint_folder(["write", local.sha256, manner, settings.threads])
    with screen.progress() as progress:
        writer = ModelWriter(load_local(local, progress=progress), **manner)
        found, sheet = write_examples(
            examples,
            writing,
            RememberingWriter(writer, notes / ANSWERS),
            curation=curation,
            held_out=exam,
            progress=progress,
        )
    more = {"teacher": {"name": local.name, "sha256": local.sha256}, "writing": asdict(writing) | manner}
    shown = [
        ("seeds", f"{len(examples.rows):,}"),
        ("written by", local.name),
        ("kept", f"{len(found.rows):,} of {writing.count:,} prompts"),
    ]
    _files.finish(screen, found, sheet, path, more, shown)
    shutil.rmtree(notes, ignore_errors=True)
