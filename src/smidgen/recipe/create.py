"""Creates a stored model from what a Modelfile says: taken in, converted, quantized, with its adapters and draft."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, Unsupported
from smidgen.inference import go_template
from smidgen.inference.setup import check_parameters
from smidgen.models.checkpoint.safetensors import LINEAGE_FILE
from smidgen.models.files import atomic_write, make_folder, projector_beside, require_free
from smidgen.models.modelfile import MODEL, Modelfile, of_facts
from smidgen.models.names import StoreName
from smidgen.models.store import Store
from smidgen.progress import Event, Progress, silent
from smidgen.recipe import presets

if TYPE_CHECKING:
    from smidgen.models.lineage import Lineage
    from smidgen.models.model import Model
    from smidgen.models.sources import LocalModel
    from smidgen.models.store import StoredModel

DRAFT = "draft.gguf"
"""Name of the draft among a created model's files."""

_KEPT_FACTS = ("source", "licence", "licence_name", "licence_url", "licence_notice", "base_model", "dequantised_from")
_SHOWN_FACTS = ("template", "system", "renderer", "parser", "requires")


@dataclass(frozen=True)
class Creation:
    """What is to be created.

    Attributes:
        name: The name in the store; what had it is replaced.
        modelfile: What it is made from and how it is to be run.
        folder: Where the Modelfile's relative paths begin.
        quantize: A preset or a block format, as "q4_K_M"; None keeps the source's formats.
        draft_quantize: The same for the draft.
        offline: Take only what is on this machine.
    """

    name: str
    modelfile: Modelfile
    folder: Path = field(default_factory=Path)
    quantize: str | None = None
    draft_quantize: str | None = None
    offline: bool = False


def create(wanted: Creation, store: Store | None = None, *, progress: Progress = silent) -> StoredModel:
    """Create a model and store it.

    A source that is stored with a Modelfile of its own hands down what the new one does not say; parameters are
    handed down one by one. A GGUF, and a folder that no GGUF can hold, is taken as it is unless it is to be quantized;
    other formats are converted. What a model reads images with then becomes a second file beside its GGUF.

    Args:
        wanted: What is to be created.
        store: The model store; the default one where None.
        progress: Receives reports; raising from it stops the work, and nothing is stored.

    Raises:
        SmidgenError: The Modelfile names what does not exist, is not possible, or does not fit together.
    """
    store = store or Store()
    StoreName.parse(wanted.name)
    for kind in (wanted.quantize, wanted.draft_quantize):
        if kind is not None:
            presets.find(kind)
    if wanted.modelfile.template is not None:
        go_template.parse(wanted.modelfile.template)
    parameters = check_parameters(wanted.modelfile.parameters)
    with tempfile.TemporaryDirectory(dir=make_folder(store.root), prefix=".tmp-create-") as staging:
        return _Work(wanted, store, Path(staging), progress).run(parameters)


