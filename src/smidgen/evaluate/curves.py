"""How speed changes with the depth of the context and with answers written at once, on this machine or a server.

A model on this machine is measured by its library, token by token; a model behind a server by what its answers take,
network and queue included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput
from smidgen.evaluate.energy import Meter, added, energy_of
from smidgen.evaluate.speed import Rate
from smidgen.evaluate.streams import Streams, measure_streams, prompt_of
from smidgen.progress import Progress, silent, track

if TYPE_CHECKING:
    from smidgen.evaluate.energy import Energy
    from smidgen.inference.engine import Engine
    from smidgen.inference.scoring import Subject

DEPTHS = (0, 512, 1024, 2048, 4096)
"""Tokens of context at which speed is measured where nothing else is asked for."""

STREAMS = (1, 2, 4, 8, 16)
"""Counts of answers at once where nothing else is asked for."""

WRITTEN = 32
"""Tokens that are written at each depth and in each answer."""

_ROUNDS = 3
_PROMPT = 24  # tokens of each prompt of answers at once


@dataclass(frozen=True)
class Depth:
    """Speed with so many tokens in the context.

    Attributes:
        depth: Tokens in the context before the first one that is written.
        write: Writing there, in tokens per second.
        read: Reading the context, in tokens per second; None at depth 0.
        energy: Of writing, at depth 0 on this machine; None elsewhere, where reading would be counted with it.
    """

    depth: int
    write: Rate
    read: Rate | None
    energy: Energy | None = None


@dataclass(frozen=True)
class Curves:
    """What was measured of one model.

    Attributes:
        name: The name it was asked for by.
        engine: What ran it.
        depths: Speed by depth.
        streams: Speed by answers at once.
        energy: Of writing at depth 0; None for a server, whose energy is not this machine's.
        notes: What the reader should know.
    """

    name: str
    engine: str
    depths: tuple[Depth, ...]
    streams: tuple[Streams, ...]
    energy: Energy | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """Which points of the curves are measured.

    Attributes:
        depths: Tokens of context.
        streams: Counts of answers at once.
    """

    depths: tuple[int, ...] = DEPTHS
    streams: tuple[int, ...] = STREAMS

    def __post_init__(self) -> None:
        if any(depth < 0 for depth in self.depths) or any(not 1 <= count <= 256 for count in self.streams):
            raise InvalidInput(
                f"Depths of {list(self.depths)} tokens and {list(self.streams)} streams cannot be measured.",
                remedy="Give depths from 0 and 1 to 256 streams.",
            )


def measure_curves(
    *models: str,
    asked: Asked | None = None,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress = silent,
) -> list[Curves]:
    """Measure speed by depth and by answers at once.

    Args:
        *models: Names, folders, ``.gguf`` files, or addresses of models behind servers.
        asked: The points; the usual ones where None.
        threads: Threads to compute with; the physical cores where None.
        offline: Take only what is on this machine.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: There is no such model.
        EngineFailed: The engine refuses a model.

    Example:
        (found,) = measure_curves("smollm2:135m", asked=Asked((0, 2048), (1, 4)))
        print(found.depths[1].write.median, found.streams[1].tokens_per_second.median)
    """
    from smidgen.inference.remote_address import is_address

    if not models:
        raise InvalidInput("Measuring needs a model.")
    asked = asked or Asked()
    return [
        _remote(model, asked, progress) if is_address(model) else _local(model, asked, threads, offline, progress)
        for model in models
    ]


def depth_curve(
    subject: Subject | Path, depths: Sequence[int], *, threads: int | None = None, progress: Progress = silent
) -> list[Depth]:
    """Measure reading and writing at depths, all of them in each of three rounds after one that is not counted.

    Args:
        subject: The GGUF file or folder, or how it is run.
        depths: Tokens of context.
        threads: Threads to compute with; the physical cores where None.
        progress: Receives reports.
    """
    from smidgen.inference.scoring import PromptScorer

    taken: dict[int, list[tuple[float, float]]] = {depth: [] for depth in depths}
    meter, joules = Meter(), dict[str, float]()
    with PromptScorer(subject, threads=threads, context=max(depths) + WRITTEN) as scorer:
        scorer.time_each_token(WRITTEN, min(depths))
        steps = [depth for _ in range(_ROUNDS) for depth in depths]
        for depth in track(steps, "measuring speed at depths", progress, unit="runs"):
            meter.since()
            read, each = scorer.time_each_token(WRITTEN, depth)
            taken[depth].append((read, sum(each)))
            if not depth:
                joules = added(joules, meter.since())
    return [
        Depth(
            depth,
            Rate.of(WRITTEN, [written for _, written in runs]),
            Rate.of(depth, [read for read, _ in runs]) if depth else None,
            None if depth else energy_of(joules, WRITTEN * len(runs), meter.reason),
        )
        for depth, runs in taken.items()
    ]


def depth_curve_of_engine(engine: Engine, depths: Sequence[int], progress: Progress = silent) -> list[Depth]:
    """Measure reading and writing at depths by what answers take, as a server's user sees it.

    The prompt has about as many tokens; how many it really had is what the engine counts, where it counts them.

    Args:
        engine: The opened engine.
        depths: Tokens of context; an answer to a few words stands for 0.
        progress: Receives reports.
    """
    runs: dict[int, list[tuple[int, float, float]]] = {}
    steps = [(number, depth) for number in range(_ROUNDS) for depth in depths]
    for number, depth in track(steps, "measuring speed at depths", progress, unit="runs"):
        answer = measure_streams(engine, [prompt_of(max(8, depth), number)], WRITTEN).answers[0]
        taken = (answer.prompt_tokens or depth, answer.first, answer.per_token)
        runs.setdefault(depth, []).append(taken)
    found = []
    for depth, each in runs.items():
        size = each[0][0] if depth else 0
        read = Rate.of(size, [first for _, first, _ in each]) if depth else None
        found.append(Depth(size, Rate.of(1, [token for _, _, token in each]), read))
    return found


def stream_curve(engine: Engine, counts: Sequence[int], progress: Progress = silent) -> list[Streams]:
    """Measure answers written at once, each count once to warm up and three times counted.

    Args:
        engine: The opened engine, with room for as many answers.
        counts: How many answers are written at once.
        progress: Receives reports.
    """
    found = []
    for count in track(counts, "measuring answers at once", progress, unit="counts"):
        rounds = [
            measure_streams(engine, [prompt_of(_PROMPT, 1000 * number + stream) for stream in range(count)], WRITTEN)
            for number in range(_ROUNDS + 1)
        ]
        found.append(Streams.of(count, rounds[1:]))
    return found


def _local(model: str, asked: Asked, threads: int | None, offline: bool, progress: Progress) -> Curves:
    from smidgen import registry
    from smidgen.evaluate.measure import find_facts
    from smidgen.inference.engine import ENGINES, open_engine
    from smidgen.inference.scoring import Subject

    facts = find_facts(model, "auto", offline, progress)
    notes, limit = [], facts.context_length
    depths = [depth for depth in asked.depths if limit is None or depth + WRITTEN <= limit]
    if len(depths) < len(asked.depths):
        notes.append(f"Its context of {limit:,} tokens ends before the deepest points.")
    subject = Subject(facts.path, depth=facts.depth)
    deep = depth_curve(subject, depths, threads=threads, progress=progress) if depths else []
    energy = next((each.energy for each in deep if each.energy is not None), None)
    if subject.in_torch:
        if len(asked.streams) > 1:
            notes.append("torch writes one answer after another; more at once only wait.")
        with open_engine(facts.path, threads=threads, depth=facts.depth) as engine:
            streams = stream_curve(engine, [1] if asked.streams else [], progress)
    else:
        kind = registry.find(ENGINES, "llama_cpp")
        slots = max(asked.streams, default=1)
        with kind(facts.path, threads=threads, context=512, slots=slots) as engine:
            streams = stream_curve(engine, asked.streams, progress)
    return Curves(
        model,
        "torch" if subject.in_torch else "llama_cpp",
        tuple(deep),
        tuple(streams),
        energy or energy_of({}, 0, "Energy was not measured: it is at a depth of 0."),
        tuple(notes),
    )


def _remote(model: str, asked: Asked, progress: Progress) -> Curves:
    from smidgen.inference.engine import open_engine

    with open_engine(model) as engine:
        facts = getattr(engine, "facts", None)
        deep = depth_curve_of_engine(engine, asked.depths, progress)
        streams = stream_curve(engine, asked.streams, progress)
    note = "Measured from here, with what the network and the server's queue take; its memory is not seen."
    return Curves(model, getattr(facts, "server", "remote"), tuple(deep), tuple(streams), None, (note,))
