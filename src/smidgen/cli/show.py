"""``smidgen show``: what a model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import SourceUnavailable

if TYPE_CHECKING:
    from smidgen.models.facts import Facts
    from smidgen.tasks.profile import Profile


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, a folder or a .gguf file.")],
    settings: Settings,
    licence: Annotated[bool, typer.Option("--license", help="Only the text of its licence.")] = False,
    modelfile: Annotated[bool, typer.Option("--modelfile", help="Only a Modelfile that makes the same again.")] = False,
    parameters: Annotated[bool, typer.Option("--parameters", help="Only the options that it brings.")] = False,
    template: Annotated[bool, typer.Option("--template", help="Only its layout of conversations.")] = False,
    system: Annotated[bool, typer.Option("--system", help="Only its system message.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also its metadata and every tensor, or every configured value.")
    ] = False,
) -> None:
    """Show what a model is: size, formats, context, licence, and what was done to it.

    Nothing is fetched: of a model of the catalog that is not in the store, the published facts are shown.
    """
    from smidgen.cli import _about
    from smidgen.export import runnable
    from smidgen.models.facts import inspect
    from smidgen.tasks import profile

    screen = Screen(settings.json, settings.quiet)
    choices = {
        "license": licence,
        "modelfile": modelfile,
        "parameters": parameters,
        "template": template,
        "system": system,
    }
    part = _about.only_one(choices)
    try:
        with screen.progress() as progress:
            local = runnable.find(model, offline=True, progress=progress)
    except SourceUnavailable:
        entry = published(model)
        if entry is None or part is not None:
            raise
        screen.result(entry, lambda: screen.table((entry["name"], ""), _published_rows(entry)))
        return
    if part is not None:
        text = _about.part(local, part)
        screen.result({part: text}, lambda: screen.text(text))
        return
    facts = inspect(local)
    more = _about.details(local) if verbose else {}
    made_for = profile.of(local.facts)
    own = {} if made_for is None else {profile.FACT: made_for.to_dict()}
    screen.result(facts.to_dict() | own | more, lambda: _show(screen, facts, made_for, more))


def _show(screen: Screen, facts: Facts, made_for: Profile | None, more: dict[str, Any]) -> None:
    screen.table((facts.name, ""), rows(facts))
    if made_for is not None:
        from smidgen.cli.task._training import figure_rows

        screen.table((f"made for the task {made_for.task}", ""), figure_rows(made_for.figures))
    if more:
        screen.table(("metadata", "value"), more["metadata"].items())
        tensors = [(each["name"], each["type"], "x".join(map(str, each["shape"]))) for each in more["tensors"]]
        screen.table(("tensor", "format", "shape"), tensors)


def published(model: str) -> dict[str, Any] | None:
    """Return what the catalog says of a model that is not on this machine; None where it knows none."""
    from dataclasses import asdict

    from smidgen.models import catalog

    entry = catalog.entries().get(model.strip().lower())
    if entry is None:
        return None
    terms = None if entry.terms is None else asdict(entry.terms)
    return asdict(entry) | {"size": entry.size, "terms": terms, "reference": entry.reference, "stored": False}


def rows(facts: Facts) -> list[tuple[str, str]]:
    """Lay out a model's facts for a person."""
    from smidgen.recipe.quantities import format_size

    def count(value: int | None) -> str:
        return f"{value:,}" if value is not None else "not stated"

    total = max(1, facts.parameters)
    formats = ", ".join(f"{name} {weights / total:.1%}" for name, weights in facts.formats.items())
    found = [
        ("path", str(facts.path)),
        ("kind", facts.kind),
        ("architecture", facts.architecture),
        ("parameters", f"{facts.parameters:,}"),
        ("size", f"{format_size(facts.bytes)}, {facts.bits_per_weight:g} bits per weight"),
        ("formats", formats),
        ("context", f"{count(facts.context_length)} tokens"),
        ("layers", count(facts.layers)),
        ("hidden size", count(facts.hidden_size)),
        ("vocabulary", f"{count(facts.vocabulary_size)} tokens"),
        ("chat template", "yes" if facts.chat_template else "no"),
        ("licence", facts.licence or "not stated"),
        ("base model", facts.base_model or "not stated"),
    ]
    if facts.dequantised_from:
        found.append(("published in", facts.dequantised_from))
    found.append(("sha256", facts.sha256))
    if facts.lineage is not None:
        found.append(("made from", facts.lineage.origin.name))
        found += [("step", _short(step.operation, step.parameters)) for step in facts.lineage.steps]
    return found


def _short(operation: str, parameters: dict[str, Any]) -> str:
    """Say a step in one line; lists and maps are too long for it."""
    plain = {name: value for name, value in parameters.items() if isinstance(value, str | int | float)}
    return f"{operation} ({', '.join(f'{name} {value}' for name, value in plain.items())})" if plain else operation


def _published_rows(entry: dict[str, Any]) -> list[tuple[str, str]]:
    from smidgen.recipe.quantities import format_size

    terms = entry["terms"] or {}
    context = entry["context_length"]
    found = [
        ("in the store", f"no; get it with: smidgen pull {entry['reference']}"),
        ("title", entry["title"]),
        ("parameters", f"{entry['size']:,}" if entry["size"] else "unknown"),
        ("size", format_size(entry["bytes"]) if entry["bytes"] else "unknown"),
        ("published in", entry["dequantised_from"] or "unknown"),
        ("context", f"{context:,} tokens" if context else "unknown"),
        ("languages", ", ".join(entry["languages"]) or "unknown"),
        ("reads", ", ".join(entry["modalities"])),
        ("licence", terms.get("name") or entry["licence"] or "unknown"),
        *(("licence says", sentence) for sentence in terms.get("forbids", ())),
        ("base model", entry["base_model"]),
    ]
    found += [(score["benchmark"], f"{score['value']:g}% ({score['how']})") for score in entry["scores"]]
    return [*found, ("facts from", f"{entry['source']}, read on {entry['date']}")]
