"""How a served model is loaded, and what that will cost."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from smidgen import machine
from smidgen.errors import Unsupported
from smidgen.inference.footprint import WORKSPACE, cache_bytes_per_token
from smidgen.inference.llama_server import DEFAULT_CONTEXT, LlamaServer, ServerSettings
from smidgen.inference.speculation import SpeculationRequest
from smidgen.inference.speculation_trial import decide
from smidgen.serving.details import header_of, metadata_of, sees
from smidgen.serving.scheduler import LoadOptions, Scheduler

if TYPE_CHECKING:
    from pathlib import Path

    from smidgen.models.store import Store
    from smidgen.serving.library import ServedModel
    from smidgen.serving.runner import Runner
    from smidgen.serving.settings import ServingSettings

_SHARE = 0.9
"""Share of the machine's memory that loaded models may take where nobody says."""

_SMALLEST_CONTEXT = 4

_SMALLEST_SEEING_CONTEXT = 2048
"""An image alone may fill a smaller one."""

_FLOAT_BYTES = 4
"""Bytes of a weight that torch holds as a float, at most."""

_RANK = 4
"""llama.cpp's number for pooling to a score."""


def build_scheduler(settings: ServingSettings, store: Store) -> Scheduler:
    """Build the scheduler that loads models with the engines of this machine.

    Args:
        settings: The server's bounds.
        store: Where GGUF files that had to be written are kept.
    """

    def opener(model: ServedModel, options: LoadOptions) -> Runner:
        return open_runner(model, options, settings, store)

    def estimate(model: ServedModel, options: LoadOptions) -> int:
        return estimate_bytes(model, context_of(model, options, settings) * settings.slots, settings.engine)

    memory = settings.max_memory or math.floor(_SHARE * machine.memory()[0])
    return Scheduler(settings, opener, estimate, memory=memory, most_models=settings.max_loaded or 3)


def open_runner(model: ServedModel, options: LoadOptions, settings: ServingSettings, store: Store) -> Runner:
    """Load a model; takes as long as that takes.

    A folder is turned into a GGUF, once, where that can hold what it is; else torch runs it, one answer at a time.

    Raises:
        EngineFailed: The engine refuses it.
    """
    context = context_of(model, options, settings)
    threads = options.values.get("num_thread") or settings.threads
    path = runnable_path(model, store, settings.engine)
    if options.purpose == "score":
        from smidgen.serving.scoring import open_scorer

        return open_scorer(model, path, context, threads)
    if path is not None and settings.engine not in ("auto", "llama_cpp"):
        return _other_runner(model, options, settings, path)
    if path is not None and path.is_file():
        from smidgen.serving.llama_runner import LlamaRunner

        prepared = _server_settings(model, options, settings, context)
        guessing = decide(path, prepared, _speculation(model, options, settings), store)
        return LlamaRunner(LlamaServer(path, replace(prepared, speculation=guessing)))
    from smidgen.inference.engine import open_engine
    from smidgen.serving.runner import EngineRunner

    if path is None:
        return EngineRunner(open_engine("echo", context=context), context, settings.slots)
    return EngineRunner(open_engine(path, engine="torch", threads=threads, context=context), context, 1)


def _other_runner(model: ServedModel, options: LoadOptions, settings: ServingSettings, path: Path) -> Runner:
    """Load a model into the engine that the server was told to use; vLLM answers several at once."""
    from smidgen.inference.engine import open_engine
    from smidgen.serving.runner import EngineRunner

    assert model.folder is not None
    if options.purpose == "embed" and settings.engine == "vllm":
        raise Unsupported("The engine vllm gives no embeddings: its server is started for models that write.")
    context = context_of(model, options, settings)
    opened = open_engine(
        path,
        engine=settings.engine,
        threads=options.values.get("num_thread") or settings.threads,
        context=context,
        adapters=[model.folder / name for name in model.facts.get("adapters", ())],
        speculation=_speculation(model, options, settings),
    )
    return EngineRunner(opened, context, settings.slots if settings.engine == "vllm" else 1)


