"""Claim: at equal bytes a model stored by smidgen lies closer to its source than one stored by llama.cpp's quantizer.

    python benchmarks/storing_against_llama_cpp.py [--text FILE] [--calibrate FILE] [--windows 8] [--only NAME] [--json]

Both sides are made in this run from one source with one calibration text. The peer's file is rounded by llama.cpp
itself (``ggml_quantize_chunk`` of the library in the package xllamacpp) with the importance that its imatrix tool
collects, the mean square of every input channel; the embedding has none, as there. `RECIPES` says which formats it
takes: those of llama.cpp's IQ4_NL preset, and two smaller ones. smidgen's file is that of ``smidgen quantize --fit``
with the peer's bytes. Then benchmarks/judge.py, which knows nothing of smidgen, measures every file against the
source on text that calibration has not seen. The ratio is smidgen's mean divergence over the peer's: below 1 the
claim holds, otherwise the exit code is 1. What was measured with it is recorded in EXPERIMENTS.md.

Only the peer's files are kept between runs, in the folder ``--work``.
"""

import argparse
import ctypes
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import torch
import xllamacpp.xllamacpp

from smidgen import formats
from smidgen.data import builtin
from smidgen.data.loading import load as load_data
from smidgen.data.resolve import resolve
from smidgen.data.split import overlap
from smidgen.errors import BudgetNotMet, SmidgenError
from smidgen.evaluate.windows import Text
from smidgen.export import gguf, runnable
from smidgen.models.load import load_local
from smidgen.models.model import Model, PackedTensor
from smidgen.progress import Event
from smidgen.recipe.materials import Materials
from smidgen.recipe.planner import Probed
from smidgen.shrink.quantize.quantize import Quantize
from smidgen.shrink.statistics import collect

JUDGE = Path(__file__).with_name("judge.py")


@dataclass(frozen=True)
class Recipe:
    """What llama.cpp stores: one format for the matrices of the blocks, one for the embedding and the head."""

    matrices: str
    embedding: str


RECIPES = {
    "preset": Recipe("iq4_nl", "q8_0"),
    "smallest": Recipe("iq4_nl", "iq4_nl"),
    "between": Recipe("iq4_nl", "q5_0"),
}


def round_by_llama_cpp(weight: torch.Tensor, name: str, importance: torch.Tensor | None) -> PackedTensor:
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


def stored_by_llama_cpp(model: Model, recipe: Recipe, importance: dict[str, torch.Tensor]) -> Model:
    """Return the model with every matrix as llama.cpp rounds it."""
    packed = {}
    for name, part in model.anatomy.matrices().items():
        wanted = recipe.matrices if part in ("attention", "mlp") else recipe.embedding
        packed[name] = round_by_llama_cpp(model.weight(name), wanted, importance.get(name))
    return replace(model, packed=packed)


