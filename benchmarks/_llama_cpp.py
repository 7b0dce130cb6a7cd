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
from smidgen.errors import SmidgenError
from smidgen.evaluate.windows import Text
from smidgen.export import gguf, runnable
from smidgen.models.load import load_local
from smidgen.models.model import Model, PackedTensor
from smidgen.recipe.materials import Materials
from smidgen.recipe.presets import PRESETS, types
from smidgen.shrink.statistics import collect


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
