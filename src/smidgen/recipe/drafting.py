"""Makes drafts: small models with the vocabulary of a large one, that guess ahead what it will write."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import Unsupported
from smidgen.models.store import Store
from smidgen.progress import Event, Progress, silent
from smidgen.recipe import proof
from smidgen.recipe.create import DRAFT, is_beyond_gguf, require_same_vocabulary
from smidgen.recipe.handover import MODEL
from smidgen.recipe.job import Job, Outcome

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel
    from smidgen.recipe.budget import Budget
    from smidgen.recipe.job import Order
    from smidgen.recipe.journal import Journal

PASSAGES, PASSAGE_CHARACTERS = 4, 400
"""How many passages of the held-out text are continued to count right guesses, and how long they are."""
CALIBRATION_WINDOWS = 1
"""Windows of text that tell which layers change least. With one the model need write none itself, which takes as long
as many steps of healing."""
MEASURED_WINDOWS = 2
"""Windows that are measured where time is short: what counts is how many guesses are right."""
FIXED_SECONDS = 25.0
"""About what speed, memory and right guesses take besides scoring."""


class DraftProof(proof.Proof):
    """Measures a draft: in less of the time allowed than a model that is to be read by people."""

    def windows(self, within: float | None) -> int:
        """Return how many windows of each text to measure in the time allowed."""
        return super().windows(None) if within is None else MEASURED_WINDOWS

    def seconds(self, windows: int) -> float:
        """Return about how long measuring takes."""
        return super().seconds(windows) - proof.FIXED_SECONDS + FIXED_SECONDS

    def samples(self, path: Path) -> list[dict[str, str]]:
        """Ask nothing: nobody reads what a draft says by itself."""
        return []


class _DraftJob(Job):
    """A run that leaves most of its time to healing: a draft's shape and format stand before anything is measured."""

    def __init__(self, order: Order, budget: Budget, journal: Journal, folder: Path, progress: Progress) -> None:
        super().__init__(order, budget, journal, folder, progress)
        self.proof = DraftProof(self.materials, self.proof.source, progress)

    def _windows(self) -> int:
        return CALIBRATION_WINDOWS


def make_draft(
    target: str,
    *,
    data: str | None = None,
    within: str | float | None = None,
    out: str | Path,
    seed: int = 0,
    threads: int | None = None,
    offline: bool = False,
    max_memory: int | None = None,
    fresh: bool = False,
    progress: Progress = silent,
) -> Outcome:
    """Make a draft for a model: cut to few layers, healed to say what the model would, and stored small.

    Where the model is in the store the draft is kept with it, and is used wherever it is measured to help. The
    receipt's ``draft`` says which model it is for, how many of its guesses were right, and what that did to the speed.

    Args:
        target: The model that the draft guesses for; as for `smidgen.recipe.make.make`.
        data: Your text, for healing and measuring.
        within: Time allowed, "4m".
        out: Folder to write.
        seed: Of everything random.
        threads: Threads; the physical cores where None.
        offline: Take only what is on this machine.
        max_memory: Bytes of memory to stay within; what is free where None.
        fresh: Forget an earlier run in the folder.
        progress: Receives reports.

    Raises:
        RecipeError: The time cannot be understood.
        Locked: Another process works in the folder.
        OutOfResources: Too little disk or memory to end well.
        Unsupported: The model is no GGUF and is run as it lies, by torch, which takes no draft.
    """
    from smidgen.models.reference import parse
    from smidgen.models.sources import fetch
    from smidgen.recipe.budget import Budget
    from smidgen.recipe.make import finished_in, order_of
    from smidgen.recipe.quantities import parse_duration
    from smidgen.recipe.run_folder import run_folder

    seconds = None if within is None else parse_duration(within if isinstance(within, str) else f"{within}s")
    order = order_of(target, data=data, seed=seed, threads=threads, offline=offline, max_memory=max_memory)
    budget = Budget(within=seconds)
    identity = {"draft for": target, "data": data, "seed": seed, "threads": order.threads, "within": seconds}
    store = Store()
    local = fetch(parse(target, store), store, offline=offline, progress=progress)
    if is_beyond_gguf(local):
        raise Unsupported(
            f"{local.name} is run by torch, which takes no draft.",
            remedy="Make a GGUF of it first, smidgen create NAME -f Modelfile --quantize q8_0, and the draft for that.",
        )
    with run_folder(Path(out), identity, fresh) as (folder, journal):
        outcome = finished_in(folder, journal) or _DraftJob(order, budget, journal, folder, progress).draft()
        keep_with(local, outcome.folder / MODEL, store)
        return outcome


def measure_guesses(measured: proof.Proof, target: LocalModel, draft: Path) -> dict[str, Any]:
    """Return the receipt's ``draft``: how often a draft's guesses are right on held-out text, and what that gains.

    Args:
        measured: What the draft was measured with.
        target: The model it guesses for.
        draft: The draft, a GGUF.
    """
    from smidgen.inference.llama_server import ServerSettings
    from smidgen.inference.speculation import DRAFT_TOKENS, Speculation
    from smidgen.inference.speculation_trial import measure

    measured.progress(Event("counting right guesses"))
    require_same_vocabulary(measured.source, draft)
    text = measured.texts()[0].content
    places = [number * len(text) // PASSAGES for number in range(PASSAGES)]
    passages = {f"passage {at}": text[at : at + PASSAGE_CHARACTERS] for at in places}
    way = Speculation("draft", str(draft), DRAFT_TOKENS)
    [trial] = measure(measured.source, ServerSettings(threads=measured.materials.threads), [way], passages)
    return {
        "draft": {
            "for": target.name,
            "sha256": target.sha256,
            "tokens": DRAFT_TOKENS,
            "drafted": trial.drafted,
            "accepted": trial.accepted,
            "acceptance": round(trial.accepted / trial.drafted, 4) if trial.drafted else None,
            "times_as_fast": statistics.median(trial.gains.values()),
            "identical": trial.identical,
        }
    }


def keep_with(target: LocalModel, draft: Path, store: Store) -> bool:
    """Keep a draft with the stored model that it guesses for; returns whether the store has that model."""
    from smidgen.models.modelfile import of_facts

    if target.name not in store.names():
        return False
    stored = store.resolve(target.name)
    facts = {**stored.facts, "draft": DRAFT}
    if target.kind == "gguf":
        facts["weights"] = target.path.name
    if facts.get("modelfile"):
        facts["modelfile"] = of_facts(facts).text()
    store.add(stored.name, {**stored.paths, DRAFT: draft}, facts)
    return True
