"""Writes the report's page from a receipt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from smidgen.errors import Unsupported
from smidgen.evaluate.report import plots, samples, view, words

FORMAT = 1
"""The receipt's format that this report reads."""


def render(receipt: Mapping[str, Any], answers: Sequence[Mapping[str, str]] | None = None) -> str:
    """Write one self-contained HTML page: no network, no scripts; light, dark and on paper.

    The same receipt gives the same bytes. Parts that the receipt does not have are said to be not measured.

    Args:
        receipt: What ``receipt.json`` holds.
        answers: Entries of prompt, source and result; those of the receipt where None.

    Raises:
        Unsupported: The receipt is of another format.
    """
    if receipt.get("format") != FORMAT:
        raise Unsupported(
            f"This receipt has the format {receipt.get('format')!r}; this version of smidgen reads {FORMAT}.",
            remedy="Use the version of smidgen that the receipt names.",
        )
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("smidgen.evaluate", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words.FILTERS)
    shown = answers if answers is not None else receipt.get("samples") or ()
    return environment.get_template("report.html").render(
        style=files("smidgen.evaluate.report").joinpath("report.css").read_text(encoding="utf-8"),
        plots=plots.draw_all(receipt),
        samples=[samples.compare(each) for each in shown],
        **view.contents(receipt),
    )
