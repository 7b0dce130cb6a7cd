"""How many pages a minute a folder of scans takes, and whether memory stays where it is.

    python benchmarks/extraction_throughput.py              # 50 pages on 2 cores
    python benchmarks/extraction_throughput.py --pages 8 --jobs 1 --model none

The pages are receipts and forms of `_pages.py`, as PNG. Memory is that of all workers and their models together, read
after every document; it is flat where the second half of the run needs no more than the first. Where docling is
installed, and its models are there, it converts the same files in the same run; it finds no fields.
"""

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from _pages import drawn

from smidgen.documents.batch import Job, extract_all
from smidgen.documents.schema import preset
from smidgen.export import runnable


def resident() -> float:
    """Return the memory of everything that this process started, in MB."""
    total = 0
    for child in psutil.Process(os.getpid()).children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:
            continue
    return total / 1e6


def processor() -> float:
    """Return the processor time of everything that this process started, in seconds."""
    total = 0.0
    for child in psutil.Process(os.getpid()).children(recursive=True):
        try:
            total += sum(child.cpu_times()[:2])
        except psutil.Error:
            continue
    return total


def smidgen_run(paths: list[Path], asked: argparse.Namespace) -> None:
    model = None if asked.model == "none" else asked.model
    path = None if model is None else str(runnable.path_of(runnable.find(model)))
    began, memory, spent, failed = time.perf_counter(), [], 0.0, 0
    for row in extract_all(paths, Job(preset("receipt"), model, path), jobs=asked.jobs):
        failed += "error" in row
        memory.append(resident())
        spent = max(spent, processor())
    wall = time.perf_counter() - began
    half = len(memory) // 2
    first, second = memory[:half], memory[half:]
    print(
        f"smidgen: {60 * len(paths) / wall:.1f} pages a minute by the clock with {asked.jobs} jobs, "
        f"{spent / len(paths):.2f} s of processor time a page, {failed} failed; "
        f"memory {statistics.median(first):.0f} MB in the first half (most {max(first):.0f}), "
        f"{statistics.median(second):.0f} MB in the second (most {max(second):.0f})",
        flush=True,
    )


def docling_run(paths: list[Path]) -> None:
    if importlib.util.find_spec("docling") is None:
        print("docling: not installed here")
        return
    from docling.document_converter import DocumentConverter

    began, used = time.perf_counter(), time.process_time()
    try:
        for _ in DocumentConverter().convert_all(paths):
            pass
    except Exception as error:
        print(f"docling: does not run here ({type(error).__name__}: {error})")
        return
    wall, spent = time.perf_counter() - began, time.process_time() - used
    rate, each = 60 * len(paths) / wall, spent / len(paths)
    print(f"docling: {rate:.1f} pages a minute by the clock, {each:.2f} s of processor time a page")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=50, help="at least 2")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--model", default="smollm2:135m")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number in range(asked.pages):
            paths.append(Path(folder) / f"{number:03}.png")
            drawn(number).image.save(paths[-1])
        smidgen_run(paths, asked)
        docling_run(paths)


if __name__ == "__main__":
    main()
