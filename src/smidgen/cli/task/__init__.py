"""Ready-made jobs, each with its options: classify, sentiment, moderate, summarize, translate, redact and more.

For example: smidgen task sentiment 'I like it.'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def names() -> list[str]:
    """List the tasks."""
    from smidgen import tasks

    return list(tasks.names())


def command_of(name: str) -> Callable[..., Any]:
    """Make the command of one task out of its fields."""
    from smidgen.cli.task import _command

    return _command.command_of(name)
