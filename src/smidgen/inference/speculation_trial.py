"""Whether guessing tokens ahead makes a model faster on this machine: tried once, and remembered.

A model writes two short texts greedily without and with each way of guessing, in turns: one that repeats what stands
in its prompt, and one that does not. A way is switched on only where both texts stay the same to the letter and it was
faster: guesses from the context must gain on the repeating text and lose nothing on the other, a draft must gain on
the other.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from smidgen import machine
from smidgen.errors import EngineFailed, SmidgenError
from smidgen.inference.llama_server import EXECUTABLE, LlamaServer, ServerSettings
from smidgen.inference.speculation import OFF, Speculation, SpeculationRequest

if TYPE_CHECKING:
    from smidgen.models.store import Store

GAIN, LOSS = 1.1, 0.97
"""How many times as fast as without it a way of guessing must be where it is to help, and elsewhere."""

MEMORY = "speculation.json"
"""File in the store's cache that remembers."""

_SECONDS = 0.35
_FEWEST, _MOST = 16, 48
_ROUNDS = 3
_CONTEXT = 1024
_VERSION = 1

_NOTE = (
    "Delivery note 4711. From Miller and Sons, 12 Baker Street, to the town library. Contents: 3 oak chairs, 1 round "
    "table, 2 reading lamps, 40 metres of shelf. Delivered on 4 March by the side door and signed for by Ms Ames."
)
PROMPTS = {
    "copying": f"{_NOTE}\n\nThe same note once more, word for word:\n\nDelivery note 4711.",
    "writing": "Question: How do plants make their food from light?\n\nAnswer: Plants",
}
"""What is written: a text that repeats its prompt, and one that does not."""


@dataclass(frozen=True)
class Trial:
    """What a way of guessing was measured to do.

    Attributes:
        speculation: The way.
        gains: How many times as fast as without it each prompt was continued, by the prompt's name.
        identical: Whether all texts were the same to the letter.
        drafted: Tokens that were guessed.
        accepted: Guessed tokens that were right.
    """

    speculation: Speculation
    gains: Mapping[str, float]
    identical: bool
    drafted: int = 0
    accepted: int = 0

    @property
    def helps(self) -> bool:
        """Whether it is worth switching on.

        Example:
            >>> Trial(Speculation("ngram"), {"copying": 1.6, "writing": 1.0}, identical=True).helps
            True
            >>> Trial(Speculation("draft"), {"copying": 1.6, "writing": 1.0}, identical=True).helps
            False
        """
        aim, other = ("writing", "copying") if self.speculation.kind == "draft" else ("copying", "writing")
        return self.identical and self.gains[aim] >= GAIN and self.gains[other] >= LOSS


def decide(
    path: Path, settings: ServerSettings, request: SpeculationRequest, store: Store | None = None
) -> Speculation:
    """Return how tokens are to be guessed ahead: what was asked for, or with "auto" what is measured to help.

    Args:
        path: The model, a GGUF.
        settings: How it will be run. With several slots "auto" is off: what fills one slot's step is missing to others.
        request: What is asked for.
        store: Where is remembered what was measured; the default store where None.
    """
    if request.mode != "auto":
        return next(iter(request.candidates), OFF)
    if settings.slots > 1 or settings.embeddings or settings.projector is not None:
        return OFF
    from smidgen.models.store import Store

    memory = (store or Store()).root / "cache" / MEMORY
    key = _key(path, settings, request.candidates)
    known = _remembered(memory).get(key)
    if known is None:
        try:
            trials = measure(path, settings, request.candidates)
        except SmidgenError:
            return OFF  # what cannot be tried now may be later
        known = {"model": path.name, "kind": _best(trials).kind, "trials": [asdict(trial) for trial in trials]}
        _remember(memory, key, known)
    return next((each for each in request.candidates if each.kind == known["kind"]), OFF)


