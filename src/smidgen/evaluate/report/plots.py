"""The report's drawings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.evaluate.report import words
from smidgen.evaluate.report.costs import curves_of
from smidgen.evaluate.report.svg import COLOURS, Drawing

_PARTS = {"embedding": "c1", "attention": "c2", "mlp": "c3", "head": "c4", "other": "c5"}
_STEPS = 6
_LINES = (("c1", "-"), ("c2", "--"), ("c3", "-."), ("c4", ":"))
_PLACES = {
    "query": ("q_proj", "attn_q"),
    "key": ("k_proj", "attn_k"),
    "value": ("v_proj", "attn_v"),
    "output": ("o_proj", "attn_output"),
    "gate": ("gate_proj", "ffn_gate"),
    "up": ("up_proj", "ffn_up"),
    "down": ("down_proj", "ffn_down"),
    "embedding": ("embed_tokens", "token_embd"),
    "head": ("lm_head", "output"),
}
_LAYER = re.compile(r"(?:layers|blk|h)\.(\d+)\.(.*)")


@dataclass(frozen=True)
class Plot:
    """A drawing and its caption."""

    svg: str
    caption: str


def draw_all(receipt: Mapping[str, Any]) -> dict[str, Plot | None]:
    """Draw what the receipt has figures for; None stands for the rest."""
    quality = receipt.get("quality") or ()
    tensors = receipt.get("tensors") or ()
    return {
        "parts": _parts(receipt.get("parts") or {}),
        "bits": _bits(tensors),
        "damage": _damage(tensors, quality, receipt.get("predicted") or {}),
        "quantiles": _quantiles([entry for entry in quality if entry.get("kl_quantiles")]),
        "curves": _curves(curves_of(receipt)),
    }


def place(name: str) -> tuple[int | None, str]:
    """Tell the layer and the projection of a tensor from its name in safetensors or in GGUF.

    Example:
        >>> place("model.layers.3.self_attn.q_proj.weight"), place("blk.3.ffn_up.weight"), place("token_embd.weight")
        ((3, 'query'), (3, 'up'), (None, 'embedding'))
    """
    match = _LAYER.search(name)
    layer, rest = (int(match[1]), match[2]) if match else (None, name)
    found = (kind for kind, known in _PLACES.items() if set(known) & set(rest.split(".")))
    return layer, next(found, "other")


def _parts(parts: Mapping[str, Mapping[str, int]]) -> Plot | None:
    before, after = parts.get("before"), parts.get("after")
    if not before or not after:
        return None
    with Drawing("parts", 9, 2.1) as drawing:
        axes, offsets = drawing.axes, [0.0, 0.0]
        for name, colour in _PARTS.items():
            sizes = [(side.get(name) or 0) / 1e6 for side in (before, after)]
            if any(sizes):
                label = {"mlp": "MLP"}.get(name, name)
                bars = axes.barh([1, 0], sizes, left=offsets, height=0.62, color=COLOURS[colour], label=label)
                bars[0].set_edgecolor(COLOURS["surface"])
                bars[1].set_edgecolor(COLOURS["surface"])
                offsets = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
        for row, total in zip((1, 0), offsets, strict=True):
            axes.text(total + max(offsets) * 0.01, row, words.size(1e6 * total), va="center")
        axes.set_yticks([1, 0], ["source", "result"])
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, max(offsets) * 1.12)
        axes.set_xlabel("MB")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        drawing.figure.legend(loc="outside upper left", ncols=5, handlelength=1, columnspacing=1.4)
        totals = " and ".join(words.size(1e6 * total) for total in offsets)
        return Plot(drawing.svg(f"Bars of size by part: source and result have {totals}."), "Size by part.")


def _bits(tensors: Sequence[Mapping[str, Any]]) -> Plot | None:
    placed = [(*place(tensor["name"]), tensor) for tensor in tensors if tensor.get("bits_per_weight") is not None]
    kinds = [kind for kind in _PLACES if any(layer is not None and kind == found for layer, found, _ in placed)]
    cells = [(layer, kind, tensor) for layer, kind, tensor in placed if layer is not None and kind in kinds]
    if not cells:
        return None
    scale = _scale([tensor for _, _, tensor in cells])
    layers = max(layer for layer, _, _ in cells) + 1
    with Drawing("bits", 9, 1.0 + 0.3 * len(kinds)) as drawing:
        axes = drawing.axes
        for layer, kind, tensor in cells:
            colour = next(colour for most, colour, _ in scale if tensor["bits_per_weight"] <= most)
            axes.bar(layer, 0.86, 0.88, len(kinds) - 1.43 - kinds.index(kind), color=COLOURS[colour], linewidth=0)
        axes.set_yticks(range(len(kinds)), kinds[::-1])
        axes.set_xticks(range(0, layers, 5 if layers > 12 else 1))
        axes.tick_params(length=0)
        axes.set_xlim(-0.6, layers - 0.4)
        axes.set_ylim(-0.6, len(kinds) - 0.4)
        axes.set_xlabel("layer")
        axes.spines[:].set_visible(False)
        _bits_legend(drawing, scale)
        bits = [tensor["bits_per_weight"] for _, _, tensor in cells]
        description = f"Bits per weight of projections in {layers} layers, from {min(bits):.2f} to {max(bits):.2f}."
        return Plot(drawing.svg(description), f"Bits per weight by layer and projection. {_outside(placed)}".strip())


def _scale(tensors: Sequence[Mapping[str, Any]]) -> list[tuple[float, str, str]]:
    """Return upper bound in bits, colour and label of each step: one per number of bits where they are few."""
    seen = sorted({tensor["bits_per_weight"] for tensor in tensors})
    size = -(-len(seen) // _STEPS)
    groups = [seen[begin : begin + size] for begin in range(0, len(seen), size)]
    scale = []
    for number, group in enumerate(groups):
        step = 1 + round((number + 0.5) * _STEPS / len(groups) - 0.5)
        names = sorted({str(tensor.get("format", "")) for tensor in tensors if tensor["bits_per_weight"] in group})
        bits = f"{group[0]:.4g}" if len(group) == 1 else f"{group[0]:.4g} to {group[-1]:.4g}"
        scale.append((group[-1], f"s{step}", f"{bits} ({', '.join(names)})" if len(names) < 3 else bits))
    return scale


def _bits_legend(drawing: Drawing, scale: Sequence[tuple[float, str, str]]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=COLOURS[colour], label=label) for _, colour, label in scale]
    drawing.figure.legend(handles=patches, loc="outside upper left", ncols=6, handlelength=1, columnspacing=1.4)


def _outside(placed: Sequence[tuple[int | None, str, Mapping[str, Any]]]) -> str:
    """Name the matrices that lie outside the layers."""
    named = [
        f"{kind.capitalize()}: {tensor.get('format', '')} at {tensor['bits_per_weight']:.2f}."
        for layer, kind, tensor in placed
        if layer is None and kind in ("embedding", "head")
    ]
    return " ".join(named)


def _damage(
    tensors: Sequence[Mapping[str, Any]], quality: Sequence[Mapping[str, Any]], predicted: Mapping[str, Any]
) -> Plot | None:
    """Predicted divergence, by the kind of tensor that causes it, over the measured one of each text."""
    sums: dict[str, float] = {}
    for tensor in tensors:
        part = _part_of(place(tensor["name"])[1])
        sums[part] = sums.get(part, 0.0) + (tensor.get("damage_predicted") or 0.0)
    total = predicted.get("kl_mean", sum(sums.values()))
    if not quality or not total:
        return None
    rest = total - sum(sums.values())
    if rest > 0.01 * total:
        sums["cutting"] = rest
    with Drawing("damage", 9, 1.15 + 0.4 * len(quality)) as drawing:
        axes, offset, rows = drawing.axes, 0.0, len(quality)
        for name, colour in (*_PARTS.items(), ("cutting", "line")):
            if sums.get(name):
                label = {"mlp": "MLP"}.get(name, name)
                axes.barh(
                    rows, sums[name], 0.62, left=offset, color=COLOURS[colour], ec=COLOURS["surface"], label=label
                )
                offset += sums[name]
        for number, entry in enumerate(quality):
            error = 1.96 * (entry.get("kl_mean_se") or 0.0)
            style = {"color": COLOURS["ink"], "ecolor": COLOURS["ink"], "elinewidth": 1.2, "capsize": 3}
            axes.barh(rows - 1 - number, entry["kl_mean"], 0.62, xerr=error, color=COLOURS["muted"], error_kw=style)
        names = [*(f"measured, {entry['text']}" for entry in quality), "predicted"]
        axes.set_yticks([*range(rows - 1, -1, -1), rows], names)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("mean KL divergence, nats per token")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        drawing.figure.legend(loc="outside upper left", ncols=6, handlelength=1, columnspacing=1.4)
        measured = ", ".join(f"{words.number(entry['kl_mean'])} on {entry['text']}" for entry in quality)
        description = f"Predicted divergence {words.number(total)}; measured {measured}."
        return Plot(drawing.svg(description), "Damage predicted, by the part that causes it, against damage measured.")


def _part_of(kind: str) -> str:
    if kind in ("query", "key", "value", "output"):
        return "attention"
    return "mlp" if kind in ("gate", "up", "down") else kind


def _quantiles(quality: Sequence[Mapping[str, Any]]) -> Plot | None:
    if not quality:
        return None
    with Drawing("quantiles", 9, 3) as drawing:
        axes = drawing.axes
        for number, entry in enumerate(quality):
            values = entry["kl_quantiles"]
            colour, dashes = _LINES[number % len(_LINES)]
            shares = [100 * step / (len(values) - 1) for step in range(len(values))]
            shown = [max(value, 1e-6) for value in values]
            axes.plot(shares, shown, dashes, color=COLOURS[colour], lw=2, marker="o", ms=3.2, label=entry["text"])
        axes.set_yscale("log")
        axes.set_xlim(0, 101)
        axes.set_xlabel("share of tokens, %")
        axes.set_ylabel("KL divergence below, nats")
        axes.grid()
        axes.tick_params(which="both", length=0)
        drawing.figure.legend(loc="outside upper left", ncols=4, columnspacing=1.4)
        halves = ", ".join(f"{words.number(entry['kl_median'])} on {entry['text']}" for entry in quality)
        description = f"Divergence below which a share of the tokens lies; half of them lie below {halves}."
        return Plot(drawing.svg(description), "How the divergence is spread over tokens (logarithmic).")


def _curves(curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> Plot | None:
    if not curves:
        return None
    with Drawing("curves", 9, 2.8) as drawing:
        axes = drawing.axes
        for number, (name, curve) in enumerate(curves.items()):
            colour = COLOURS[_LINES[number % len(_LINES)][0]]
            for kind, label, dashes in (("training", "training", "--"), ("held_out", "held out", "-")):
                if curve.get(kind):
                    axes.plot(*zip(*curve[kind], strict=True), dashes, color=colour, lw=1.8, label=f"{name}, {label}")
        axes.set_xlabel("step")
        axes.set_ylabel("loss, nats per token")
        axes.grid()
        axes.tick_params(length=0)
        drawing.figure.legend(loc="outside upper left", ncols=4, columnspacing=1.4)
        return Plot(drawing.svg(f"Training and held-out loss of {'; '.join(curves)}."), "Loss while training.")
