"""Models of the Hugging Face hub: safetensors only, at a commit that is recorded.

Nothing but weights in safetensors (or one GGUF file, where it is asked for), configuration, tokenizer, chat
template, licence and card is downloaded; code and pickles never are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, ReferenceNotFound, SmidgenError, SourceUnavailable
from smidgen.models.checkpoint.safetensors import read_config
from smidgen.models.files import require_free, sha256_of
from smidgen.models.names import HUB_SPACE
from smidgen.models.reference import DEFAULT_REVISION
from smidgen.models.sources import LocalModel, _layout, from_store
from smidgen.models.sources._hub_errors import explain, is_unreachable, transport_errors
from smidgen.progress import Event, Progress

if TYPE_CHECKING:
    from smidgen.models.reference import Reference
    from smidgen.models.store import Store, StoredModel

_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class _Snapshot:
    """A repository at one commit: its files with their sizes and, where the hub states it, their sha256."""

    commit: str
    sizes: dict[str, int]
    sha256: dict[str, str]


@dataclass(frozen=True)
class Hub:
    """Gets a repository's model from the hub (or from ``HF_ENDPOINT``) with huggingface_hub.

    ``HF_TOKEN``, or the token of ``hf auth login``, opens gated and private repositories.
    """

    def fetch(self, reference: Reference, store: Store, *, offline: bool, progress: Progress) -> LocalModel:
        """Return the model from the store, after downloading it if need be.

        The revision is resolved to a commit. A commit that is in the store is not asked for again; where the
        hub cannot be reached, what the store holds of that revision is taken, and progress says so.

        Raises:
            ReferenceNotFound: The hub has no such repository, revision or file.
            SourceUnavailable: The hub could not deliver or wants a token, or `offline` forbids asking.
            Unsupported: The repository holds only pickles, or needs its own code.
            DamagedFile: A file differs from what the hub promised.
        """
        stored = _stored(reference, store)
        if stored is not None and (offline or reference.revision == stored.facts.get("commit")):
            return from_store(stored)
        if offline:
            raise SourceUnavailable(
                f"{reference} is not in the store yet, and nothing may be fetched offline.",
                remedy=f"Run 'smidgen pull {reference}' once without --offline.",
            )
        try:
            snapshot = _snapshot(reference)
        except SourceUnavailable as error:
            if stored is None or not is_unreachable(error.__cause__):
                raise
            progress(Event(f"using {stored.name} from the store, since the hub cannot be reached"))
            return from_store(stored)
        name = _store_name(reference, snapshot.commit)
        if name not in store.names():
            with store.fetching(name, progress) as folder:
                if name not in store.names():  # another process may have been faster
                    _download(reference, snapshot, store, folder, progress)
        return from_store(_with_revision(store, name, reference))

    def files(self, model: LocalModel) -> dict[str, Path]:
        """Return the model's files and documents."""
        layout = _layout.select(path.name for path in model.path.iterdir())
        return {name: model.path / name for name in (*layout.model, *layout.documents)}


def _store_name(reference: Reference, commit: str | None = None) -> str:
    file = f"/{reference.path}" if reference.path else ""
    return f"{HUB_SPACE}:{reference.name}{file}{f'@{commit}' if commit else ''}".lower()


def _stored(reference: Reference, store: Store) -> StoredModel | None:
    """Find the newest stored commit that the revision stands for, as far as was seen."""
    revision = reference.revision or DEFAULT_REVISION
    for stored in store.versions(_store_name(reference)):
        commit = str(stored.facts.get("commit", ""))
        if revision in stored.facts.get("revisions", ()) or (
            _COMMIT.fullmatch(revision) and commit.startswith(revision)
        ):
            return store.resolve(stored.name)
    return None


def _with_revision(store: Store, name: str, reference: Reference) -> StoredModel:
    """Note that the revision stands for this commit, and for none of the others any more."""
    revision = reference.revision or DEFAULT_REVISION
    for other in store.versions(name):
        revisions = list(other.facts.get("revisions", ()))
        if other.name != name and revision in revisions:
            revisions.remove(revision)
            store.describe(other.name, {**other.facts, "revisions": revisions})
    stored = store.resolve(name)
    revisions = list(stored.facts.get("revisions", ()))
    if revision in revisions:
        return stored
    return store.describe(name, {**stored.facts, "revisions": [*revisions, revision]})


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


