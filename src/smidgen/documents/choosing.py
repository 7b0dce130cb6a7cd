"""The model's part: choosing among candidates by log-likelihood, and writing free text under a grammar."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    from smidgen.documents.ranking import Ranked
    from smidgen.documents.schema import Field
    from smidgen.inference.engine import Engine
    from smidgen.inference.scoring import PromptScorer

CONTEXT = 2048
_SURE, _APART = 2.0, 1.2
"""Log-odds from which on the layout's own choice needs no second opinion, and how far it must be ahead."""
_HOPELESS = -2.6
_MOST_ASKED = 5
_WEIGHT, _MOST = 0.35, 1.6
"""What a nat of the model counts in log-odds, and the most that its opinion may change."""
_NEUTRAL = "Value"
_LONGEST_ANSWER, _LONGEST_SEEN = 160, 1200
_PICTURE_TOKENS = 2048
"""Tokens of the context that are kept for a picture: seven tiles of 256 take 1,792."""
_TEXT_SHOWN = 3000


class Chooser(Protocol):
    """What is asked where the layout leaves a doubt.

    Attributes:
        name: The model.
        sees: Whether it reads pictures.
    """

    name: str
    sees: bool

    def reconsider(self, fields: Sequence[Field], pools: Mapping[str, list[Ranked]]) -> dict[str, list[Ranked]]:
        """Return the candidates of each field in the order that the model and the layout give together."""
        ...

    def write(self, fields: Sequence[Field], text: str) -> dict[str, str]:
        """Write the values of fields that ask for free text."""
        ...

    def see(self, question: str, schema: Mapping[str, Any], pictures: Sequence[bytes]) -> dict[str, Any]:
        """Answer a question about pictures, held to a schema; empty where the answer is none."""
        ...


