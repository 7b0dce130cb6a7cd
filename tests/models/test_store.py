"""The model store: names, contents, crashes and second processes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from smidgen.errors import DamagedFile, InvalidInput, Locked, ReferenceNotFound, SmidgenError
from smidgen.models.store import Store
from smidgen.progress import Event


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", lock_seconds=0.3)


def file_of(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def everything_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def test_the_default_store_follows_the_environment(smidgen_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Store().root == smidgen_home
    monkeypatch.delenv("SMIDGEN_HOME")
    assert Store().root.name == "smidgen"
    assert not list(smidgen_home.iterdir())


def test_a_stored_model_opens_under_its_own_file_names(store: Store, tmp_path: Path) -> None:
    files = {
        "model.safetensors": file_of(tmp_path / "in", "w", b"weights"),
        "config.json": file_of(tmp_path / "in", "c", b"{}"),
    }
    stored = store.add("Tickets-Small", files, {"licence": "apache-2.0"})
    assert stored.name == "tickets-small:latest"
    assert {name: path.read_bytes() for name, path in stored.paths.items()} == {
        "model.safetensors": b"weights",
        "config.json": b"{}",
    }
    assert stored.digests["config.json"] == hashlib.sha256(b"{}").hexdigest()
    assert (stored.bytes, stored.facts) == (9, {"licence": "apache-2.0"})
    assert files["config.json"].read_bytes() == b"{}"
    assert store.resolve("TICKETS-small:latest") == stored == store.list()[0]


def test_equal_contents_are_kept_once_and_are_read_only(store: Store, tmp_path: Path) -> None:
    path = file_of(tmp_path / "in", "a", b"same")
    store.add("one", {"a.gguf": path}, {})
    store.add("two", {"b.gguf": path}, {})
    blobs = list((store.root / "blobs").iterdir())
    assert [blob.name for blob in blobs] == [f"sha256-{hashlib.sha256(b'same').hexdigest()}"]
    assert blobs[0].stat().st_mode & 0o777 == 0o444


def test_linked_files_share_their_bytes(store: Store, tmp_path: Path) -> None:
    path = file_of(tmp_path / "in", "a", b"big")
    stored = store.add("one", {"a.gguf": path}, {}, link=True)
    assert stored.paths["a.gguf"].stat().st_ino == path.stat().st_ino


def test_removing_frees_only_what_no_other_model_uses(store: Store, tmp_path: Path) -> None:
    shared = file_of(tmp_path / "in", "shared", b"shared")
    own = file_of(tmp_path / "in", "own", b"own!")
    store.add("one", {"a": shared, "b": own}, {})
    store.add("two", {"a": shared}, {})
    assert store.remove("one") == 4
    assert store.resolve("two").paths["a"].read_bytes() == b"shared"
    assert store.remove("two") == 6
    assert not list((store.root / "blobs").iterdir())
    assert not list((store.root / "folders").iterdir())
    with pytest.raises(ReferenceNotFound, match="no stored model"):
        store.remove("two")


def test_copying_gives_a_second_name(store: Store, tmp_path: Path) -> None:
    store.add("one", {"a": file_of(tmp_path / "in", "a", b"x")}, {"licence": "mit"})
    store.copy("one", "two:v1")
    store.remove("one")
    assert store.names() == ("two:v1",)
    assert store.resolve("two:v1").facts == {"licence": "mit"}


def test_a_name_can_be_given_anew(store: Store, tmp_path: Path) -> None:
    store.add("one", {"a": file_of(tmp_path / "in", "a", b"old")}, {})
    store.add("one", {"a": file_of(tmp_path / "in", "a", b"new")}, {})
    assert store.resolve("one").paths["a"].read_bytes() == b"new"
    assert store.collect_garbage() == 3


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../b", "", "a:", ":b", "a:../b", "a\\b", ".", "a b", "x" * 200]
)
def test_a_name_never_becomes_a_path_unchecked(store: Store, tmp_path: Path, name: str) -> None:
    path = file_of(tmp_path / "in", "a", b"x")
    for attempt in (
        lambda: store.add(name, {"a": path}, {}),
        lambda: store.resolve(name),
        lambda: store.remove(name),
        lambda: store.copy("one", name),
    ):
        with pytest.raises(SmidgenError) as raised:
            attempt()
        assert isinstance(raised.value, InvalidInput)
    assert everything_below(tmp_path) == {"in/a"}


@pytest.mark.parametrize("file_name", ["../a", "/a", "a/b", "..", "", "a\\b", "c:a"])
def test_a_file_name_stays_in_its_folder(store: Store, tmp_path: Path, file_name: str) -> None:
    with pytest.raises(InvalidInput, match="not a file name"):
        store.add("one", {file_name: file_of(tmp_path / "in", "a", b"x")}, {})


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"a"', '"../a"'),
        lambda text: text.replace('"sha256": "', '"sha256": "../'),
        lambda text: text.replace('"format": 1', '"format": 2'),
    ],
)
def test_a_damaged_record_is_named_and_deletes_nothing(store: Store, tmp_path: Path, change) -> None:
    store.add("one", {"a": file_of(tmp_path / "in", "a", b"x")}, {})
    record = store.root / "manifests" / "one" / "latest.json"
    record.write_text(change(record.read_text()))
    for attempt in (lambda: store.resolve("one"), store.list, store.collect_garbage):
        with pytest.raises(DamagedFile, match=r"latest\.json is damaged"):
            attempt()
    assert len(list((store.root / "blobs").iterdir())) == 1


def test_lost_contents_are_named(store: Store, tmp_path: Path) -> None:
    stored = store.add("one", {"a": file_of(tmp_path / "in", "a", b"x")}, {})
    (store.root / "blobs" / f"sha256-{stored.digests['a']}").unlink()
    with pytest.raises(DamagedFile, match="has lost the contents of a"):
        store.resolve("one")


def test_a_lost_folder_is_made_again(store: Store, tmp_path: Path) -> None:
    stored = store.add("one", {"a": file_of(tmp_path / "in", "a", b"x")}, {})
    stored.paths["a"].unlink()
    assert store.resolve("one").paths["a"].read_bytes() == b"x"


def test_a_store_held_by_another_says_so_after_a_short_wait(store: Store, tmp_path: Path) -> None:
    path = file_of(tmp_path / "in", "a", b"x")
    store.add("one", {"a": path}, {})
    with FileLock(store.root / "store.lock"), in_thread(lambda: store.add("two", {"a": path}, {})) as failed:
        pass
    assert isinstance(failed[0], Locked) and "Wait" in str(failed[0])
    assert store.names() == ("one:latest",)


class in_thread:
    """Run a call in a thread and collect what it raised, since a lock may not be taken twice in one thread."""

    def __init__(self, call) -> None:
        self.raised: list[BaseException] = []
        self.thread = threading.Thread(target=self.run, args=(call,))

    def run(self, call) -> None:
        try:
            call()
        except BaseException as error:
            self.raised.append(error)

    def __enter__(self) -> list[BaseException]:
        self.thread.start()
        self.thread.join()
        return self.raised

    def __exit__(self, *_: object) -> None:
        pass


def test_garbage_is_not_collected_under_a_writer(store: Store, tmp_path: Path) -> None:
    store.add("gone", {"a": file_of(tmp_path / "in", "a", b"old")}, {})
    raised: list[BaseException] = []

    def collect_meanwhile(event: Event) -> None:
        if not raised:
            raised.extend(in_thread(store.collect_garbage).__enter__())
            assert in_thread(lambda: store.remove("gone")).__enter__() == []

    stored = store.add("new", {"b": file_of(tmp_path / "in", "b", b"new")}, {}, progress=collect_meanwhile)
    assert isinstance(raised[0], Locked)
    assert stored.paths["b"].read_bytes() == b"new"
    assert store.names() == ("new:latest",)
    assert store.collect_garbage() == 3


CHILD = """
import os, signal, sys
from pathlib import Path
from smidgen.models.store import Store
last = int(sys.argv[3])
count = 0
def progress(event):
    global count
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
files = {path.name: path for path in Path(sys.argv[2]).iterdir()}
print("start", flush=True)
Store(sys.argv[1]).add("new", files, {}, progress=progress)
"""


def contents_are_whole(store: Store) -> None:
    for stored in store.list():
        for name, path in store.resolve(stored.name).paths.items():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == stored.digests[name]


def start_child(store: Store, folder: Path, last: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, str(store.root), str(folder), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_a_child_killed_at_every_step_of_add_leaves_a_usable_store(store: Store, tmp_path: Path) -> None:
    store.add("old", {"a": file_of(tmp_path / "in", "a", b"old")}, {})
    before = everything_below(store.root / "manifests")
    for name in ("x", "y", "z"):
        file_of(tmp_path / "new", name, os.urandom(5_000_000))  # two reports each
    for step in range(1, 7):
        with start_child(store, tmp_path / "new", step) as child:
            assert child.wait(30) == -signal.SIGKILL
        assert everything_below(store.root / "manifests") == before
        contents_are_whole(store)
    store.collect_garbage()
    assert len(list((store.root / "blobs").iterdir())) == 1
    with start_child(store, tmp_path / "new", 7) as child:
        assert child.wait(30) == 0
    assert store.names() == ("new:latest", "old:latest")
    contents_are_whole(store)
    assert not list((store.root / "writers").iterdir())


def test_a_child_killed_at_random_moments_leaves_a_usable_store(store: Store, tmp_path: Path) -> None:
    store.add("old", {"a": file_of(tmp_path / "in", "a", b"old")}, {})
    file_of(tmp_path / "new", "x", os.urandom(20_000_000))
    pause = random.Random(0)
    for _ in range(4):
        with start_child(store, tmp_path / "new", 0) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(pause.uniform(0.0, 0.08))
            child.kill()
            child.wait(30)
        assert set(store.names()) <= {"old:latest", "new:latest"}
        contents_are_whole(store)
        store.collect_garbage()
    store.add("new", {"x": tmp_path / "new" / "x"}, {})
    contents_are_whole(store)


def test_an_interrupted_add_leaves_nothing(store: Store, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add("one", {"a": file_of(tmp_path / "in", "a", b"x")}, {}, progress=stop)
    assert everything_below(store.root) <= {"store.lock"}
    assert store.names() == ()


def test_old_downloads_are_deleted_and_new_ones_kept(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.fetching("one") as folder:
        (folder / "half").write_bytes(b"1")
        raise ZeroDivisionError
    store.collect_garbage()
    with pytest.raises(ZeroDivisionError), store.fetching("one") as folder:
        assert (folder / "half").read_bytes() == b"1"
        raise ZeroDivisionError
    for path in (folder, folder / "half"):
        os.utime(path, (1, 1))
    store.collect_garbage()
    assert not folder.exists()
    with store.fetching("one") as folder:
        (folder / "whole").write_bytes(b"1")
    assert not folder.exists()


def test_a_second_fetch_waits_and_says_so(store: Store) -> None:
    said: list[str] = []
    order: list[str] = []

    def second() -> None:
        with store.fetching("one", lambda event: said.append(event.stage)):
            order.append("second")

    thread = threading.Thread(target=second)
    with store.fetching("one"):
        thread.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert said[0] == "waiting for another process that fetches one"


def test_records_are_plain_json_with_everything_in_them(store: Store, tmp_path: Path) -> None:
    store.add("one", {"a": file_of(tmp_path / "in", "a", b"x")}, {"licence": "mit"})
    record = json.loads((store.root / "manifests" / "one" / "latest.json").read_text())
    assert record["files"] == {"a": {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}}
    assert (record["format"], record["name"], record["facts"]) == (1, "one:latest", {"licence": "mit"})


def test_facts_can_be_replaced(store: Store, tmp_path: Path) -> None:
    stored = store.add("one", {"a": file_of(tmp_path / "in", "a", b"x")}, {"licence": "mit"})
    described = store.describe("one", {"licence": "gemma"})
    assert described.facts == {"licence": "gemma"}
    assert described.digests == stored.digests


def test_the_newest_commit_of_a_hub_model_stands_for_all(store: Store, tmp_path: Path) -> None:
    path = file_of(tmp_path / "in", "a", b"x")
    for commit in ("b" * 40, "a" * 40):
        store.add(f"hf:Org/Name@{commit}", {"a": path}, {})
    assert store.resolve("hf:org/name").name == f"hf:org/name@{'a' * 40}"
    assert [stored.name[-1] for stored in store.versions("hf:org/name")] == ["a", "b"]


def test_a_store_that_cannot_be_written_is_an_error_for_a_person(tmp_path: Path) -> None:
    path = file_of(tmp_path / "in", "a", b"x")
    with pytest.raises(InvalidInput, match="cannot be written"):
        Store(path).add("one", {"a": path}, {})


def test_a_linked_file_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.gguf").write_bytes(b"GGUF")
    (tmp_path / "link.gguf").symlink_to(tmp_path / "real.gguf")
    stored = Store(tmp_path / "store").add("linked", {"a.gguf": tmp_path / "link.gguf"}, {}, link=True)
    (tmp_path / "real.gguf").unlink()
    assert stored.paths["a.gguf"].read_bytes() == b"GGUF"