@contextmanager
def _explained(reference: Reference) -> Iterator[None]:
    """Turn the hub library's errors into errors for a person."""
    try:
        yield
    except SmidgenError:
        raise
    except transport_errors() as error:
        raise explain(error, str(reference), _endpoint()) from error


def _snapshot(reference: Reference) -> _Snapshot:
    # The hub library adds nothing about this machine to its requests when this is set before it is first loaded.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi

    with _explained(reference):
        info = HfApi(endpoint=_endpoint()).model_info(
            reference.name, revision=reference.revision, files_metadata=True, timeout=30
        )
    files = info.siblings or []
    return _Snapshot(
        commit=info.sha or "",
        sizes={file.rfilename: file.size or 0 for file in files},
        sha256={file.rfilename: file.lfs.sha256 for file in files if file.lfs is not None},
    )


def _wanted(reference: Reference, snapshot: _Snapshot) -> list[str]:
    """Choose the files to download; what explains a refusal first."""
    layout = _layout.select(snapshot.sizes)
    if reference.path is not None:
        file = str(reference.path)
        if file not in layout.ggufs:
            raise ReferenceNotFound.among(f"GGUF file of {HUB_SPACE}:{reference.name} named", file, layout.ggufs)
        return [file, *layout.documents]
    _layout.require_model(layout, f"{HUB_SPACE}:{reference.name}")
    first = [name for name in layout.support if name == "config.json"]
    return [*first, *(name for name in (*layout.support, *layout.documents) if name not in first), *layout.weights]


def _download(reference: Reference, snapshot: _Snapshot, store: Store, folder: Path, progress: Progress) -> None:
    wanted = _wanted(reference, snapshot)
    total = sum(snapshot.sizes[name] for name in wanted)
    require_free(folder, total)
    done = 0
    for name in wanted:
        with _explained(reference):
            _download_file(reference, snapshot.commit, name, folder, _Counter(str(reference), done, total, progress))
        if name == "config.json":
            read_config(folder, str(reference))
        promised = snapshot.sha256.get(name)
        if promised is not None and sha256_of(folder / name, progress) != promised:
            (folder / name).unlink()
            raise DamagedFile(f"{name} of {reference} is not the file that the hub promised.", remedy="Try again.")
        done += snapshot.sizes[name]
        progress(Event(f"downloading {reference}", done, total, "bytes"))
    if reference.path is None:
        _layout.require_shards(folder, _layout.select(wanted))
    facts = _facts(reference, snapshot, folder)
    files = {name: folder / name for name in wanted}
    store.add(_store_name(reference, snapshot.commit), files, facts, link=True, progress=progress)


def _download_file(reference: Reference, commit: str, name: str, folder: Path, counter: _Counter) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(
        reference.name,
        name,
        revision=commit,
        local_dir=folder,
        endpoint=_endpoint(),
        library_name="smidgen",
        tqdm_class=counter.bar_class(),
    )


@dataclass(frozen=True)
class _Counter:
    """Passes on what the hub library reports of one file's download."""

    name: str
    before: int
    total: int
    progress: Progress

    def bar_class(self) -> Any:
        """Return the class that the hub library uses as its progress bar; it prints nothing."""
        import io

        from tqdm import tqdm  # type: ignore[import-untyped]

        counter = self

        class Bar(tqdm):  # type: ignore[misc]
            monitor_interval = 0

            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **{**options, "file": io.StringIO(), "disable": False})

            def update(self, n: float | None = 1) -> bool | None:
                shown: bool | None = super().update(n)
                reached = min(counter.before + int(self.n), counter.total)
                counter.progress(Event(f"downloading {counter.name}", reached, counter.total, "bytes"))
                return shown

        return Bar


def _facts(reference: Reference, snapshot: _Snapshot, folder: Path) -> dict[str, Any]:
    licence, base_model = _layout.licence_and_base(_layout.read_card(folder / "README.md"))
    return {
        "format": "gguf" if reference.path else "safetensors",
        "source": f"{_endpoint() or 'https://huggingface.co'}/{reference.name}",
        "repository": reference.name,
        "commit": snapshot.commit,
        "revisions": [],
        "licence": licence,
        "base_model": base_model if reference.path else reference.name,
    }
