import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from smidgen import machine


def test_this_machine_is_described_in_plain_values():
    found = machine.inspect()
    assert found.processor and found.platform and found.python.startswith("3.")
    assert 1 <= found.cores_physical <= found.cores_logical <= (os.cpu_count() or 1)
    assert 0 < found.memory_available <= found.memory_total <= psutil.virtual_memory().total
    assert found.disk_free > 0
    assert found.versions["numpy"] and found.versions["torch"]
    assert set(found.flags) <= set(machine.FLAGS)
    again = json.loads(json.dumps(found.to_dict()))
    assert again["processor"] == found.processor and again["flags"] == list(found.flags)


def test_flags_agree_with_the_system():
    information = Path("/proc/cpuinfo")
    if not information.exists():
        pytest.skip("the system has no /proc/cpuinfo")
    words = set(information.read_text().split())
    assert set(machine.inspect().flags) - {"neon"} == {flag for flag in machine.FLAGS if flag in words}


@pytest.mark.parametrize(
    ("information", "flags"),
    [
        ({"flags": "fpu avx2 amx_bf16 sse"}, ("avx2", "amx_bf16")),
        ({"features": "fp asimd bf16"}, ("neon", "asimd", "bf16")),
        ({"machdep.cpu.features": "FMA AVX1.0", "machdep.cpu.leaf7_features": "AVX2"}, ("avx2", "fma")),
        ({"hw.optional.arm.FEAT_BF16": "1"}, ("bf16",)),
        ({}, ()),
    ],
)
def test_flags_of_other_systems(information, flags, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert machine._flags(information) == flags


def test_affinity_counts():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system has no affinity")
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from smidgen import machine; print(machine.cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 1)"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_control_groups_version_2_are_obeyed_up_to_the_outermost(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/outer/inner\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/outer/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/outer/memory.max": "50000000\n",
            "sys/fs/cgroup/outer/memory.current": "30000000\n",
            "sys/fs/cgroup/outer/memory.stat": "anon 1\ninactive_file 10000000\n",
            "sys/fs/cgroup/outer/inner/cpu.max": "max 100000\n",
            "sys/fs/cgroup/outer/inner/memory.max": "max\n",
        },
    )
    assert machine.cores(tmp_path) == (1, 1)
    assert machine.memory(tmp_path) == (50_000_000, 30_000_000)


def test_control_groups_version_1_are_obeyed(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/box\n1:cpu,cpuacct:/box\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "60000000\n",
            "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "20000000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert machine.cores(tmp_path) == (1, 1)
    assert machine.memory(tmp_path) == (60_000_000, 40_000_000)


def test_without_control_groups_the_whole_machine_counts(tmp_path):
    assert machine.cores(tmp_path)[1] == len(psutil.Process().cpu_affinity())
    assert machine.memory(tmp_path)[0] == psutil.virtual_memory().total


def test_two_threads_of_one_core_are_one_physical_core(tmp_path):
    for number in (0, 1):
        write(
            tmp_path,
            {
                f"sys/devices/system/cpu/cpu{number}/topology/core_id": "7\n",
                f"sys/devices/system/cpu/cpu{number}/topology/physical_package_id": "0\n",
            },
        )
    assert machine._physical_cores(tmp_path, {0, 1}) == 1
    assert machine._physical_cores(tmp_path, {0, 1, 2}) == 0


def test_free_disk_of_a_folder_that_does_not_exist_yet(tmp_path):
    assert machine.free_disk(tmp_path / "not" / "yet") == pytest.approx(machine.free_disk(tmp_path), rel=0.05)


def test_bandwidth_is_that_of_memory():
    measured = machine.bandwidth(0.05)
    assert 2e8 < measured < 5e12


def test_operations_per_second_are_those_of_a_processor():
    assert 1e8 < machine.flops(0.02) < 1e15


def test_torch_is_not_imported_unless_asked():
    code = "import sys, smidgen.machine as m; assert m.inspect().gpus == (); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torch_is_asked_for_gpus():
    torch = pytest.importorskip("torch")
    assert len(machine.inspect(ask_torch=True).gpus) == torch.cuda.device_count()


def test_a_missing_package_has_no_version():
    assert machine._version("no-such-package-here") is None
