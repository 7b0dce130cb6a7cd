"""How far a model's next-token distributions lie from its source's, measured on the finished files.

Both are read by the engine that runs them, window by window, and compared token by token. Where the result kept only
part of the source's vocabulary, p is the source's distribution restricted to the kept tokens and renormalised,
and the probability that this leaves out is reported as ``dropped_mass``; the source's first choice is still taken
among all of its tokens, so a choice that was removed counts as lost.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from smidgen.errors import Unsupported
from smidgen.evaluate.tally import Chunk, Tally, standard_error, tally
from smidgen.evaluate.windows import Text, Window, cut, recut
from smidgen.inference.scoring import PromptScorer, Subject
from smidgen.progress import Progress, silent, track

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model

PROBABILITIES = tuple(step / 20 for step in range(21))
"""Shares of tokens at which `Quality.kl_quantiles` stand: 0, 5, …, 100%."""


@dataclass(frozen=True)
class Quality:
    """A result measured against its source on one text. Divergences are in nats per token.

    Attributes:
        text: Name of the text.
        tokens: Tokens scored.
        kl_mean: Mean Kullback-Leibler divergence of source ‖ result.
        kl_mean_se: Its standard error, tokens taken as independent (as llama.cpp does).
        kl_median: Half of the tokens lie below.
        kl_p99: 99% of the tokens lie below.
        kl_p999: 99.9% of the tokens lie below.
        kl_quantiles: Divergence below which 0, 5, …, 100% of the tokens lie.
        same_top: Share of tokens where both put the same token first.
        ppl_source: Perplexity of the source on the result's tokens.
        ppl_result: Perplexity of the result on the same tokens.
        ppl_ratio: ``ppl_result / ppl_source``.
        ppl_ratio_se: Its standard error, from the paired differences of log-probabilities (delta method).
        bits_per_byte: Of the result, on its own tokens.
        bits_per_byte_source: Of the source, on its own tokens of the same text.
        dropped_mass: Mean probability that the source gives to tokens that the result no longer has.
        windows: Windows read.
        length: Tokens per window; the first half of each is context only.
        stride: Tokens from one window's beginning to the next one's.
        sha256: Digest of the text.
    """

    text: str
    tokens: int
    kl_mean: float
    kl_mean_se: float
    kl_median: float
    kl_p99: float
    kl_p999: float
    kl_quantiles: tuple[float, ...]
    same_top: float
    ppl_source: float
    ppl_result: float
    ppl_ratio: float
    ppl_ratio_se: float
    bits_per_byte: float
    bits_per_byte_source: float
    dropped_mass: float
    windows: int
    length: int
    stride: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"kl_quantiles": list(self.kl_quantiles)}


@dataclass(frozen=True)
class FileQuality:
    """One file measured alone on one text.

    Attributes:
        text: Name of the text.
        tokens: Tokens scored.
        perplexity: exp of the mean negative log-likelihood.
        perplexity_se: Its standard error (delta method).
        bits_per_byte: Negative log-likelihood in bits per byte of text; compares across tokenizers.
        windows: Windows read.
        length: Tokens per window.
        stride: Tokens from one window's beginning to the next one's.
        sha256: Digest of the text.
    """

    text: str
    tokens: int
    perplexity: float
    perplexity_se: float
    bits_per_byte: float
    windows: int
    length: int
    stride: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Losses:
    """How unlikely one model finds each token of a text.

    Attributes:
        text: Name of the text.
        sha256: Digest of the text.
        nats: -ln p of each scored token.
        scored_bytes: Bytes of text that they stand for.
        windows: Windows read.
        length: Tokens per window.
        tokens: Digest of the windows' tokens: where it is the same, losses can be compared token by token.
    """

    text: str
    sha256: str
    nats: tuple[float, ...]
    scored_bytes: int
    windows: int
    length: int
    tokens: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def quality(self) -> FileQuality:
        """Sum them up."""
        losses = numpy.array(self.nats, numpy.float32)
        perplexity = math.exp(losses.mean(dtype=numpy.float64))
        return FileQuality(
            text=self.text,
            tokens=len(losses),
            perplexity=perplexity,
            perplexity_se=perplexity * standard_error(losses.astype(numpy.float64)),
            bits_per_byte=float(losses.sum(dtype=numpy.float64)) / math.log(2) / self.scored_bytes,
            windows=self.windows,
            length=self.length,
            stride=self.length,
            sha256=self.sha256,
        )

    def bits(self, other: Losses | None = None) -> tuple[float, float]:
        """Return bits per byte and their standard error, or how many more they are than another model's.

        Where both read the same tokens the error is that of the differences token by token, else that of two
        measurements that know nothing of each other, which is wider.
        """
        to_bits = len(self.nats) / math.log(2) / self.scored_bytes
        own = numpy.array(self.nats, numpy.float64)
        if other is None:
            return float(own.mean()) * to_bits, standard_error(own) * to_bits
        theirs = numpy.array(other.nats, numpy.float64)
        if self.tokens == other.tokens:
            return float((own - theirs).mean()) * to_bits, standard_error(own - theirs) * to_bits
        (one, error), (two, their_error) = self.bits(), other.bits()
        return one - two, math.hypot(error, their_error)


@dataclass(frozen=True)
class _Setting:
    """What was read, and how many bytes of text the scored tokens stand for."""

    text: str
    sha256: str
    windows: int
    length: int
    scored_bytes: int


def compare_files(
    source: Path | Subject,
    result: Path | Subject,
    text: Text,
    *,
    windows: int = 8,
    length: int = 512,
    kept_tokens: Sequence[int] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Quality:
    """Measure a finished model against its source, as ``llama-perplexity --kl-divergence`` does.

    llama.cpp runs GGUF files, torch folders; see `Subject`.

    Args:
        source: The source's GGUF or folder, or how it is to be run.
        result: The same of the result.
        text: Text that neither calibration nor training has seen.
        windows: At most so many windows, from the text's beginning.
        length: Tokens per window; those after the first half are scored.
        kept_tokens: Where the vocabulary was pruned, the source's id of each of the result's tokens.
        threads: Threads to compute with; the physical cores where None.
        progress: Told after each window.

    Raises:
        InvalidInput: The text is shorter than one window.
        Unsupported: The two files have different tokens and ``kept_tokens`` does not say how they belong together.
    """
    with (
        PromptScorer(source, threads=threads, context=length) as one,
        PromptScorer(result, threads=threads, context=length) as two,
    ):
        pieces = one.pieces(), two.pieces()
        _require_same_tokens(*pieces, kept_tokens)
        read = cut(two, text, pieces[1], length=length, count=windows)
        stage = f"comparing with the source on {text.name}"
        counted = tally(_file_chunks(one, two, track(read, stage, progress, unit="windows"), kept_tokens), kept_tokens)
        own = None
        if kept_tokens is not None:
            own = _bits_per_byte(one, recut(one, text.content, pieces[0], read))
    setting = _Setting(text.name, text.sha256, len(read), length, sum(window.scored_bytes for window in read))
    return _summary(counted, setting, own)


def compare_models(
    source: Model,
    result: Model,
    windows: torch.Tensor,
    *,
    name: str,
    kept_tokens: Sequence[int] | None = None,
    progress: Progress = silent,
) -> Quality:
    """Measure a model in memory against another one, as `compare_files` does for files.

    Bits per byte are those of the result's tokens for both models.

    Args:
        source: The model to stay close to.
        result: The changed model.
        windows: The result's tokens (int64), [n, length]; those after the first half of each row are scored.
        name: What reports call the text.
        kept_tokens: Where the vocabulary was pruned, the source's id of each of the result's tokens.
        progress: Told after each window.
    """
    length = windows.shape[1]
    counted = tally(
        _model_chunks(source, result, track(windows, name, progress, unit="windows"), kept_tokens), kept_tokens
    )
    scored = result.tokenizer.batch_decode(windows[:, length // 2 + 1 :])
    size = sum(len(each.encode()) for each in scored)
    digest = hashlib.sha256(windows.cpu().numpy().astype("<i8").tobytes()).hexdigest()
    return _summary(counted, _Setting(name, digest, len(windows), length, size), None)


def measure_file(
    path: Path | Subject,
    text: Text,
    *,
    windows: int = 8,
    length: int = 512,
    threads: int | None = None,
    progress: Progress = silent,
) -> FileQuality:
    """Measure perplexity and bits per byte of one GGUF or folder alone, as ``llama-perplexity`` does.

    Args:
        path: The GGUF or folder, or how it is to be run.
        text: What to measure on.
        windows: At most so many windows, from the text's beginning.
        length: Tokens per window; those after the first half are scored.
        threads: Threads to compute with; the physical cores where None.
        progress: Told after each window.

    Raises:
        InvalidInput: The text is shorter than one window.
    """
    with PromptScorer(path, threads=threads, context=length) as scorer:
        return read_losses(scorer, text, windows=windows, length=length, progress=progress).quality()


def read_losses(
    scorer: PromptScorer, text: Text, *, windows: int = 8, length: int = 512, progress: Progress = silent
) -> Losses:
    """Return how unlikely an opened model finds each token of a text, in the windows of `measure_file`.

    Args:
        scorer: The model; its context holds ``length`` tokens at least.
        text: What to measure on.
        windows: At most so many windows, from the text's beginning.
        length: Tokens per window; those after the first half are scored.
        progress: Told after each window.

    Raises:
        InvalidInput: The text is shorter than one window.
    """
    read = cut(scorer, text, scorer.pieces(), length=length, count=windows)
    each = track(read, f"measuring on {text.name}", progress, unit="windows")
    found = numpy.concatenate([-scorer.next_token_logprobs(window.ids, start=window.first) for window in each])
    ids = numpy.concatenate([window.ids for window in read]).astype("<i8")
    return Losses(
        text=text.name,
        sha256=text.sha256,
        nats=tuple(found.tolist()),
        scored_bytes=sum(window.scored_bytes for window in read),
        windows=len(read),
        length=length,
        tokens=hashlib.sha256(ids.tobytes()).hexdigest(),
    )


def _summary(counted: Tally, setting: _Setting, bits_per_byte_source: float | None) -> Quality:
    """Summarise; without ``bits_per_byte_source`` the source has the same tokens as the result."""
    apart = counted.result - counted.source
    ratio = math.exp(apart.mean())
    own = float(counted.source.sum()) / math.log(2) / setting.scored_bytes
    return Quality(
        text=setting.text,
        tokens=len(counted.kl),
        kl_mean=float(counted.kl.mean()),
        kl_mean_se=standard_error(counted.kl),
        kl_median=float(numpy.median(counted.kl)),
        kl_p99=float(numpy.quantile(counted.kl, 0.99)),
        kl_p999=float(numpy.quantile(counted.kl, 0.999)),
        kl_quantiles=tuple(numpy.quantile(counted.kl, PROBABILITIES).tolist()),
        same_top=float(counted.same_top.mean()),
        ppl_source=math.exp(counted.source.mean()),
        ppl_result=math.exp(counted.result.mean()),
        ppl_ratio=ratio,
        ppl_ratio_se=ratio * standard_error(apart),
        bits_per_byte=float(counted.result.sum()) / math.log(2) / setting.scored_bytes,
        bits_per_byte_source=own if bits_per_byte_source is None else bits_per_byte_source,
        dropped_mass=float(counted.dropped.mean()),
        windows=setting.windows,
        length=setting.length,
        stride=setting.length,
        sha256=setting.sha256,
    )


def _file_chunks(
    source: PromptScorer, result: PromptScorer, windows: Iterable[Window], kept: Sequence[int] | None
) -> Iterator[Chunk]:
    import torch

    for window in windows:
        seen = window.ids if kept is None else [kept[token] for token in window.ids]
        rows = [scorer.logits(ids, start=window.first)[:-1] for scorer, ids in ((source, seen), (result, window.ids))]
        targets = torch.tensor(window.ids[window.first + 1 :])
        yield torch.from_numpy(rows[0]), torch.from_numpy(rows[1]), targets


def _model_chunks(
    source: Model, result: Model, windows: Iterable[torch.Tensor], kept: Sequence[int] | None
) -> Iterator[Chunk]:
    import torch

    places = None if kept is None else torch.tensor(kept, dtype=torch.long)
    for window in windows:
        window = window.cpu()
        first, rows = len(window) // 2, []
        for model, ids in ((source, window if places is None else places[window]), (result, window)):
            with torch.no_grad():
                logits = model.module(input_ids=ids[None].to(model.device), logits_to_keep=len(window) - first).logits
            rows.append(logits[0, :-1].float().cpu())
        yield rows[0], rows[1], window[first + 1 :]


def _bits_per_byte(scorer: PromptScorer, windows: Iterable[Window]) -> float:
    total, size = 0.0, 0
    for window in windows:
        total -= float(scorer.next_token_logprobs(window.ids, start=window.first).sum(dtype=numpy.float64))
        size += window.scored_bytes
    return total / math.log(2) / size


def _require_same_tokens(source: Sequence[bytes], result: Sequence[bytes], kept: Sequence[int] | None) -> None:
    if kept is None:
        same = list(source) == list(result)
    else:
        known = len(kept) == len(result) and all(0 <= token < len(source) for token in kept)
        same = known and all(source[token] == piece for token, piece in zip(kept, result, strict=True))
    if not same:
        raise Unsupported(
            f"The two models do not share their tokens ({len(source):,} and {len(result):,}), "
            "so their distributions cannot be compared.",
            remedy="Compare them by bits per byte, each measured alone.",
        )
