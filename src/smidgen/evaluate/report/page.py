"""Writes the pages of reports: of a made model from its receipt, of several models from their comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from smidgen.errors import Unsupported
from smidgen.evaluate.report import comparison, plots, samples, view, words

FORMAT = 1
"""The format of receipts and comparisons that these pages read."""


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
    shown = answers if answers is not None else receipt.get("samples") or ()
    return _fill(
        "report.html",
        view.contents(receipt),
        plots=plots.draw_all(receipt),
        samples=[samples.compare(each) for each in shown],
    )


def render_comparison(plain: Mapping[str, Any]) -> str:
    """Write the page of several models side by side, in the manner of `render`.

    Args:
        plain: What `smidgen.evaluate.comparing.results.Comparison.to_dict` returns, or a ``.json`` that it was kept in.

    Raises:
        Unsupported: It is of another format.
    """
    if plain.get("format") != FORMAT:
        raise Unsupported(f"This comparison has the format {plain.get('format')!r}; this version reads {FORMAT}.")
    return _fill("comparison.html", comparison.contents(plain, plain["letters"]))


def _fill(template: str, contents: Mapping[str, Any], **more: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("smidgen.evaluate", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words.FILTERS)
    style = files("smidgen.evaluate.report").joinpath("report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **contents, **more)
