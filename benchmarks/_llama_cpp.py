"""llama.cpp's quantizer as the peer: its presets' rules, its rounding, its importance; or its own programs.

    python benchmarks/_llama_cpp.py SOURCE OUT --preset q4_k_m [--calibrate FILE] [--windows 24]

The rounding is llama.cpp's own (``ggml_quantize_chunk`` of the library in the package xllamacpp) with the importance
that its imatrix tool collects, the mean square of every input channel; embedding and head have none, as there. Which
matrix gets which type in a preset, and what it falls back to where blocks of 256 do not divide the rows, was read from
its source (src/llama-quant.cpp at 007dbbf) for dense models. With ``--programs`` the person's own ``llama-imatrix`` and
``llama-quantize`` do all of it.
"""

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy
import torch
import xllamacpp.xllamacpp

from smidgen import formats
from smidgen.data.resolve import resolve
from smidgen.errors import SmidgenError, Unsupported
from smidgen.evaluate.windows import Text
from smidgen.export import gguf, runnable
from smidgen.models.load import load_local
from smidgen.models.model import Model, PackedTensor
from smidgen.recipe.materials import Materials
from smidgen.shrink.statistics import collect

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


def rounded(weight: torch.Tensor, name: str, importance: torch.Tensor | None) -> PackedTensor:
    """Round a matrix ``[rows, columns]`` with llama.cpp; the importance is ``[columns]`` or None."""
    number_format = formats.find(name)
    chunk = ctypes.CDLL(xllamacpp.xllamacpp.__file__).ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    rows, columns = weight.shape
    values = numpy.ascontiguousarray(weight.detach().float().numpy())
    packed = numpy.zeros((rows, number_format.bytes_for((1, columns))), numpy.uint8)
    weights = None if importance is None else numpy.ascontiguousarray(importance.float().numpy())
    pointer = None if weights is None else weights.ctypes.data
    written = chunk(number_format.ggml_type, values.ctypes.data, packed.ctypes.data, 0, rows, columns, pointer)
    if written != packed.nbytes:
        raise SystemExit(f"llama.cpp wrote {written} bytes of {name} where {packed.nbytes} were expected")
    return PackedTensor(name, torch.from_numpy(packed), (rows, columns))


def importances(model: Model, windows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean square of every input channel by matrix name, for the matrices of the blocks."""
    moments = collect(model, windows).second_moment
    sites = (site for site in model.anatomy.sites() if site.block is not None)
    return {f"{path}.weight": moments[site.name] for site in sites for path in site.modules}


def stored(model: Model, chosen: Mapping[str, str], importance: Mapping[str, torch.Tensor]) -> Model:
    """Return the model with every matrix as llama.cpp rounds it."""
    packed = {name: rounded(model.weight(name), each, importance.get(name)) for name, each in chosen.items()}
    return replace(model, packed=packed)


def have_programs() -> bool:
    """Whether llama.cpp's own programs are on the PATH."""
    return all(shutil.which(name) for name in ("llama-imatrix", "llama-quantize"))


def by_programs(source: Path, out: Path, preset: str, text: str) -> None:
    """Quantise a GGUF with llama.cpp's own programs."""
    with tempfile.TemporaryDirectory() as folder:
        calibration, matrix = Path(folder) / "calibration.txt", Path(folder) / "imatrix.gguf"
        calibration.write_text(text, encoding="utf-8", errors="replace")
        subprocess.run(
            ["llama-imatrix", "-m", str(source), "-f", str(calibration), "-o", str(matrix)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        subprocess.run(
            ["llama-quantize", "--imatrix", str(matrix), str(source), str(out), preset.upper()],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Quantise a model as llama.cpp does.")
    parser.add_argument("source", help="a name, a folder or a .gguf file")
    parser.add_argument("out", type=Path, help="the GGUF to write")
    parser.add_argument("--preset", choices=PRESETS, default="q4_k_m")
    parser.add_argument("--calibrate", help="text to calibrate on; the built-in one where not given")
    parser.add_argument("--windows", type=int, default=24, help="calibration windows of 512 tokens")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--programs", action="store_true", help="use llama-imatrix and llama-quantize of the PATH")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Write the peer's file."""
    asked = arguments(words)
    torch.set_num_threads(asked.threads)
    try:
        local, texts = runnable.find(asked.source), resolve(asked.calibrate)
        if asked.programs:
            by_programs(runnable.gguf_of(local), asked.out, asked.preset, Text.of(texts.calibration).content)
            return 0
        model = load_local(local)
        length = min(512, model.anatomy.context_length)
        materials = Materials(model, texts, asked.windows, length, 0, asked.threads)
        importance = importances(model, materials.calibration(model))
        gguf.write(stored(model, types(model, asked.preset), importance), asked.out)
    except SmidgenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