class Bench:
    """The source, the texts and the folder of one run."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.work: Path = asked.work
        self.work.mkdir(parents=True, exist_ok=True)
        local = runnable.find(asked.model)
        self.source = runnable.gguf_of(local)
        self.model = load_local(local)
        texts = resolve(asked.calibrate, seed=asked.seed)
        self.materials = Materials(
            self.model, texts, asked.calibration_windows, asked.length, asked.seed, torch.get_num_threads()
        )
        self.windows = self.materials.calibration(self.model)
        self.probed = Probed(self.model, self.materials, report)
        self.importance: dict[str, torch.Tensor] = {}
        corpus = builtin.held_out() if asked.text is None else load_data(asked.text)
        self.shared = overlap(corpus, texts.calibration)
        self.text_name = corpus.name
        content = Text.of(corpus).content.encode(errors="replace")
        self.text = self.work / f"text-{hashlib.sha256(content).hexdigest()[:16]}.txt"
        self.text.write_bytes(content)

    def peer(self, recipe: Recipe) -> Path:
        """Return llama.cpp's file, written by this run or an earlier one."""
        made_of = [recipe.matrices, recipe.embedding, importlib.metadata.version("xllamacpp")]
        digest = hashlib.sha256(json.dumps([self.materials.identity() | {"threads": None}, made_of]).encode())
        path = self.work / f"peer-{digest.hexdigest()[:16]}.gguf"
        if not path.is_file():
            self.importance = self.importance or importances(self.model, self.windows)
            gguf.write(stored_by_llama_cpp(self.model, recipe, self.importance), path)
        return path

    def ours(self, name: str, limit: int) -> Path:
        """Return smidgen's file of at most so many bytes."""
        allocation = self.probed.allocation(limit)
        if allocation is None:
            raise BudgetNotMet(f"smidgen cannot store the model in {limit:,} bytes.")
        sensitivity = self.materials.sensitivity(report)
        operation = Quantize(formats=allocation.formats)
        path = self.work / f"smidgen-{name}.gguf"
        gguf.write(operation.apply(self.model, self.windows, sensitivity=sensitivity, progress=report), path)
        return path

    def judged(self, path: Path) -> dict[str, Any]:
        """Measure a file against the source with the independent judge."""
        numbers = {"--windows": self.asked.windows, "--length": self.asked.length, "--threads": self.asked.threads}
        options = [str(word) for pair in numbers.items() for word in pair]
        command = [sys.executable, str(JUDGE), str(self.source), str(path), str(self.text), *options, "--json"]
        environment = {"GOMP_SPINCOUNT": "2000"} | dict(os.environ)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
        if done.returncode:
            raise SystemExit(done.returncode)
        return {"bytes": path.stat().st_size, **json.loads(done.stdout)}

    def compared(self, name: str) -> dict[str, Any]:
        """Make and judge both files of one recipe."""
        recipe = RECIPES[name]
        peer = self.peer(recipe)
        ours = self.ours(name, peer.stat().st_size)
        figures = {"llama_cpp": self.judged(peer), "smidgen": self.judged(ours)}
        ratio = figures["smidgen"]["kl_mean"] / figures["llama_cpp"]["kl_mean"]
        clear()
        return {"recipe": name, "formats": [recipe.matrices, recipe.embedding], **figures, "kl_ratio": ratio}


def report(event: Event) -> None:
    """Show progress to a person: one line on stderr that is written over."""
    if sys.stderr.isatty():
        share = f" {event.done:.0f} of {event.total:.0f} {event.unit}" if event.total else ""
        print(f"\r\033[K{event.stage}{share}", end="", file=sys.stderr, flush=True)


def clear() -> None:
    """Take the line of progress away."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Lay the figures out for reading."""
    yield f"{'recipe':<10}{'stored by':<11}{'bytes':>12}{'mean KL':>10}{'same top':>10}{'ppl':>9}{'KL ratio':>10}"
    for entry in found:
        for maker in ("llama_cpp", "smidgen"):
            row = entry[maker]
            ratio = f"{entry['kl_ratio']:>10.3f}" if maker == "smidgen" else ""
            figures = f"{row['bytes']:>12,}{row['kl_mean']:>10.5f}{row['same_top']:>10.2%}{row['ppl_result']:>9.3f}"
            yield f"{entry['recipe']:<10}{maker.replace('_', '.'):<11}{figures}{ratio}"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare smidgen's storing with llama.cpp's at equal bytes.")
    parser.add_argument("--model", default="smollm2:135m", help="the source: a name, a folder or a .gguf file")
    parser.add_argument("--text", help="text to measure on; the built-in held-out text where not given")
    parser.add_argument("--calibrate", help="text to calibrate on; the built-in one where not given")
    parser.add_argument("--windows", type=int, default=8, help="windows to measure on")
    parser.add_argument("--calibration-windows", type=int, default=24)
    parser.add_argument("--length", type=int, default=512, help="tokens per window")
    parser.add_argument("--only", choices=RECIPES, action="append", help="only this recipe; may be repeated")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "smidgen-benchmarks")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    asked = arguments(words)
    torch.set_num_threads(asked.threads)
    try:
        bench = Bench(asked)
        found = [bench.compared(name) for name in asked.only or RECIPES]
    except SmidgenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    holds = all(entry["kl_ratio"] < 1 and entry["smidgen"]["bytes"] <= entry["llama_cpp"]["bytes"] for entry in found)
    if asked.json:
        setting = {"text": bench.text_name, "shared_with_calibration": bench.shared}
        print(json.dumps({**setting, "results": found, "holds": holds}, indent=2))
    else:
        first = found[0]["smidgen"]
        print(f"{asked.model} on {bench.text_name}: {first['windows']} windows of {first['length']} tokens,", end=" ")
        print(f"source perplexity {first['ppl_source']:.3f}, {bench.shared:.1%} of the text shared with calibration")
        print("\n".join(table(found)))
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
