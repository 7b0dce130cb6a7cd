"""llama.cpp's presets, such as q4_K_M: which format each matrix gets by its rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from smidgen import formats
from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.progress import Progress, silent, track

if TYPE_CHECKING:
    from smidgen.models.model import Model

FLOATS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""Presets that only choose the type of floats."""

PRESETS = {
    "q2_k": "q2_k",
    "q3_k_s": "q3_k",
    "q3_k_m": "q3_k",
    "q3_k_l": "q3_k",
    "q4_0": "q4_0",
    "q4_1": "q4_1",
    "iq4_nl": "iq4_nl",
    "iq4_xs": "iq4_xs",
    "q4_k_s": "q4_k",
    "q4_k_m": "q4_k",
    "q5_0": "q5_0",
    "q5_1": "q5_1",
    "q5_k_s": "q5_k",
    "q5_k_m": "q5_k",
    "q6_k": "q6_k",
    "q8_0": "q8_0",
}
"""The type that most matrices get in each preset."""

FALLBACK = {
    "iq4_xs": "iq4_nl",
    "q2_k": "q4_0",
    "q3_k": "q4_0",
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
}
"""What a matrix gets whose rows the type's blocks do not divide."""


def types(model: Model, preset: str) -> dict[str, str]:
    """Return the type of every matrix in a preset, with an importance matrix.

    Raises:
        Unsupported: The model has experts, whose rules are others.
    """
    anatomy, usual = model.anatomy, PRESETS[preset]
    if any(block.experts for block in anatomy.blocks):
        raise Unsupported("The presets' rules for models with experts are not known here.")
    count, found = len(anatomy.blocks), {}
    for name in anatomy.matrices():
        found[name] = usual
    for index, block in enumerate(anatomy.blocks):
        groups = block.query_heads // max(1, block.key_value_heads)
        fused = block.projections["query"].path == block.projections["value"].path
        rules = {"down": _down(preset, index, count), "output": _output(preset)}
        rules["value"] = _fused(preset) if fused else _value(preset, index, count, groups)
        for role, special in rules.items():
            if special:
                found[block.projections[role].weight] = special
    last = f"{anatomy.embedding if anatomy.tied else anatomy.head}.weight"
    if usual != "q8_0":
        found[last] = "q6_k" if formats.find(usual).fits(anatomy.hidden_size) else "q8_0"
    return {name: _fitting(each, model.weight(name).shape[1]) for name, each in found.items()}


def _more_bits(index: int, count: int) -> bool:
    """Whether the medium presets give a block's weakest matrices more bits: the ends, and every third between."""
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


def _value(preset: str, index: int, count: int, groups: int) -> str | None:
    shared = groups >= 4
    rules = {
        "q2_k": "q4_k" if shared else "q3_k",
        "q3_k_m": "q5_k" if index < 2 else "q4_k",
        "q3_k_l": "q5_k",
        "iq4_nl": "q5_k" if shared else None,
        "iq4_xs": "q5_k" if shared else None,
        "q4_k_s": "q5_k" if index < 4 else None,
        "q4_k_m": "q6_k" if _more_bits(index, count) else None,
        "q5_k_m": "q6_k" if _more_bits(index, count) else None,
    }
    return rules.get(preset)


def _down(preset: str, index: int, count: int) -> str | None:
    early = index < count // 8
    rules = {
        "q2_k": "q3_k",
        "q3_k_m": "q5_k" if index < count // 16 else "q4_k",
        "q3_k_l": "q5_k",
        "q4_0": "q4_1" if early else None,
        "q5_0": "q5_1" if early else None,
        "q4_k_s": "q5_k" if early else None,
        "q4_k_m": "q6_k" if _more_bits(index, count) else None,
        "q5_k_m": "q6_k" if _more_bits(index, count) else None,
    }
    return rules.get(preset)


def _output(preset: str) -> str | None:
    return {"q2_k": "q3_k", "q3_k_m": "q4_k", "q3_k_l": "q5_k"}.get(preset)


def _fused(preset: str) -> str | None:
    return {"q3_k_m": "q4_k", "q3_k_l": "q4_k", "q4_k_m": "q5_k", "q5_k_m": "q6_k"}.get(preset)


def _fitting(name: str, columns: int) -> str:
    found = name if formats.find(name).fits(columns) else FALLBACK[name]
    return found if formats.find(found).fits(columns) else "float16"


def find(name: str) -> str:
    """Return a preset's or a block format's name as it is known here; case does not matter.

    Raises:
        ReferenceNotFound: There is none of that name.

    Example:
        >>> find("q4_K_M"), find("Q8_0"), find("F16"), find("mxfp4")
        ('q4_k_m', 'q8_0', 'f16', 'mxfp4')
    """
    from smidgen.shrink.quantize.allocate import block_formats

    wanted = name.strip().lower()
    known = {*FLOATS, *PRESETS, *block_formats()}
    if wanted not in known:
        raise ReferenceNotFound.among("type to quantize to", name, known)
    return wanted


def store(model: Model, preset: str, progress: Progress = silent) -> Model:
    """Return a model with every matrix rounded to a preset's formats, without looking at any text.

    Args:
        model: What to store; not changed.
        preset: What `find` returned.
        progress: Receives one event per matrix.

    Raises:
        InvalidInput: The blocks of a format do not divide the model's rows.
        Unsupported: The preset has no rules for such a model.
    """
    if preset in FLOATS:
        return replace(model, packed={})
    from smidgen.models.centring import centred
    from smidgen.models.model import PackedTensor
    from smidgen.shrink.quantize import solvers

    model = centred(model)
    chosen = types(model, preset) if preset in PRESETS else dict.fromkeys(model.anatomy.matrices(), preset)
    solver, packed = solvers.find("nearest"), {}
    for name, each in track(list(chosen.items()), f"quantizing to {preset}", progress, unit="matrices"):
        number_format, weight = formats.find(each), model.weight(name).detach().float()
        if not number_format.fits(weight.shape[1]):
            raise InvalidInput(
                f"The blocks of {each} do not divide this model's rows of {weight.shape[1]}.",
                remedy="Take q8_0, q5_0 or q4_0.",
            )
        if not isinstance(number_format, formats.BlockFormat):
            continue  # stays a float
        data = solver.solve(weight, None, number_format)
        packed[name] = PackedTensor(each, data, (weight.shape[0], weight.shape[1]))
    stored = replace(model, packed=packed)
    return stored.with_step("quantize", formats=dict(sorted(chosen.items())), solver="nearest", preset=preset)