class ModelChooser:
    """A language model that scores candidates.

    A candidate counts by how much likelier the field's name makes it than the bare word "Value" does, both behind
    the lines that the candidates stand in: ``ln p(c | lines, name) - ln p(c | lines, "Value")``. What is common to
    all fields (a value's length, its place, how often it occurs) falls out of the difference, which even a model of
    135 million parameters can tell.

    Args:
        name: What the model is called.
        path: The file or folder.
        threads: Threads to compute with.
        projector: A GGUF that turns pictures into what the model reads.
    """

    def __init__(self, name: str, path: Path, threads: int, projector: Path | None = None) -> None:
        from smidgen.models.vision.folder import is_seeing

        self.name, self._path, self._threads, self._projector = name, path, threads, projector
        self.sees = projector is not None or (path.is_dir() and is_seeing(path))
        self._scorer: PromptScorer | None = None

    def reconsider(self, fields: Sequence[Field], pools: Mapping[str, list[Ranked]]) -> dict[str, list[Ranked]]:
        """Return the candidates of each field, those in doubt weighed by the model too."""
        return {field.path: self._weighed(field, pools.get(field.path, [])) for field in fields}

    def write(self, fields: Sequence[Field], text: str) -> dict[str, str]:
        """Write the values of fields that ask for free text, held to a schema that bounds their length."""
        from smidgen.inference.engine import Message, open_engine
        from smidgen.inference.options import GenerationOptions

        options = GenerationOptions(temperature=0.0, seed=0, num_predict=_LONGEST_ANSWER)
        written: dict[str, str] = {}
        with open_engine(self._path, threads=self._threads, context=CONTEXT) as engine:
            for field in fields:
                most = min(int(field.schema.get("maxLength", 400)), 600)
                answer = {
                    "type": "object",
                    "properties": {"answer": {"type": "string", "maxLength": most}},
                    "required": ["answer"],
                }
                _hold(engine, answer)
                asked = str(field.schema.get("description") or f"Write the {field.title} of this document.")
                prompt = f"{text[:_TEXT_SHOWN]}\n\n{asked} Answer as JSON with the key answer."
                said = "".join(chunk.text for chunk in engine.chat([Message("user", prompt)], options))
                written[field.path] = " ".join(str(_object(said).get("answer") or "").split())[:most]
        return written

    def see(self, question: str, schema: Mapping[str, Any], pictures: Sequence[bytes]) -> dict[str, Any]:
        """Answer a question about pictures, held to a schema; empty where the answer breaks off."""
        from smidgen.inference.engine import Message, open_engine
        from smidgen.inference.options import GenerationOptions

        self.close()  # two copies of a model that sees may not fit
        options = GenerationOptions(temperature=0.0, seed=0, num_predict=_LONGEST_SEEN)
        context = CONTEXT + _PICTURE_TOKENS * len(pictures)
        with open_engine(self._path, threads=self._threads, context=context, projector=self._projector) as engine:
            _hold(engine, schema)
            message = Message("user", question, images=tuple(pictures))
            return _object("".join(chunk.text for chunk in engine.chat([message], options)))

    def close(self) -> None:
        """Give the model's memory back. May be called again."""
        if self._scorer is not None:
            self._scorer.close()
            self._scorer = None

    def _weighed(self, field: Field, pool: list[Ranked]) -> list[Ranked]:
        asked = _doubtful(pool)
        if len(asked) < 2:
            return pool
        opinions = self._opinions(field, asked)
        middle = sum(opinions) / len(opinions)
        moved = {
            id(each): replace(each, logit=each.logit + max(-_MOST, min(_MOST, _WEIGHT * (opinion - middle))))
            for each, opinion in zip(asked, opinions, strict=True)
        }
        return sorted((moved.get(id(each), each) for each in pool), key=lambda each: -each.logit)

    def _opinions(self, field: Field, asked: Sequence[Ranked]) -> list[float]:
        """Return for each candidate how much likelier the field's name makes it, in nats."""
        scorer = self._opened()
        lines = "\n".join(dict.fromkeys(each.context for each in asked))
        shared = scorer.tokenize(lines[-_TEXT_SHOWN:] + "\n\n", special=True)
        endings = [scorer.tokenize(f" {each.candidate.text[:80]}") for each in asked]
        title = field.title[:1].upper() + field.title[1:]
        questions = [(scorer.tokenize(f"{name}:"), endings) for name in (title, _NEUTRAL)]
        named, bare = scorer.endings(questions, shared=shared[-(CONTEXT - 256) :])
        return [one.log_probability - other.log_probability for one, other in zip(named, bare, strict=True)]

    def _opened(self) -> PromptScorer:
        if self._scorer is None:
            from smidgen.inference.scoring import PromptScorer

            self._scorer = PromptScorer(self._path, threads=self._threads, context=CONTEXT)
        return self._scorer


def _doubtful(pool: Sequence[Ranked]) -> list[Ranked]:
    """Return the candidates of different values among which the layout does not decide; none where it does."""
    kept: dict[str, Ranked] = {}
    for each in pool:
        if each.logit > _HOPELESS and math.isfinite(each.logit):
            kept.setdefault(str(each.candidate.value), each)
    rivals = list(kept.values())[:_MOST_ASKED]
    if len(rivals) < 2 or rivals[0].logit - rivals[1].logit > _APART or rivals[0].logit > _SURE + _APART:
        return []
    return [each for each in rivals if rivals[0].logit - each.logit < 2 * _MOST]


def _hold(engine: Engine, schema: Mapping[str, Any]) -> None:
    """Hold an engine's answers to a schema, where it can."""
    from smidgen.inference.structured import schema_of

    hold = getattr(engine, "hold_to", None)
    if hold is not None:
        hold(schema_of(dict(schema), most_bytes=1 << 16))


def _object(said: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def opened(
    model: str | None, *, threads: int = 1, offline: bool = False, progress: Progress = silent
) -> Iterator[ModelChooser | None]:
    """Lend the model that chooses; None where none is asked.

    Raises:
        SmidgenError: There is no such model, or it cannot be had.
    """
    if model is None:
        yield None
        return
    from smidgen.export import runnable
    from smidgen.inference.setup import Setup

    local = runnable.find(model, offline=offline, progress=progress)
    path = runnable.path_of(local, progress=progress)
    chooser = ModelChooser(model, path, threads, Setup.of(local).projector)
    try:
        yield chooser
    finally:
        chooser.close()
