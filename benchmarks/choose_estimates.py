"""Memory and speed that `smidgen choose` estimates, against those measured here.

    python benchmarks/choose_estimates.py [--threads 2] [--rounds 5] [--work FOLDER] [--model NAME:FORMAT ...]

The machine is calibrated with smollm2:135m as published (Q4_1); every model is then estimated from the catalogue's
facts alone and measured by the engine that users get, all of them in turns. Where other programs hold the cores up, the
processor's own seconds count on both sides, which are exact with one thread only.
"""

import argparse
import ctypes
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import xllamacpp.xllamacpp

from smidgen import formats
from smidgen.errors import SmidgenError
from smidgen.evaluate import calibrate
from smidgen.evaluate.estimate import Estimate, estimate
from smidgen.export import runnable
from smidgen.inference.scoring import PromptScorer
from smidgen.models import catalog
from smidgen.models.checkpoint import gguf

MODELS = ("smollm2:135m:float16", "smollm2:135m:Q8_0", "smollm2:135m:Q4_1", "smollm2:135m:Q4_0")
MODELS += ("gemma3:270m:Q8_0", "gemma3:270m:Q4_K_M")
CONTEXT, WRITTEN, READ = 512, 16, 64
GOAL = 0.25


@dataclass
class Subject:
    """One model in one format, what is expected of it, and what was measured."""

    name: str
    number_format: str
    expected: Estimate
    path: Path
    writing: list[float] = field(default_factory=list)
    reading: list[float] = field(default_factory=list)
    memory: int = 0

    def rows(self) -> list[tuple[str, float, float]]:
        """Name, estimate and measurement of each figure."""
        return [
            ("writes, tokens/s", self.expected.tokens_per_second, WRITTEN / statistics.median(self.writing)),
            ("reads, tokens/s", self.expected.read_tokens_per_second, READ / statistics.median(self.reading)),
            ("memory, MB", self.expected.memory / 1e6, self.memory / 1e6),
        ]


def file_of(name: str, number_format: str, folder: Path) -> Path:
    """Return a model's GGUF in a format: the published one, or one that llama.cpp's own rounding makes of it."""
    published = runnable.find(name).path
    if number_format == catalog.find(name).dequantised_from:
        return published
    path = folder / f"{name.replace(':', '-')}-{number_format}.gguf"
    if not path.exists():
        file = gguf.read(published)
        gguf.write(path, file.metadata, [stored(each, number_format) for each in file.tensors.values()])
    return path


def stored(tensor: gguf.StoredTensor, number_format: str) -> gguf.StoredTensor:
    """Store a matrix in a format; what is no matrix, or has rows that its blocks do not divide, stays as it is."""
    target = formats.find(number_format)
    rows = tensor.shape[0]
    if len(tensor.shape) != 2 or tensor.shape[1] % target.block_size:
        return tensor
    values = tensor.floats()
    if number_format == "float16":
        packed = values.astype(numpy.float16).view(numpy.uint8)
    else:
        chunk = ctypes.CDLL(xllamacpp.xllamacpp.__file__).ggml_quantize_chunk
        chunk.restype = ctypes.c_size_t
        chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
        values, packed = numpy.ascontiguousarray(values), numpy.zeros(target.bytes_for(tensor.shape), numpy.uint8)
        chunk(target.ggml_type, values.ctypes.data, packed.ctypes.data, 0, *tensor.shape, None)
    return gguf.StoredTensor(tensor.name, tensor.shape, target.require_ggml_type(), packed.reshape(rows, -1))


def measure(subjects: list[Subject], threads: int, rounds: int) -> None:
    """Measure all models in turns; the first round is not counted."""
    with ExitStack() as stack:
        scorers = [stack.enter_context(PromptScorer(each.path, threads=threads, context=CONTEXT)) for each in subjects]
        for number in range(rounds + 1):
            for subject, scorer in zip(subjects, scorers, strict=True):
                written, _ = calibrate.undisturbed(lambda scorer=scorer: scorer.time_decode(WRITTEN), threads)
                read, _ = calibrate.undisturbed(lambda scorer=scorer: scorer.time_prefill(READ), threads)
                if number:
                    subject.writing.append(written)
                    subject.reading.append(read)
        for subject, scorer in zip(subjects, scorers, strict=True):
            subject.memory = scorer.peak_rss_bytes()


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Hold the estimates of smidgen choose against measurements.")
    parser.add_argument("--model", action="append", help="NAME:FORMAT; may be repeated", metavar="NAME:FORMAT")
    parser.add_argument("--work", type=Path, help="folder that keeps the files that are written")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Print the table; 1 where an estimate is further off than the goal."""
    asked = arguments(words)
    worst = 0.0
    try:
        calibrated = calibrate.measure(runnable.find(calibrate.EMBEDDED).path, threads=asked.threads)
        with tempfile.TemporaryDirectory() as temporary:
            folder = asked.work or Path(temporary)
            subjects = []
            for text in asked.model or MODELS:
                name, _, number_format = text.rpartition(":")
                expected = estimate(catalog.find(name), number_format, CONTEXT, calibrated)
                if expected is None:
                    raise SystemExit(f"the catalogue does not know the size of {name}")
                subjects.append(Subject(name, number_format, expected, file_of(name, number_format, folder)))
            measure(subjects, asked.threads, asked.rounds)
    except SmidgenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("| model | format | figure | estimated | measured | estimated / measured |\n|---|---|---|---|---|---|")
    for subject in subjects:
        for figure, expected, measured in subject.rows():
            worst = max(worst, abs(expected / measured - 1))
            row = (subject.name, subject.number_format, figure, f"{expected:,.1f}", f"{measured:,.1f}")
            print(f"| {' | '.join(row)} | {expected / measured:.2f} |")
    busy = ", by the processor's own seconds" if calibrated.busy else ""
    print(f"\n{asked.threads} threads, {asked.rounds} rounds in turns{busy}; the worst is {worst:.0%} off.")
    return int(worst > GOAL)


if __name__ == "__main__":
    sys.exit(main())