def measure(
    path: Path, settings: ServerSettings, ways: Sequence[Speculation], prompts: Mapping[str, str] | None = None
) -> list[Trial]:
    """Measure what ways of guessing do to a model's speed, in turns with none.

    Args:
        path: The model, a GGUF.
        settings: How it is run; the context is kept short.
        ways: What is tried.
        prompts: What is continued, by name; `PROMPTS` where None.

    Raises:
        EngineFailed: The engine does not run, or there is too little memory for more than one of it.
    """
    needed = (len(ways) + 1) * path.stat().st_size + (1 << 30)
    if needed > machine.memory()[1]:
        raise EngineFailed("There is too little memory to try out how to guess ahead.")
    arms, asked = [OFF, *ways], PROMPTS if prompts is None else prompts
    short = replace(settings, context=_CONTEXT, slots=1, prompt_cache=0)
    with ExitStack() as open_servers:
        client = open_servers.enter_context(httpx.Client(timeout=300.0, trust_env=False))
        servers = [
            open_servers.enter_context(closing(LlamaServer(path, replace(short, speculation=arm)))) for arm in arms
        ]
        tokens = max(_FEWEST, min(_MOST, int(_SECONDS * _write(client, servers[0], PROMPTS["writing"], 4).rate)))
        runs = [
            [_write(client, server, prompt, tokens) for server in servers]
            for prompt in asked.values()
            for _ in range(_ROUNDS)
        ]
    names = tuple(asked)
    return [_trial(arm, names, [(row[0], row[number]) for row in runs]) for number, arm in enumerate(arms) if number]


@dataclass(frozen=True)
class _Run:
    text: str
    rate: float
    drafted: int
    accepted: int


def _write(client: httpx.Client, server: LlamaServer, prompt: str, tokens: int) -> _Run:
    asked = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": True}
    try:
        response = client.post(server.address + "/completion", json=asked, headers=server.headers)
    except httpx.HTTPError as error:
        raise server.broken_off(error) from error
    if response.status_code != 200:
        raise server.refusal(response.status_code, response.content)
    answer = response.json()
    timings = answer["timings"]
    rate = float(timings["predicted_per_second"])
    return _Run(answer["content"], rate, timings.get("draft_n", 0), timings.get("draft_n_accepted", 0))


def _trial(way: Speculation, names: Sequence[str], pairs: Sequence[tuple[_Run, _Run]]) -> Trial:
    """Compare the runs of a way with those without; the fastest counts, since a busy machine only slows down."""
    gains = {}
    for number, name in enumerate(names):
        rounds = pairs[number * _ROUNDS : (number + 1) * _ROUNDS]
        gains[name] = round(max(way.rate for _, way in rounds) / max(off.rate for off, _ in rounds), 3)
    identical = all(off.text == with_.text for off, with_ in pairs)
    drafted, accepted = (sum(getattr(run, name) for _, run in pairs) for name in ("drafted", "accepted"))
    return Trial(way, gains, identical, drafted, accepted)


def _best(trials: Sequence[Trial]) -> Speculation:
    return next((trial.speculation for trial in trials if trial.helps), OFF)


def _key(path: Path, settings: ServerSettings, ways: Sequence[Speculation]) -> str:
    """Name what decides the outcome: the files, how they are run, the machine and the engine."""
    here = machine.inspect()
    files = [path, *(Path(way.draft) for way in ways if way.draft is not None), *map(Path, settings.adapters)]
    stamps = [(str(each.resolve()), each.stat().st_size, each.stat().st_mtime_ns) for each in files]
    run = (settings.threads, settings.gpu_layers, settings.type_k, settings.type_v)
    place = (here.processor, here.cores_physical, here.versions, os.environ.get(EXECUTABLE))
    told = [_VERSION, stamps, [asdict(way) for way in ways], run, place]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _remembered(memory: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(memory.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {key: value for key, value in found.items() if isinstance(value, dict) and "kind" in value}
    return {}


def _remember(memory: Path, key: str, known: Mapping[str, Any]) -> None:
    from smidgen.models.files import atomic_write, make_folder

    with suppress(OSError):  # a store that cannot be written to is measured for again
        make_folder(memory.parent)
        atomic_write(memory, json.dumps(_remembered(memory) | {key: dict(known)}, indent=1) + "\n")
