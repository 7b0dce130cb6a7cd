"""Who tasks are asked of: a model on this machine, one behind a server, or the reader of words in images alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from smidgen.data.remembering import Notebook
from smidgen.errors import Unsupported
from smidgen.evaluate import room
from smidgen.evaluate.answering import Answering, Likelihoods, Reading, Writing
from smidgen.evaluate.tasks import Exam, TaskScore, take
from smidgen.inference.remote_address import is_address, parse_address
from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    from smidgen.evaluate.benchmarks._benchmark import Answer, Benchmark, Question

LONGEST_CONTEXT = 4096
"""Most tokens of a prompt with its ending; longer ones lose their beginning."""

READER = "ocr"
"""The name that stands for reading the words of images, without any model."""

Engine = Literal["auto", "llama_cpp", "torch"]


@dataclass(frozen=True)
class Respondent:
    """Who answers.

    Attributes:
        name: The name it was asked for by.
        identity: What is the same as long as the same files are run by the same programs.
        path: Its file or folder; None behind a server and of the reader.
        depth: Bits at which a hierarchical model is read.
        engine: What computes.
        context: Tokens of the context it is opened with.
        projector: A GGUF that turns images into what it reads.
        sees: Whether it can be shown images; of a model behind a server only its answer tells.
    """

    name: str
    identity: tuple[Any, ...]
    path: Path | None = None
    depth: int | None = None
    engine: Engine = "auto"
    context: int = LONGEST_CONTEXT
    projector: Path | None = None
    sees: bool = False

    def require_able(self, exam: Exam) -> None:
        """Refuse a task that this one cannot be asked.

        Raises:
            Unsupported: It reads no images, gives no likelihoods, or reads nothing but images.
        """
        benchmark, remote = exam.benchmark, is_address(self.name)
        if self.name == READER and not benchmark.shows_images:
            raise Unsupported(f"The task {exam.task} has no images, and {READER} reads nothing else.")
        if remote and not benchmark.writes:
            raise Unsupported(
                f"The task {exam.task} asks how likely answers are, which {self.name} does not say.",
                remedy="Measure the model's file, or take a task whose answers are written.",
            )
        if benchmark.shows_images and not self.sees:
            raise Unsupported(
                f"The task {exam.task} shows images, and {self.name} reads none.",
                remedy=f"Take a model that does, the address of one, or {READER}, which reads the words alone.",
            )


def measure_tasks(
    model: str,
    exams: Sequence[Exam],
    *,
    engine: Engine = "auto",
    threads: int | None = None,
    offline: bool = False,
    cache: Path | None = None,
    progress: Progress = silent,
) -> list[TaskScore]:
    """Score a model on tasks, through the engine that users get.

    Args:
        model: A name, a folder, a ``.gguf`` file, the address of a model behind a server, or ``ocr``, which answers
            with the words that stand in an image.
        exams: The questions, as `smidgen.evaluate.tasks.read_exam` returns them.
        engine: What computes; ``torch`` dequantises a GGUF and computes in float32.
        threads: Threads to compute with; the physical cores where None.
        offline: Take only what is on this machine.
        cache: Folder that keeps answers; ``scores`` in the store where None.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: There is no such model.
        OutOfResources: It does not fit into memory; it was not loaded.
        Unsupported: A task cannot be asked of it.
        EngineFailed: The engine refuses the file.

    Example:
        (score,) = measure_tasks("smollm2:135m", [read_exam("arc", "ARC-Easy-Test.jsonl", limit=200)])
        print(score.figures["acc_norm"])
    """
    from smidgen.models.store import default_root

    found = find(model, engine=engine, offline=offline, progress=progress)
    for exam in exams:
        found.require_able(exam)
    name = hashlib.sha256(json.dumps(found.identity).encode()).hexdigest()[:32]
    notebook = Notebook((cache or default_root() / "scores") / f"{name}.jsonl")
    with _Opened(found, threads) as opened:
        return [take(exam, model, _Lazily(opened, exam.benchmark), notebook, progress) for exam in exams]


def find(model: str, *, engine: Engine = "auto", offline: bool = False, progress: Progress = silent) -> Respondent:
    """Find who answers; nothing is loaded.

    Raises:
        ReferenceNotFound: There is no such model.
        SourceUnavailable: A server does not answer.
        Unsupported: It lies on another machine, and none may be reached.
    """
    if model == READER:
        return Respondent(model, (READER, *_versions("rapidocr", "onnxruntime")), sees=True)
    if is_address(model):
        if offline and not parse_address(model).is_loopback:
            raise Unsupported(f"{model} lies on another machine, and --offline was asked for.", remedy="Leave it out.")
        from smidgen.inference.engines.remote import Remote

        with Remote(model) as opened:
            return Respondent(model, (model, opened.facts.to_dict()), sees=True)
    return _on_this_machine(model, engine, offline, progress)


def _on_this_machine(model: str, engine: Engine, offline: bool, progress: Progress) -> Respondent:
    from smidgen.evaluate.measure import facts_of
    from smidgen.export import runnable
    from smidgen.inference.setup import Setup
    from smidgen.models.vision.folder import is_seeing

    local = runnable.find(model, offline=offline, progress=progress)
    facts, projector = facts_of(local, engine, progress), Setup.of(local).projector
    context = min(facts.context_length or LONGEST_CONTEXT, LONGEST_CONTEXT)
    room.require(facts, context=context, in_torch=engine == "torch", projector=projector)
    path = facts.path
    files = [*(sorted(path.iterdir()) if path.is_dir() else [path]), *([projector] if projector else [])]
    states = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    more = [] if engine == "auto" else [engine]
    identity = (states, facts.depth, context, _versions("xllamacpp", "torch", "transformers"), *more)
    sees = projector is not None or (path.is_dir() and is_seeing(path))
    return Respondent(model, identity, path, facts.depth, engine, context, projector, sees)


def _versions(*packages: str) -> list[str]:
    from importlib.metadata import PackageNotFoundError

    from smidgen.errors import MissingExtra

    try:
        return [version(package) for package in packages]
    except PackageNotFoundError as error:
        raise MissingExtra.of("reading words off images", str(error.name), "documents") from None


class _Opened:
    """Who answers, loaded at most once at a time: as scorer or as writer, whichever was asked for last."""

    def __init__(self, respondent: Respondent, threads: int | None) -> None:
        self._respondent, self._threads = respondent, threads
        self._stack = ExitStack()
        self._kind: tuple[Any, ...] = ()
        self._answering: Answering | None = None

    def answering(self, benchmark: Benchmark) -> Answering:
        """Return what answers a benchmark's questions."""
        kind = (benchmark.writes, benchmark.stops)
        if self._answering is None or kind != self._kind:
            self._stack.close()
            self._kind, self._answering = kind, self._open(benchmark)
        return self._answering

    def _open(self, benchmark: Benchmark) -> Answering:
        found, threads = self._respondent, self._threads
        if found.name == READER:
            return Reading(threads or 1)
        if not benchmark.writes and found.path is not None:
            from smidgen.inference.scoring import PromptScorer, Subject

            subject = Subject(found.path, found.engine, found.depth)
            scorer = PromptScorer(subject, threads=threads, context=found.context)
            return Likelihoods(self._stack.enter_context(scorer))
        from smidgen.inference.engine import open_engine

        given: dict[str, Any] = {"engine": found.engine, "threads": threads, "context": found.context}
        given |= {"depth": found.depth, "projector": found.projector}
        engine = open_engine(found.name) if found.path is None else open_engine(found.path, **given)
        return Writing(self._stack.enter_context(engine), benchmark.writes, benchmark.stops)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class _Lazily:
    """Opens the model when the first question is asked that nothing is kept of, and counts what was cut."""

    def __init__(self, opened: _Opened, benchmark: Benchmark) -> None:
        self._opened, self._benchmark = opened, benchmark
        self.cut = 0

    def answer(self, before: str, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions that all stand behind the same text."""
        answering = self._opened.answering(self._benchmark)
        earlier = getattr(answering, "cut", 0)
        answers = answering.answer(before, questions)
        self.cut += getattr(answering, "cut", 0) - earlier
        return answers
