import os
import platform
import resource
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import psutil
import torch
from smidgen import heap

def faults(body):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    body()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def work():
    for _ in range(5):
        torch.ones(16 << 20)  # 64 MiB, freed at once

def resident():
    return psutil.Process().memory_info().rss

@heap.reused()
def kept():
    with heap.reused():
        work(), work(), work()
    return faults(work), resident()

work()
before = faults(work)
within, held = kept()
print(before, within, held - resident())
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def counted(**environment: str) -> list[int]:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    return [int(word) for word in said.stdout.split()]


@glibc
def test_memory_is_faulted_in_once_while_work_runs_and_given_back_after_it() -> None:
    before, within, given_back = counted()
    assert before > 5 * (64 << 20) // resource.getpagesize() // 2
    assert within < before // 20
    assert given_back > 48 << 20


@glibc
def test_what_the_environment_says_of_malloc_stays() -> None:
    before, within, _ = counted(MALLOC_ARENA_MAX="2")
    assert within > before // 2