class _Work:
    """The creation of one model: files by the name they get, and facts."""

    def __init__(self, wanted: Creation, store: Store, staging: Path, progress: Progress) -> None:
        self.wanted, self.store, self.staging, self.progress = wanted, store, staging, progress
        self.files: dict[str, Path] = {}
        self.facts: dict[str, Any] = {}
        self._loaded: Model | None = None
        self._own_projector: Path | None = None
        self._stored_lineage: Lineage | None = None

    def run(self, parameters: Mapping[str, Any]) -> StoredModel:
        modelfile = self.wanted.modelfile
        source = self._find(modelfile.source)
        inherited = source.facts if source.facts.get("modelfile") else {}
        self._require_seeing(source)
        self._take_adapters(source, inherited)
        self._take_model(source)
        self._take_projectors(source)
        self._take_draft(source, inherited)
        self.files |= {path.name: path for path in source.files if path.name not in self.files}
        self._take_lineage(source)
        self._describe(source, inherited, parameters)
        self.progress(Event("writing manifest"))
        mine = (self.staging, self.store.root)
        resolved = {name: path.resolve() for name, path in self.files.items()}
        lasting = all(any(path.is_relative_to(each.resolve()) for each in mine) for path in resolved.values())
        return self.store.add(self.wanted.name, resolved, self.facts, link=lasting, progress=self.progress)

    def _find(self, text: str) -> LocalModel:
        """Get the model that a FROM or a DRAFT names: a place beside the Modelfile, else a name."""
        from smidgen.export import runnable

        place = self.wanted.folder / Path(text).expanduser()
        name = str(place.absolute()) if place.exists() else text
        self.progress(Event("reading model"))
        return runnable.find(name, self.store, offline=self.wanted.offline, progress=self.progress)

    def _model(self, source: LocalModel) -> Model:
        """Return the source in memory, with the adapters that had to be merged."""
        from smidgen.models.load import load_local

        if self._loaded is None:
            self._loaded = load_local(source, progress=self.progress)
        return self._loaded

    def _require_seeing(self, source: LocalModel) -> None:
        """Refuse, before it is read, a model that sees and would not as the GGUF that is asked for."""
        from smidgen.recipe import seeing

        if (self.wanted.quantize or self.wanted.modelfile.adapters) and not self.wanted.modelfile.projectors:
            seeing.require_holdable(source)

    def _take_model(self, source: LocalModel) -> None:
        from smidgen.export import projector

        changed = self._loaded is not None and len(self._loaded.lineage.steps) > 0 and "merged" in self.facts
        if source.kind == "gguf" and is_projector(source.path):
            raise InvalidInput(
                f"{source.name} only turns images into what a model reads.",
                remedy="Name the model with the first FROM, and this with a second one.",
            )
        if source.kind == "gguf" and self.wanted.quantize is None and not changed:
            self.progress(Event("using existing layer"))
            self.files[MODEL] = source.path
            return
        if self.wanted.quantize is None and not changed and not self.facts.get("adapters") and is_beyond_gguf(source):
            from smidgen.models.sources.folder import Folder

            self.progress(Event("using existing layer"))
            self.files |= Folder().files(source)
            self.facts |= {"format": "safetensors", "weights": "."}
            return
        model = self._model(source)
        self._stored_lineage = self._convert(model, self.wanted.quantize or "f16", MODEL)
        if model.vision is not None and not self.wanted.modelfile.projectors:
            self._own_projector = projector_beside(self.staging / MODEL)
            projector.write(model, self._own_projector)

    def _convert(self, model: Model, kind: str, name: str) -> Lineage:
        from smidgen.export import gguf

        kind = presets.find(kind)
        require_free(self.staging, model.parameter_count() * 2)
        model = presets.store(model, kind, self.progress)
        self.progress(Event("creating new layer"))
        floats = presets.FLOATS.get(kind, "float16")
        gguf.write(model, self.staging / name, float_format=floats, progress=self.progress)
        self.files[name] = self.staging / name
        return model.lineage

    def _take_lineage(self, source: LocalModel) -> None:
        from smidgen.models.facts import read_lineage

        lineage = self._stored_lineage or read_lineage(source.path)
        if lineage is not None and lineage.steps:
            record = self.staging / LINEAGE_FILE
            atomic_write(record, json.dumps(lineage.to_dict(), indent=1, sort_keys=True, default=str) + "\n")
            self.files[LINEAGE_FILE] = record

    def _take_adapters(self, source: LocalModel, inherited: Mapping[str, Any]) -> None:
        """Keep GGUF adapters beside the model, convert PEFT's, and merge those that llama.cpp cannot put on."""
        places = [source.path.parent / name for name in inherited.get("adapters", ())]
        for text in self.wanted.modelfile.adapters:
            place = self.wanted.folder / Path(text).expanduser()
            if not place.exists():
                raise InvalidInput(f"There is no adapter {text}.", remedy="Name a GGUF LoRA or a folder of PEFT.")
            places.append(place)
        names: list[str] = []
        for place in places:
            name = f"adapter-{len(names)}.gguf"
            if self._take_adapter(place, name, source):
                names.append(name)
        if names:
            self.facts["adapters"] = names

    def _take_adapter(self, place: Path, name: str, source: LocalModel) -> bool:
        """Bring one adapter in; returns whether it stays apart from the model."""
        if place.is_file():
            require_adapter(place)
            self.files[name] = place
            return True
        from smidgen.export import adapter as adapter_file
        from smidgen.shrink.finetune.adapters import Adapter

        self.progress(Event("converting adapter"))
        adapter = Adapter.read(place)
        model = self._model(source)
        if adapter.decomposed:
            merged = adapter.merged(model).with_step("merge", adapter=place.name, rank=adapter.rank)
            self._loaded, self.facts["merged"] = replace(merged, packed={}), place.name
            return False
        unknown = sorted({*adapter.targets} - {path for path, _ in model.module.named_modules()})
        if unknown:
            raise InvalidInput(f"The adapter {place} is for a model that has {unknown[0]!r}, and the source has not.")
        adapter_file.write_gguf(adapter, model, self.staging / name)
        self.files[name] = self.staging / name
        return True

    def _take_projectors(self, source: LocalModel) -> None:
        """Keep the files that turn images into what the model reads."""
        places = [self.wanted.folder / Path(text).expanduser() for text in self.wanted.modelfile.projectors]
        places = places or [source.path.parent / name for name in source.facts.get("projectors", ())]
        if self._own_projector is not None:
            places = places or [self._own_projector]
        for number, place in enumerate(places):
            if not place.is_file():
                raise InvalidInput(f"There is no file {place}, which a further FROM names.")
            if not is_projector(place):
                raise InvalidInput(
                    f"{place}, which a further FROM names, does not turn images into what a model reads.",
                    remedy="Name one model with FROM, and beside it only its projector (mmproj).",
                )
            self.files[f"projector-{number}.gguf"] = place
        if places:
            self.facts["projectors"] = [f"projector-{number}.gguf" for number in range(len(places))]

    def _take_draft(self, source: LocalModel, inherited: Mapping[str, Any]) -> None:
        text = self.wanted.modelfile.draft
        if text is None:
            if "draft" in inherited:
                self.files[DRAFT] = source.path.parent / inherited["draft"]
                self.facts["draft"] = DRAFT
            return
        from smidgen.models.load import load_local

        local = self._find(text)
        if local.kind == "gguf" and self.wanted.draft_quantize is None:
            self.files[DRAFT] = local.path
        else:
            self._convert(load_local(local, progress=self.progress), self.wanted.draft_quantize or "f16", DRAFT)
        if MODEL not in self.files:
            raise Unsupported(f"{source.name} is run by torch, which takes no draft.", remedy="Leave DRAFT out.")
        require_same_vocabulary(self.files[MODEL], self.files[DRAFT])
        self.facts["draft"] = DRAFT

    def _describe(self, source: LocalModel, inherited: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        """Write down what the Modelfile says over what the source hands down, and the whole of it as one text."""
        said = self.wanted.modelfile
        facts = {name: source.facts[name] for name in _KEPT_FACTS if source.facts.get(name) is not None}
        facts |= {name: value for name in _SHOWN_FACTS if (value := getattr(said, name) or inherited.get(name))}
        messages = [{"role": turn.role, "content": turn.content} for turn in said.messages]
        several = {
            "parameters": {**inherited.get("parameters", {}), **parameters},
            "messages": messages or inherited.get("messages", []),
            "license": [*inherited.get("license", []), *said.licences],
        }
        facts |= {name: value for name, value in several.items() if value}
        facts |= {"format": "gguf", "licence": source.licence, "base_model": source.base_model, "weights": MODEL}
        if not Path(source.name).exists():
            facts["parent"] = source.name
        self.facts = facts | self.facts
        self.facts["modelfile"] = of_facts(self.facts).text()


def is_beyond_gguf(source: LocalModel) -> bool:
    """Say whether a folder holds what no GGUF can: matrices in formats of smidgen's own, or what sees images."""
    from smidgen.models import packed
    from smidgen.models.vision.folder import is_seeing

    return source.path.is_dir() and (packed.is_folder(source.path) or is_seeing(source.path))


def is_projector(path: Path) -> bool:
    """Say whether a GGUF turns images into what a model reads.

    Raises:
        DamagedFile: It is no GGUF.
    """
    from smidgen.models.checkpoint import gguf

    metadata = gguf.read(path).metadata
    return metadata.get("general.type") == "mmproj" or metadata.get("general.architecture") == "clip"


def require_adapter(path: Path) -> None:
    """Check that a file is a LoRA as llama.cpp takes it.

    Raises:
        DamagedFile: It is no GGUF.
        InvalidInput: It is one, and no adapter.
    """
    from smidgen.models.checkpoint import gguf

    if gguf.read(path).metadata.get("general.type") != "adapter":
        raise InvalidInput(f"{path} is a GGUF, and no adapter.", remedy="Name it with FROM if it is a model.")


def require_same_vocabulary(model: Path, draft: Path) -> None:
    """Check that a draft reads and writes the tokens of the model that it guesses for.

    Raises:
        Unsupported: It has others.
    """
    from smidgen.models.checkpoint import gguf

    key = "tokenizer.ggml.tokens"
    own, other = (gguf.read(path).metadata.get(key) for path in (model, draft))
    if own is None or own != other:
        raise Unsupported(
            "The draft has another vocabulary than the model, and cannot guess ahead for it.",
            remedy="Make one with 'smidgen make --draft-for', or name a smaller model of the same family.",
        )
