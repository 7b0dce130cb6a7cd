"""``smidgen choose``: which public small model suits a task, a machine, a licence, a context and a language."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli.options import Settings, is_given
from smidgen.cli.screen import Screen
from smidgen.errors import InvalidInput, ReferenceNotFound

if TYPE_CHECKING:
    from smidgen.evaluate.calibrate import Calibration
    from smidgen.evaluate.choose import Choice, Needs, Suggestion

SHOWN = 8
"""How many models a person is shown; JSON has all."""

MEMORY_SHARE = 0.8
"""Share of the memory that is free which a model may take."""

PLACE_MEMORY = {"phone": 2 * 10**9, "edge": 10**9}
"""Bytes taken for granted on a phone and on a small board, where nobody says: little, so that the answer holds."""

_DETECTED = "detected"
_CORES = re.compile(r"(\d{1,4})\s*cores?")


@dataclass(frozen=True)
class Stated:
    """What the user says of the machine that the model is to run on.

    Attributes:
        memory: Its memory in bytes.
        bandwidth: What its memory delivers, in bytes per second.
        cores: Its cores.
    """

    memory: int | None = None
    bandwidth: float | None = None
    cores: int | None = None

    @classmethod
    def parse(cls, text: str) -> Stated:
        """Understand "8GB, 17GB/s, 4 cores"; any of them may be left out.

        Raises:
            InvalidInput: A part is none of the three, or nothing is said.

        Example:
            >>> Stated.parse("8GB, 17GB/s, 4 cores")
            Stated(memory=8000000000, bandwidth=17000000000, cores=4)
        """
        from smidgen.recipe.quantities import parse_size

        found: dict[str, Any] = {}
        for part in (piece.strip().lower() for piece in text.split(",")):
            cores = _CORES.fullmatch(part)
            if cores:
                found["cores"] = int(cores[1])
            elif part.endswith("/s"):
                found["bandwidth"] = parse_size(part.removesuffix("/s"), name="--machine")
            else:
                try:
                    found["memory"] = parse_size(part, name="--machine")
                except InvalidInput as error:
                    remedy = "Say memory, bandwidth and cores as in: --machine '8GB, 17GB/s, 4 cores'."
                    raise InvalidInput(
                        f"--machine {text!r} is not understood: {error.message}", remedy=remedy
                    ) from None
        return cls(**found)


def command(
    context: typer.Context,
    settings: Settings,
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="chat, summarize, code, classify …")
    ] = None,
    machine: Annotated[
        str, typer.Option("--machine", metavar="FACTS", help="Where it shall run: '8GB, 17GB/s, 4 cores'.")
    ] = _DETECTED,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory that weights, cache and engine may take.")
    ] = None,
    speed: Annotated[str | None, typer.Option("--speed", metavar="N", help="Least tokens per second: 20tok/s.")] = None,
    licence: Annotated[
        str, typer.Option("--licence", metavar="KIND", help="any, commercial, permissive, or one licence's name.")
    ] = "any",
    place: Annotated[
        str | None, typer.Option("--place", metavar="NAME", help="phone, edge, laptop, server or air-gapped.")
    ] = None,
    integration: Annotated[
        str | None, typer.Option("--integration", metavar="NAME", help="ollama, openai, json or langchain.")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option("--language", metavar="CODE", help="It must know this one; may be repeated.")
    ] = None,
    privacy: Annotated[
        str,
        typer.Option("--privacy", metavar="KIND", help="local: nothing is sent; stored: nothing is fetched either."),
    ] = "local",
    tokens: Annotated[
        int | None,
        typer.Option("--context", metavar="N", help="Tokens its context must hold.", show_default="the task's"),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure this machine again.")] = False,
) -> None:
    """Say which public small model suits, why, what it costs here, and what to run next.

    Asks in a terminal what was not said where nothing was said. Memory and speed are estimated from what this machine
    was measured to do with smollm2:135m.
    """
    screen = Screen(settings.json, settings.quiet)
    said: dict[str, Any] = {"task": task, "licence": licence, "place": place, "memory": memory, "language": language}
    if not any(is_given(context, name) for name in context.params) and sys.stdin.isatty() and sys.stdout.isatty():
        said |= _ask()
    for kind, value, known in (("place", said["place"], _places()), ("integration", integration, _integrations())):
        if value is not None and value not in known:
            raise ReferenceNotFound.among(kind, str(value), known)
    stated = Stated() if machine == _DETECTED else Stated.parse(machine)
    assumed: list[str] = []
    needs = _needs(said, speed, tokens, privacy, _budget(said, stated, settings, assumed))
    answer = _answer(
        screen, settings, needs, stated, assumed, {"place": said["place"], "integration": integration}, again
    )
    screen.result(answer, lambda: _show(screen, answer))


def _places() -> tuple[str, ...]:
    from smidgen.evaluate.choose import PLACES

    return PLACES


def _integrations() -> tuple[str, ...]:
    from smidgen.evaluate.choose import INTEGRATIONS

    return INTEGRATIONS


def _ask() -> dict[str, Any]:
    """Ask a person in a terminal for what matters most."""
    from smidgen.evaluate.choose import LICENCES, TASKS

    typer.echo("What shall it do?")
    for name, task in TASKS.items():
        typer.echo(f"  {name:<11} {task.says}")
    found: dict[str, Any] = {"task": typer.prompt("task", default="chat").strip().lower()}
    found["licence"] = typer.prompt(f"licence ({', '.join(LICENCES)})", default="any").strip().lower()
    found["place"] = typer.prompt(f"place ({', '.join(_places())})", default="laptop").strip().lower()
    found["memory"] = typer.prompt("memory it may take (such as 2GB)", default="what is free").strip()
    if found["memory"] == "what is free":
        found["memory"] = None
    codes = typer.prompt("languages it must know (such as en, de)", default="any").strip().lower()
    found["language"] = [] if codes == "any" else [code.strip() for code in codes.split(",")]
    return found


def _budget(said: Mapping[str, Any], stated: Stated, settings: Settings, assumed: list[str]) -> int | None:
    """Return the bytes that a model may take, and note where they were taken for granted."""
    from smidgen import machine
    from smidgen.recipe.quantities import format_size, parse_size

    if said["memory"] is not None:
        return parse_size(said["memory"], name="--memory")
    if settings.max_memory is not None:
        return settings.max_memory
    if stated.memory is not None:
        return int(stated.memory * MEMORY_SHARE)
    if said["place"] in PLACE_MEMORY:
        size = PLACE_MEMORY[said["place"]]
        assumed.append(f"{format_size(size)} of memory on a {said['place']}; say it with --memory")
        return size
    size = int(machine.memory()[1] * MEMORY_SHARE)
    assumed.append(f"{format_size(size)} of memory, {MEMORY_SHARE:.0%} of what is free here; say it with --memory")
    return size


def _needs(said: Mapping[str, Any], speed: str | None, tokens: int | None, privacy: str, memory: int | None) -> Needs:
    from smidgen.evaluate.choose import PRIVACIES, Needs
    from smidgen.models.store import Store
    from smidgen.recipe.quantities import parse_speed

    if privacy not in PRIVACIES:
        raise ReferenceNotFound.among("privacy", privacy, PRIVACIES)
    stored = None
    if privacy == "stored":
        models = Store().list()
        stored = frozenset({each.name for each in models} | {str(each.facts.get("base_model")) for each in models})
    return Needs(
        task=said["task"] or "chat",
        memory=memory,
        speed=None if speed is None else parse_speed(speed, name="--speed"),
        licence=said["licence"],
        languages=tuple(code.lower() for code in said["language"] or ()),
        context=tokens,
        stored=stored,
    )


def _answer(
    screen: Screen,
    settings: Settings,
    needs: Needs,
    stated: Stated,
    assumed: list[str],
    wishes: Mapping[str, str | None],
    again: bool,
) -> dict[str, Any]:
    """Measure or recall this machine, choose, and lay the answer out as plain data."""
    from dataclasses import asdict

    from smidgen.evaluate.calibrate import calibration
    from smidgen.evaluate.choose import choose
    from smidgen.models.store import default_root

    with screen.progress() as progress:
        measured = calibration(
            default_root(), threads=settings.threads, offline=settings.offline, again=again, progress=progress
        )
    found = choose(needs, measured.on(bandwidth=stated.bandwidth))
    notes = _notes(measured, stated, wishes["place"])
    return {
        "needs": asdict(needs) | {"stored": sorted(needs.stored) if needs.stored is not None else None} | dict(wishes),
        "assumed": assumed,
        "machine": measured.to_dict() | {"stated": asdict(stated)},
        "suggestions": [
            each.to_dict() | {"steps": [*each.steps, *_served(each, wishes)]} for each in found.suggestions
        ],
        "ruled_out": dict(found.ruled_out),
        "notes": notes,
        "advice": _advice(found, needs),
    }


def _notes(measured: Calibration, stated: Stated, place: str | None) -> list[str]:
    """Say what the estimates rest on, and what they do not know."""
    from smidgen.evaluate.calibrate import EMBEDDED

    notes = []
    if not measured.calibrated:
        notes.append(f"Speeds are rough: {EMBEDDED}, which this machine is measured with, could not be had.")
    elif measured.busy:
        notes.append(
            "Other programs were using this machine's cores when it was measured; speeds are those without them."
        )
    if stated.cores is not None and stated.bandwidth is None:
        notes.append("Cores alone say little of speed; say the memory's bandwidth too, as in '17GB/s'.")
    if place in ("phone", "edge") and stated.bandwidth is None:
        notes.append(f"Speeds are this machine's, not the {place}'s; say what its memory delivers: --machine '17GB/s'.")
    if place == "air-gapped":
        notes.append("Run the pull where there is a network, and bring the store's folder (SMIDGEN_HOME) along.")
    notes.append(
        "Published figures come from different sources, which smidgen show names; measure before you rely on them."
    )
    return notes


def _served(suggestion: Suggestion, wishes: Mapping[str, str | None]) -> list[str]:
    """Return the commands that bring a model to what it shall work with."""
    from smidgen.cli.main import command_names
    from smidgen.models import catalog

    entry = catalog.entries()[suggestion.name]
    made = any(step.startswith("smidgen make") for step in suggestion.steps)
    server = "smidgen serve" if "serve" in command_names() else "llama-server -m OUT/model.gguf"
    if wishes["integration"] in ("ollama", "langchain"):
        own = [f"ollama run {entry.ollama}"] if entry.ollama else []
        return own + (["ollama create NAME -f OUT/Modelfile"] if made else [])
    return [server] if wishes["integration"] in ("openai", "json") and made else []


def _advice(found: Choice, needs: Needs) -> list[str]:
    """Say which demand to loosen where nothing meets them all."""
    if found.suggestions:
        return []
    counts: dict[str, int] = defaultdict(int)
    for reason in found.ruled_out.values():
        counts[_kind(reason)] += 1
    most = max(counts, key=lambda kind: counts[kind])
    return [
        f"No model of the catalog meets all demands; most fail by: {most} ({counts[most]} of {len(found.ruled_out)})."
    ]


def _kind(reason: str) -> str:
    """Return a reason without the figures in it, so that reasons can be counted."""
    for words, kind in (
        ("needs at least", "too little memory"),
        ("writes at most", "too slow"),
        ("its context ends", "context too short"),
        ("licence", "licence"),
        ("was not published for", "language"),
        ("count of weights", "size not known here"),
    ):
        if words in reason:
            return kind
    return reason


def _show(screen: Screen, answer: Mapping[str, Any]) -> None:
    from smidgen.recipe.quantities import format_size

    for line in answer["assumed"]:
        screen.text(f"Assumed: {line}.")
    rows = []
    for number, each in enumerate(answer["suggestions"][:SHOWN], 1):
        cost = each["estimate"]
        memory = format_size(cost["memory"]) if cost else "unknown"
        rate = f"{cost['tokens_per_second']:.0f} tok/s" if cost else "unknown"
        stored = f"{cost['format']} ({cost['bits']:g} bits)" if cost else "unknown"
        rows.append((number, each["name"], memory, rate, stored, "; ".join(each["reasons"])))
    if rows:
        screen.table(("", "model", "memory", "writes", "stored in", "because"), rows)
    more = len(answer["suggestions"]) - len(rows)
    if more > 0:
        screen.text(f"{more} more meet all demands: see --json.")
    for line in answer["advice"]:
        screen.text(line)
    grouped: dict[str, list[str]] = defaultdict(list)
    for name, reason in answer["ruled_out"].items():
        grouped[_kind(reason)].append(name)
    for kind, names in sorted(grouped.items(), key=lambda pair: -len(pair[1])):
        listing = ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
        screen.text(f"Ruled out, {kind}: {len(names)} ({listing})")
    for line in answer["notes"]:
        screen.text(f"- {line}")
    if answer["suggestions"]:
        screen.text("Next:")
        for step in answer["suggestions"][0]["steps"]:
            screen.text(f"  {step}")
