"""What the page shows, worked out from a receipt: sentences, table rows and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from smidgen.evaluate.findings import Finding, show_interval
from smidgen.evaluate.report import words
from smidgen.evaluate.report.costs import losses
from smidgen.evaluate.report.setting import commands, machine_rows

_INTERVAL = 1.96  # standard errors to each side of a 95% interval
_PARTS = ("embedding", "attention", "mlp", "head", "other", "vision")


@dataclass(frozen=True)
class Demand:
    """One line of the budget; ``met`` is None where nothing was asked or measured."""

    name: str
    asked: str
    reached: str
    met: bool | None


@dataclass(frozen=True)
class Row:
    """One line of a table that sets the source against the result."""

    name: str
    source: str
    result: str
    change: str = ""


@dataclass(frozen=True)
class Figure:
    """A measured value with the range of its runs, where it is known."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, measured: Any) -> Figure | None:
        """Read a number, or a summary of runs that has a median (or p50)."""
        if isinstance(measured, Mapping):
            middle = measured.get("median", measured.get("p50", measured.get("mean")))
            if middle is None:
                return None
            return cls(middle, measured.get("low", middle), measured.get("high", measured.get("p95", middle)))
        return None if measured is None else cls(measured, measured, measured)

    def shown(self) -> str:
        """The value, followed by its range."""
        if self.low == self.high:
            return words.number(self.value)
        return f"{words.number(self.value)} ({words.number(self.low)} to {words.number(self.high)})"


