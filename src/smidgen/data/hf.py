"""Data sets of the Hugging Face hub, through the ``datasets`` library; only data files, never code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from smidgen.data.readers._shapes import rows_from
from smidgen.data.rows import Corpus
from smidgen.errors import InvalidInput, MissingExtra, ReferenceNotFound, SourceUnavailable, Unsupported

if TYPE_CHECKING:
    from datasets import Dataset

PREFIX = "hf:"
_SPEC = re.compile(r"hf:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?(?P<rest>(?::[^:]+){0,2})")
_SPLIT = re.compile(r"(train|test|validation|valid|dev|eval)\w*(\[.*\])?(\+.*)?|\w+\[.*\]")


def load_hub(spec: str, *, offline: bool = False) -> Corpus:
    """Load one split of a data set.

    Args:
        spec: ``hf:org/name[@revision][:configuration][:split]``; the split is ``train`` unless named. A single part
            that looks like a split (``test``, ``train[:500]``) is one.
        offline: Use only what lies in the local cache.

    Raises:
        MissingExtra: The ``datasets`` library is not installed.
        InvalidInput: The reference cannot be understood, or configuration or split do not exist.
        ReferenceNotFound: The hub has no such data set, or it is private or gated.
        SourceUnavailable: The hub cannot be reached and the cache does not hold it.
        Unsupported: The data set can only be loaded by running its own code.
    """
    name, revision, configuration, part = parse(spec)
    try:
        import datasets
    except ImportError:
        raise MissingExtra.of("loading data sets of the hub", "datasets", "data") from None
    with _quiet(offline):
        try:
            data = datasets.load_dataset(name, configuration, split=part, revision=revision)
        except datasets.exceptions.DatasetNotFoundError:
            raise ReferenceNotFound(
                f"The hub has no data set {name!r} that you may read.",
                remedy="Check its name; for a gated or private one accept its terms and set HF_TOKEN.",
            ) from None
        except (ConnectionError, FileNotFoundError) as error:
            why = "offline is asked for and it is not in the local cache" if offline else _line(error)
            raise SourceUnavailable(
                f"The data set {name!r} cannot be had: {why}.", remedy="Connect to the hub, or give a local file."
            ) from None
        except RuntimeError as error:
            raise Unsupported(
                f"The data set {name!r} cannot be loaded: {_line(error)}.",
                remedy="smidgen never runs code of a data set; download its files and name one of them.",
            ) from None
        except (ValueError, datasets.exceptions.DatasetsError) as error:
            raise InvalidInput(
                f"{spec}: {_line(error)}.", remedy="Name configuration and split: hf:org/name:configuration:split"
            ) from None
    return from_dataset(data, spec)


def from_dataset(data: Dataset, name: str) -> Corpus:
    """Turn a loaded data set into a corpus; numbered classes become their names.

    Raises:
        InvalidInput: Its rows have no known shape.
    """
    label = data.features.get("label")
    named = getattr(label, "int2str", None)

    def records() -> Iterator[tuple[str, dict[str, Any]]]:
        for number, record in enumerate(data, 1):
            if named is not None and record["label"] is not None and record["label"] >= 0:
                record = {**record, "label": named(record["label"])}
            yield f"{name}, row {number}", record

    rows, warnings = rows_from(records(), name)
    return Corpus(name, rows, data.info.license or None, warnings)


def parse(spec: str) -> tuple[str, str | None, str | None, str]:
    """Take a reference apart into name, revision, configuration and split.

    Raises:
        InvalidInput: It does not have the form ``hf:org/name[@revision][:configuration][:split]``.

    Example:
        >>> parse("hf:openai/gsm8k:main:test")
        ('openai/gsm8k', None, 'main', 'test')
        >>> parse("hf:org/name:train[:500]")
        ('org/name', None, None, 'train[:500]')
    """
    head, bracket, slice_ = spec.partition("[")
    match = _SPEC.fullmatch(head)
    if match is None:
        raise InvalidInput(
            f"{spec!r} is not a data set of the hub.", remedy="Write hf:org/name[:configuration][:split]"
        )
    parts = [part for part in match["rest"].split(":") if part]
    if bracket and parts:
        parts[-1] += bracket + slice_
    if len(parts) == 1:
        parts = [None, parts[0]] if _SPLIT.fullmatch(parts[0]) else [parts[0], "train"]
    configuration, part = parts or (None, "train")
    return match["name"], match["revision"], configuration, part or "train"


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


@contextmanager
def _quiet(offline: bool) -> Iterator[None]:
    """Hold back the library's progress bars, and its network use where asked."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    shown = datasets.are_progress_bars_disabled()
    datasets.config.HF_HUB_OFFLINE = before or offline
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
        if not shown:
            datasets.enable_progress_bars()
