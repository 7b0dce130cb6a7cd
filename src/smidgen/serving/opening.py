"""How a served model is loaded, and what that will cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import psutil

from smidgen.serving.scheduler import LoadOptions, Scheduler

if TYPE_CHECKING:
    from smidgen.serving.library import ServedModel
    from smidgen.serving.runner import Runner
    from smidgen.serving.settings import ServingSettings

_SHARE = 0.9


def build_scheduler(settings: ServingSettings) -> Scheduler:
    """Build the scheduler that loads models with the engines of this machine."""

    def opener(model: ServedModel, options: LoadOptions) -> Runner:
        return open_runner(model, options, settings)

    def estimate(model: ServedModel, options: LoadOptions) -> int:
        return model.bytes

    memory = settings.max_memory or math.floor(_SHARE * psutil.virtual_memory().total)
    return Scheduler(settings, opener, estimate, memory=memory, most_models=settings.max_loaded or 3)


def open_runner(model: ServedModel, options: LoadOptions, settings: ServingSettings) -> Runner:
    """Load a model; takes as long as that takes."""
    from smidgen.inference.engine import open_engine
    from smidgen.serving.runner import EngineRunner

    context = options.context or settings.context
    threads = options.values.get("num_thread") or settings.threads
    engine = open_engine(model.path or "echo", engine=model.engine, threads=threads, context=context)
    return EngineRunner(engine, context, settings.slots)