def runnable_path(model: ServedModel, store: Store, engine: str = "auto") -> Path | None:
    """Return the file or folder that an engine opens; None for the echo engine."""
    if model.local is None:
        return model.path
    from smidgen.export import runnable

    try:
        return runnable.path_of(model.local, store, engine=engine)
    except Unsupported:
        return model.path


def _server_settings(
    model: ServedModel, options: LoadOptions, settings: ServingSettings, context: int
) -> ServerSettings:
    embeds = options.purpose == "embed"
    assert model.folder is not None
    projector = model.projector if options.purpose == "generate" else None
    return ServerSettings(
        context=context,
        slots=1 if embeds else settings.slots,
        threads=options.values.get("num_thread") or settings.threads,
        batch=options.values.get("num_batch"),
        gpu_layers=options.values.get("num_gpu", -1),
        main_gpu=options.values.get("main_gpu"),
        mmap=options.values.get("use_mmap"),
        shift=not embeds,
        embeddings=embeds,
        pooling=_pooling(model) if embeds else None,
        adapters=tuple(str(model.folder / name) for name in model.facts.get("adapters", ())),
        projector=None if projector is None else str(projector),
        patience=settings.load_timeout,
        type_k=settings.cache_type,
        type_v=settings.cache_type,
    )


def _speculation(model: ServedModel, options: LoadOptions, settings: ServingSettings) -> SpeculationRequest:
    """Return how tokens may be guessed ahead; a server that is to use drafts does so where a model has one."""
    tokens = options.values.get("draft_num_predict")
    draftless = settings.speculate == "draft" and (model.draft is None or tokens == 0)
    off = options.unguessed or options.purpose != "generate" or draftless
    return SpeculationRequest("off" if off else settings.speculate, model.draft, tokens)


def _pooling(model: ServedModel) -> Literal["mean", "rank"] | None:
    if is_reranker(model):
        return "rank"
    return "mean" if is_decoder(model) else None


def is_reranker(model: ServedModel) -> bool:
    """Say whether a model was made to say how well a text answers a question."""
    return bool(header_of(model).of_architecture("pooling_type") == _RANK)


def is_decoder(model: ServedModel) -> bool:
    """Say whether a model was made to write, so that its file does not say how states become one vector."""
    metadata = metadata_of(model)
    return f"{metadata.get('general.architecture')}.pooling_type" not in metadata


def context_of(model: ServedModel, options: LoadOptions, settings: ServingSettings) -> int:
    """Return the context's tokens: what was asked for, within what the model was trained for and the server allows."""
    metadata = metadata_of(model)
    trained = metadata.get(f"{metadata.get('general.architecture')}.context_length") or settings.max_context
    # A longer context than the short rope factors reach would take the long ones for short texts too.
    short = metadata.get(f"{metadata.get('general.architecture')}.rope.scaling.original_context_length")
    wanted = options.context or settings.context or min(DEFAULT_CONTEXT, short or DEFAULT_CONTEXT)
    least = _SMALLEST_SEEING_CONTEXT if sees(model) else _SMALLEST_CONTEXT
    return min(max(least, wanted), max(_SMALLEST_CONTEXT, min(trained, settings.max_context)))


def estimate_bytes(model: ServedModel, context: int, engine: str = "auto") -> int:
    """Estimate what a loaded model takes: its weights, the keys and values of its context, and a workspace.

    Args:
        model: The model.
        context: Tokens of all slots' contexts together.
        engine: What computes; torch holds floats of what is not packed in a format of smidgen's own.
    """
    if model.path is None:
        return 0
    from smidgen.models import packed

    weights = model.bytes
    if engine == "torch" and not packed.is_folder(model.path):
        weights = max(weights, _FLOAT_BYTES * header_of(model).parameters)
    return weights + context * cache_bytes_per_token(metadata_of(model)) + WORKSPACE
