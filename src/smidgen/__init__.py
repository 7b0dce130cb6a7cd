"""smidgen makes small language models out of big ones, proves what was kept, and runs them anywhere.

The public verbs are loaded when they are first used, so that ``import smidgen`` stays instant.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smidgen.documents.extract import extract as extract
    from smidgen.evaluate.compare import compare as compare
    from smidgen.evaluate.measure import measure as measure
    from smidgen.models.load import load as load
    from smidgen.recipe.make import apply as apply
    from smidgen.recipe.make import make as make
    from smidgen.recipe.verify import verify as verify
    from smidgen.verbs import distill as distill
    from smidgen.verbs import finetune as finetune
    from smidgen.verbs import merge as merge
    from smidgen.verbs import prune as prune
    from smidgen.verbs import pull as pull
    from smidgen.verbs import quantize as quantize
    from smidgen.verbs import run as run

# The same work must give the same bytes: MKL otherwise lets a buffer's address decide how it sums. It reads this once.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

_VERBS = {
    "apply": "smidgen.recipe.make",
    "compare": "smidgen.evaluate.compare",
    "distill": "smidgen.verbs",
    "extract": "smidgen.documents.extract",
    "finetune": "smidgen.verbs",
    "load": "smidgen.models.load",
    "make": "smidgen.recipe.make",
    "measure": "smidgen.evaluate.measure",
    "merge": "smidgen.verbs",
    "prune": "smidgen.verbs",
    "pull": "smidgen.verbs",
    "quantize": "smidgen.verbs",
    "run": "smidgen.verbs",
    "verify": "smidgen.recipe.verify",
}
"""Public verb -> the module that holds the function of that name."""

__version__: str

__all__ = [
    "__version__",
    "apply",
    "compare",
    "distill",
    "extract",
    "finetune",
    "load",
    "make",
    "measure",
    "merge",
    "prune",
    "pull",
    "quantize",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("smidgen")
    elif name in _VERBS:
        value = getattr(importlib.import_module(_VERBS[name]), name)
    elif name == "tasks":
        value = importlib.import_module("smidgen.tasks")
    else:
        raise AttributeError(f"module 'smidgen' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