def contents(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Return every value that the template names."""
    quality: Sequence[Mapping[str, Any]] = receipt.get("quality") or ()
    met = receipt.get("met") or {}
    return {
        "title": _title(receipt),
        "source": receipt["source"],
        "result": receipt["result"],
        "headline": _headline(met),
        "passed": None if not _asked(met) else all(_asked(met).values()),
        "verdict": _verdict(receipt, quality),
        "demands": _demands(receipt, quality, met),
        "costs": losses(receipt, quality),
        "quality": [_quality_column(entry) for entry in quality],
        "quality_names": _QUALITY_NAMES,
        "findings": _findings(receipt),
        "speed": _speed_rows(receipt),
        "parts": _part_rows(receipt),
        "tensors": receipt.get("tensors") or (),
        "predictions": _predictions(receipt, quality),
        "commands": commands(receipt),
        "steps": receipt.get("steps") or (),
        "mixes": (receipt.get("predicted") or {}).get("mixes") or (),
        "plan": receipt.get("plan"),
        "warnings": receipt.get("warnings") or (),
        "machine": machine_rows(receipt),
        "texts": quality,
        "smidgen": receipt.get("smidgen", ""),
    }


def _title(receipt: Mapping[str, Any]) -> str:
    name = str(receipt["source"]["name"])
    return f"{PurePath(name).name if '/' in name else name} at {words.size(receipt['result']['bytes'])}"


def _asked(met: Mapping[str, Any]) -> dict[str, bool]:
    return {name: value for name, value in met.items() if value is not None}


def _headline(met: Mapping[str, Any]) -> str:
    asked = _asked(met)
    if not asked:
        return "No budget was set"
    missed = [{"keep": "quality"}.get(name, name) for name, value in asked.items() if not value]
    return f"Budget missed: {words.listing(missed)}" if missed else "Budget met"


def _verdict(receipt: Mapping[str, Any], quality: Sequence[Mapping[str, Any]]) -> str:
    result, source = receipt["result"]["bytes"], receipt["source"]["bytes"]
    sentence = f"{words.size(result)}, {result / source:.2f} of the source’s bytes"
    if not quality:
        return f"{sentence}; quality not measured."
    first = quality[0]
    same, kl = words.share(first["same_top"]), words.number(first["kl_mean"])
    if first.get("dropped_mass"):
        # With fewer tokens the divergence tells half of the story: text is spelled in more pieces.
        more = first["bits_per_byte"] / first["bits_per_byte_source"] - 1
        kl = f"{kl} over the tokens kept, and {words.share(more)} more bits per byte"
    return f"{sentence}; same top token {same}; KL {kl} on {first['text']}."


def _demands(receipt: Mapping[str, Any], quality: Sequence[Mapping[str, Any]], met: Mapping[str, Any]) -> list[Demand]:
    budget = receipt.get("budget") or {}
    decode = Figure.of((receipt.get("speed") or {}).get("tg128"))
    took, within = receipt.get("seconds"), budget.get("within")

    def asked(value: Any, shown: str) -> str:
        return "nothing asked" if value is None else shown

    fit, speed, keep = budget.get("fit"), budget.get("speed"), budget.get("keep")
    rows = [
        Demand(
            "Size of the file",
            asked(fit, f"at most {words.size(fit)}"),
            _exact(receipt["result"]["bytes"]),
            met.get("size"),
        ),
        Demand(
            "Speed of writing",
            asked(speed, f"at least {words.number(speed)} tokens per second"),
            f"{decode.shown()} tokens per second" if decode else words.NOTHING,
            met.get("speed"),
        ),
        Demand(
            "Quality kept",
            asked(keep, f"at least {words.share(keep)}"),
            _same_top(quality),
            met.get("keep"),
        ),
        Demand(
            "Time to make it",
            asked(within, f"within {words.seconds(within)}"),
            words.seconds(took),
            None if within is None or took is None else took <= within,
        ),
    ]
    if budget.get("for"):
        rows.append(
            Demand("Made for", str(budget["for"]), words.listing([entry["text"] for entry in quality] or ["—"]), None)
        )
    return rows


def _exact(count: int) -> str:
    return f"{words.size(count)} ({count:,} bytes)"


def _same_top(quality: Sequence[Mapping[str, Any]]) -> str:
    if not quality:
        return words.NOTHING
    return f"{words.share(quality[0]['same_top'])} same top token on {quality[0]['text']}"


_QUALITY_NAMES = (
    ("KL divergence, mean", "nats per token, with its 95% interval"),
    ("KL divergence, median", "nats"),
    ("KL divergence, 99%", "nats; 1 token in 100 lies above"),
    ("KL divergence, 99.9%", "nats; 1 token in 1,000 lies above"),
    ("Same top token", "share of tokens"),
    ("Perplexity of the source", "on the same tokens"),
    ("Perplexity of the result", "lower is better"),
    ("Perplexity, result / source", "with its 95% interval"),
    ("Bits per byte of the source", "on its own tokens"),
    ("Bits per byte of the result", "comparable across tokenizers"),
    ("Dropped probability", "on tokens that were removed"),
    ("Tokens scored", "in windows × tokens"),
)


def _quality_column(entry: Mapping[str, Any]) -> dict[str, Any]:
    kl = words.interval(entry["kl_mean"], _INTERVAL * (entry.get("kl_mean_se") or 0.0))
    ratio = words.interval(entry["ppl_ratio"], _INTERVAL * (entry.get("ppl_ratio_se") or 0.0))
    values = [kl, *(words.number(entry.get(name)) for name in ("kl_median", "kl_p99", "kl_p999"))]
    values += [words.share(entry["same_top"])]
    values += [*(words.number(entry.get(name)) for name in ("ppl_source", "ppl_result")), ratio]
    for name in ("bits_per_byte_source", "bits_per_byte"):
        values.append(f"{entry[name]:.3f}" if entry.get(name) is not None else words.NOTHING)
    values.append(words.share(entry["dropped_mass"]) if entry.get("dropped_mass") else "none")
    values.append(
        f"{entry['tokens']:,}" + (f" ({entry['windows']} × {entry['length']})" if entry.get("windows") else "")
    )
    return {"text": entry["text"], "values": values}


def _findings(receipt: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the weaknesses that were looked for, the weak ones first."""
    found = [Finding.from_dict(each) for each in receipt.get("findings") or ()]
    return [
        {
            "name": each.name.replace("_", " ").capitalize(),
            "figure": show_interval(each),
            "weak": each.weak,
            "sentence": each.sentence,
        }
        for each in sorted(found, key=lambda each: not each.weak)
    ]


def _speed_rows(receipt: Mapping[str, Any]) -> list[Row]:
    speed, memory = receipt.get("speed") or {}, receipt.get("memory") or {}
    before = speed.get("source") or {}
    rows = []
    for name, label, unit in (
        ("pp512", "Reading a prompt of 512 tokens", "tokens/s"),
        ("tg128", "Writing 128 tokens", "tokens/s"),
        ("ttft_ms", "Time to the first token", "ms"),
        ("load_s", "Loading the model", "s"),
    ):
        one, two = Figure.of(before.get(name)), Figure.of(speed.get(name))
        rows.append(_figure_row(f"{label} ({unit})", one, two))
    one, two = memory.get("source_peak_rss_bytes"), memory.get("peak_rss_bytes")
    change = f"{two / one:.2f}×" if one and two else ""
    rows.append(Row("Peak memory", words.size(one), words.size(two), change))
    return rows


def _figure_row(name: str, one: Figure | None, two: Figure | None) -> Row:
    change = ""
    if one and two and one.value and min(one.low, one.high) > 0:
        change = f"{two.value / one.value:.2f}×"
        low, high = two.low / one.high, two.high / one.low
        if f"{low:.2f}" != f"{high:.2f}":
            change += f" ({low:.2f} to {high:.2f})"
    return Row(name, one.shown() if one else words.NOTHING, two.shown() if two else words.NOTHING, change)


def _part_rows(receipt: Mapping[str, Any]) -> list[Row]:
    parts = receipt.get("parts") or {}
    before, after = parts.get("before") or {}, parts.get("after") or {}
    rows = []
    for name in _PARTS:
        one, two = before.get(name) or 0, after.get(name) or 0
        if one or two:
            shown = {"mlp": "MLP"}.get(name, name.capitalize())
            rows.append(Row(shown, words.size(one), words.size(two), f"{two / one:.2f}×" if one else ""))
    return rows


def _predictions(receipt: Mapping[str, Any], quality: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows of predicted (as ``source``) against measured (as ``result``)."""
    predicted = receipt.get("predicted") or {}
    decode = Figure.of((receipt.get("speed") or {}).get("tg128"))
    pairs: list[tuple[str, Any, Any, Any]] = [
        (f"KL on {entry['text']} (nats per token)", predicted.get("kl_mean"), entry["kl_mean"], words.number)
        for entry in quality
    ]
    pairs.append(("Size of the file", predicted.get("bytes"), receipt["result"]["bytes"], words.size))
    pairs.append(
        ("Writing (tokens/s)", predicted.get("tokens_per_second"), decode.value if decode else None, words.number)
    )
    return [
        Row(name, shown(one), shown(two), f"{two / one:.2f}×" if one and two is not None else "")
        for name, one, two, shown in pairs
        if one is not None
    ]
