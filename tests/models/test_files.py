"""Atomic writing and figures about disks."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.errors import InvalidInput, OutOfResources, ReferenceNotFound
from smidgen.models.files import (
    TEMPORARY_PREFIX,
    atomic_folder,
    atomic_path,
    atomic_write,
    digest_of_files,
    free_bytes,
    require_free,
    sha256_of,
)


def test_a_write_replaces_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    atomic_write(target, "old")
    atomic_write(target, b"new")
    atomic_write(tmp_path / "b", lambda file: file.write(b"written"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.json": b"new", "b": b"written"}


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.npz"
    atomic_write(target, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        assert temporary.suffix == ".npz" and temporary.parent == tmp_path
        temporary.write_text("half")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert target.read_text() == "old"


def test_a_killed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    atomic_write(target, "old")
    script = (
        "import os, signal, sys\n"
        "from smidgen.models.files import atomic_write\n"
        "def write(file):\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic_write(sys.argv[1], write)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert target.read_text() == "old"


def test_a_missing_folder_is_an_error_for_a_person(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be written: no such file"):
        atomic_write(tmp_path / "nowhere" / "a", "x")


def test_a_folder_in_the_way_is_an_error_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InvalidInput, match="cannot be written"):
        atomic_write(tmp_path / "a", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    def write(_: object) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(OutOfResources, match="is full"):
        atomic_write(tmp_path / "a", write)
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_text("1")
        assert not target.exists()
    with atomic_folder(target) as temporary:
        (temporary / "b").write_text("2")
    assert [path.name for path in target.iterdir()] == ["b"]
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as temporary:
        (temporary / "c").write_text("3")
        raise ZeroDivisionError
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_does_not_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(InvalidInput, match="it is a file"), atomic_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model").read_text() == "mine"


def test_sha256_agrees_with_hashlib_and_reports(tmp_path: Path) -> None:
    content = os.urandom(5_000_001)
    (tmp_path / "a").write_bytes(content)
    seen: list[float] = []
    assert sha256_of(tmp_path / "a", lambda event: seen.append(event.done)) == hashlib.sha256(content).hexdigest()
    assert seen[-1] == len(content) and len(seen) > 1
    with pytest.raises(ReferenceNotFound):
        sha256_of(tmp_path / "b")


def test_the_digest_of_files_depends_on_names_and_contents() -> None:
    assert digest_of_files({"a": "1", "b": "2"}) != digest_of_files({"a": "2", "b": "1"})


def test_too_little_disk_is_refused_before_starting(tmp_path: Path) -> None:
    place = tmp_path / "not" / "there" / "yet"
    require_free(place, 1)
    with pytest.raises(OutOfResources, match="MB are needed"):
        require_free(place, free_bytes(place) + 10**12)


def test_what_a_writer_keeps_to_its_owner_is_shared_as_usual(tmp_path: Path) -> None:
    """safetensors writes its files for the owner alone."""
    (tmp_path / "usual").write_text("")
    usual = (tmp_path / "usual").stat().st_mode
    with atomic_path(tmp_path / "alone.bin") as path:
        path.unlink()
        path.touch(mode=0o600)
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").touch(mode=0o600)
    assert (tmp_path / "alone.bin").stat().st_mode == usual
    assert (tmp_path / "folder" / "inner" / "weights").stat().st_mode & 0o444 == usual & 0o444


def test_the_leftovers_of_a_killed_safetensors_writer_bear_the_prefix(tmp_path: Path) -> None:
    """It writes beside its target under a name of its own, which has to be swept up with ours."""
    program = """
import os, signal, sys, threading, torch
from safetensors.torch import save_file
def kill():
    while not any(name.startswith(".tmp") for name in os.listdir(sys.argv[1])):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=kill, daemon=True).start()
save_file({"weight": torch.zeros(1 << 24)}, os.path.join(sys.argv[1], "large.safetensors"))
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert all(name.startswith(TEMPORARY_PREFIX) for name in os.listdir(tmp_path) if name != "large.safetensors")
