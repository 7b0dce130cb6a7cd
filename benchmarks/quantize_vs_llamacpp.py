"""Claim: at equal bytes a model stored by smidgen lies closer to its source than one stored by llama.cpp's quantizer.

    python benchmarks/quantize_vs_llamacpp.py [--model SOURCE] [--preset NAME] [--text FILE] [--calibrate FILE]

For every preset the peer's file is made first (benchmarks/_llama_cpp.py says how; with ``llama-imatrix`` and
``llama-quantize`` on the PATH by these programs), then smidgen's with ``smidgen quantize --fit`` at the peer's bytes,
both in processes of their own and with the same calibration text. benchmarks/judge.py, which knows nothing of smidgen,
measures both against the source on text that calibration has not seen. The ratio is smidgen's mean divergence over the
peer's: below 1 the claim holds, otherwise the exit code is 1. Seconds and peak memory are those of the processes; the
peer's say little where Python collects its importance. What was measured is recorded in EXPERIMENTS.md.

Files are kept between runs, in the folder ``--work``.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import _llama_cpp as llama_cpp

from smidgen.data import builtin
from smidgen.data.loading import load as load_data
from smidgen.data.resolve import resolve
from smidgen.data.split import overlap
from smidgen.errors import SmidgenError
from smidgen.evaluate.windows import Text
from smidgen.export import runnable
from smidgen.models.files import make_folder

HERE = Path(__file__).parent
USUAL = ("q4_0", "iq4_nl", "q3_k_m", "q4_k_m", "q5_0")


class Bench:
    """The source, the texts and the folder of one run."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.work = make_folder(asked.work)
        local = runnable.find(asked.model)
        self.source = runnable.gguf_of(local)
        texts = resolve(asked.calibrate, seed=asked.seed)
        corpus = builtin.held_out() if asked.text is None else load_data(asked.text)
        self.shared, self.text_name = overlap(corpus, texts.calibration), corpus.name
        content = Text.of(corpus).content.encode(errors="replace")
        self.text = self.work / f"text-{hashlib.sha256(content).hexdigest()[:16]}.txt"
        self.text.write_bytes(content)
        self.programs = llama_cpp.have_programs()
        calibration = [texts.calibration.sha256, asked.calibration_windows, asked.seed]
        self.made_of = [local.sha256, calibration, importlib.metadata.version("xllamacpp"), self.programs]

    def peer(self, preset: str) -> dict[str, Any]:
        """Make llama.cpp's file, and say what that took."""
        place = self._place("peer", preset)
        words = [sys.executable, str(HERE / "_llama_cpp.py"), self.asked.model, str(place), "--preset", preset]
        words += ["--windows", str(self.asked.calibration_windows), "--threads", str(self.asked.threads)]
        words += ["--calibrate", self.asked.calibrate] if self.asked.calibrate else []
        return self._made(place, [*words, "--programs"] if self.programs else words)

    def ours(self, limit: int) -> dict[str, Any]:
        """Make smidgen's file of at most so many bytes, and say what that took."""
        place = self._place("smidgen", limit)
        words = [sys.executable, "-m", "smidgen", "quantize", self.asked.model, "--fit", f"{limit}B", "--out", place]
        words += ["--windows", self.asked.calibration_windows, "--threads", self.asked.threads, "--quiet"]
        words += ["--for", self.asked.calibrate] if self.asked.calibrate else []
        return self._made(place, [*words, "--seed", self.asked.seed])

    def _place(self, maker: str, what: object) -> Path:
        digest = hashlib.sha256(json.dumps([*self.made_of, what]).encode()).hexdigest()[:16]
        return self.work / f"{maker}-{digest}.gguf"

    def _made(self, place: Path, words: Sequence[object]) -> dict[str, Any]:
        """Run a command that writes a file, unless an earlier run wrote it."""
        said = place.with_suffix(".json")
        if not said.is_file():
            place.unlink(missing_ok=True)
            started = time.perf_counter()
            process = subprocess.Popen([str(word) for word in words])
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(process.returncode)
            figures = {"seconds": time.perf_counter() - started, "peak_memory": usage.ru_maxrss * 1024}
            said.write_text(json.dumps(figures))
        return {"path": str(place), "bytes": place.stat().st_size, **json.loads(said.read_text())}

    def judged(self, made: dict[str, Any]) -> dict[str, Any]:
        """Measure a file against the source with the independent judge."""
        numbers = {"--windows": self.asked.windows, "--length": self.asked.length, "--threads": self.asked.threads}
        options = [str(word) for pair in numbers.items() for word in pair]
        command = [sys.executable, str(HERE / "judge.py"), self.source, made["path"], self.text, *options, "--json"]
        environment = {"GOMP_SPINCOUNT": "2000"} | dict(os.environ)
        done = subprocess.run(
            [str(word) for word in command], stdout=subprocess.PIPE, text=True, check=False, env=environment
        )
        if done.returncode:
            raise SystemExit(done.returncode)
        return made | json.loads(done.stdout)

    def compared(self, preset: str) -> dict[str, Any]:
        """Make and judge both files."""
        peer = self.peer(preset)
        figures = {"llama_cpp": self.judged(peer), "smidgen": self.judged(self.ours(peer["bytes"]))}
        ratio = figures["smidgen"]["kl_mean"] / figures["llama_cpp"]["kl_mean"]
        return {"preset": preset, **figures, "kl_ratio": ratio}


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Lay the figures out for reading."""
    head = f"{'preset':<9}{'stored by':<11}{'bytes':>13}{'mean KL':>9}{'99%':>8}{'same top':>10}{'ppl':>9}"
    yield head + f"{'KL ratio':>10}{'seconds':>9}{'memory':>9}"
    for entry in found:
        for maker in ("llama_cpp", "smidgen"):
            row = entry[maker]
            figures = f"{row['bytes']:>13,}{row['kl_mean']:>9.5f}{row['kl_p99']:>8.3f}{row['same_top']:>10.2%}"
            ratio = f"{entry['kl_ratio']:>10.3f}" if maker == "smidgen" else f"{'':>10}"
            cost = f"{row['seconds']:>9.1f}{row['peak_memory'] / 1e9:>7.1f}GB"
            name = maker.replace("_", ".")
            yield f"{entry['preset']:<9}{name:<11}{figures}{row['ppl_result']:>9.3f}{ratio}{cost}"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare smidgen's storing with llama.cpp's at equal bytes.")
    parser.add_argument("--model", default="smollm2:135m", help="the source: a name, a folder or a .gguf file")
    parser.add_argument("--preset", choices=llama_cpp.PRESETS, action="append", help="may be repeated")
    parser.add_argument("--text", help="text to measure on; the built-in held-out text where not given")
    parser.add_argument("--calibrate", help="text to calibrate on; the built-in one where not given")
    parser.add_argument("--windows", type=int, default=24, help="windows to measure on")
    parser.add_argument("--calibration-windows", type=int, default=24)
    parser.add_argument("--length", type=int, default=512, help="tokens per window that is measured")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "smidgen-benchmarks")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    asked = arguments(words)
    try:
        bench = Bench(asked)
        found = [bench.compared(preset) for preset in asked.preset or USUAL]
    except SmidgenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    holds = all(entry["kl_ratio"] < 1 and entry["smidgen"]["bytes"] <= entry["llama_cpp"]["bytes"] for entry in found)
    if asked.json:
        setting = {"text": bench.text_name, "shared_with_calibration": bench.shared, "programs": bench.programs}
        print(json.dumps({**setting, "results": found, "holds": holds}, indent=2))
    else:
        first = found[0]["smidgen"]
        print(f"{asked.model} on {bench.text_name}: {first['windows']} windows of {first['length']} tokens,", end=" ")
        print(f"source perplexity {first['ppl_source']:.3f}, {bench.shared:.1%} of the text shared with calibration")
        print("\n".join(table(found)))
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
