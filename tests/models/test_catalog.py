"""The catalog's facts: complete, from named sources, free of typing errors, and those of the real files at hand."""

from __future__ import annotations

import datetime
import hashlib
from collections import Counter
from dataclasses import asdict
from math import prod
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from smidgen.errors import ReferenceNotFound
from smidgen.models import catalog
from smidgen.models.architecture import Architecture
from smidgen.models.catalog import Entry, Licence
from smidgen.models.checkpoint.gguf import read
from smidgen.models.names import StoreName

ENTRIES = catalog.entries()
ROUNDING = 0.02
"""Published counts of weights are rounded; a typing error in the architecture moves the computed one further."""


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_what_the_schema_says(name: str) -> None:
    entry = ENTRIES[name]
    assert TypeAdapter(Entry).validate_python(asdict(entry)) == entry, "a value has another type than the schema says"
    assert str(StoreName.parse(name)).removesuffix(":latest") == name == name.lower()
    assert entry.source.strip() and entry.date >= datetime.date(2026, 11, 23)
    assert entry.base_model.count("/") == 1 and " " not in entry.base_model
    assert entry.licence is None or entry.terms is not None
    assert set(entry.modalities) <= {"text", "image", "video", "audio"} and "text" in entry.modalities
    assert entry.context_length is None or 512 <= entry.context_length <= 2_000_000
    assert all(0 < score.value <= 100 and score.how and score.source for score in entry.scores)
    assert max(Counter(score.benchmark for score in entry.scores).values(), default=1) == 1


@pytest.mark.parametrize(
    "change", [{"parameters": "many"}, {"context_length": "8192"}, {"languages": ["en", 7]}, {"source": None}]
)
def test_the_schema_refuses_what_is_of_another_type(change: dict[str, object]) -> None:
    wrong = asdict(ENTRIES["qwen3:0.6b"]) | change
    try:
        assert TypeAdapter(Entry).validate_python(wrong) != Entry(**wrong)
    except ValidationError as error:
        assert next(iter(change)) in str(error)


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.architecture])
def test_an_architecture_is_possible(name: str) -> None:
    entry = ENTRIES[name]
    found = entry.architecture
    assert found is not None and found.source.strip()
    assert found.query_heads % found.key_value_heads == 0
    assert (found.experts == 0) == (found.experts_used == 0) and found.experts_used <= found.experts
    assert (found.sliding_window is None) == (found.sliding_layers == 0)
    assert found.sliding_layers + found.convolution_layers < found.layers
    assert found.active_parameters <= found.parameters + found.embedding_parameters
    if entry.parameters and entry.modalities == ("text",):
        assert found.parameters == pytest.approx(entry.parameters, rel=ROUNDING)
    elif entry.parameters:
        assert found.parameters < entry.parameters, "the part that reads images counts too"


def test_a_typing_error_would_be_found() -> None:
    """One digit of each number of an architecture, typed wrong, shows in the count or is no architecture at all."""
    llama = ENTRIES["llama3.2:1b"]
    assert llama.architecture is not None and llama.parameters is not None
    facts = dict(vars(llama.architecture))
    for name in ("layers", "hidden_size", "feed_forward", "vocabulary_size", "head_size"):
        wrong = Architecture(**(facts | {name: int(facts[name] * 1.2)}))
        assert abs(wrong.parameters / llama.parameters - 1) > ROUNDING, name
    assert abs(Architecture(**(facts | {"tied": False})).parameters / llama.parameters - 1) > ROUNDING


def test_the_families_that_people_ask_for_are_there() -> None:
    assert len(ENTRIES) >= 60
    families = Counter(name.partition(":")[0] for name in ENTRIES)
    wanted = {"llama3.2", "qwen2", "qwen2.5", "qwen3", "gemma2", "gemma3", "mistral", "ministral3", "phi3.5", "smollm"}
    wanted |= {"smollm2", "smollm3", "h2ovl-mississippi", "danube3", "granite3.1", "olmo2", "falcon3", "tinyllama"}
    wanted |= {"stablelm", "lfm2", "exaone4", "minicpm", "moondream2", "smolvlm"}
    assert wanted <= set(families)
    assert sum(entry.architecture is not None for entry in ENTRIES.values()) >= 60
    assert len({entry.base_model for entry in ENTRIES.values()}) == len(ENTRIES)


@pytest.mark.parametrize("identifier", catalog.licences())
def test_a_licence_says_what_it_forbids_and_where_that_stands(identifier: str) -> None:
    licence = catalog.licences()[identifier]
    assert TypeAdapter(Licence).validate_python(asdict(licence)) == licence
    assert licence.url.startswith("https://") and licence.source.startswith("https://")
    assert licence.commercial in ("yes", "no", "limited", None)
    assert licence.forbids or licence.commercial in ("yes", None), "whoever may not do something is told what"
    assert all(sentence.endswith(".") for sentence in licence.forbids)
    assert any(entry.licence == identifier for entry in ENTRIES.values())


def test_what_licences_forbid_is_in_plain_words() -> None:
    llama = ENTRIES["llama3.2:1b"].terms
    assert llama is not None and llama.commercial == "limited" and not llama.permissive
    assert "700 million" in " ".join(llama.forbids) and "Built with Llama" in " ".join(llama.forbids)
    research = ENTRIES["qwen2.5:3b"].terms
    assert research is not None and research.commercial == "no"
    unread = ENTRIES["lfm2:350m"].terms
    assert unread is not None and unread.commercial is None and not unread.permissive


def test_the_packages_of_the_index_are_complete() -> None:
    assert set(catalog.packaged()) == {"smollm2:135m", "gemma3:270m"}
    for entry in catalog.packaged().values():
        assert entry.file.endswith(".gguf") and len(entry.sha256) == 64
        assert any(package.member for package in entry.packages)
        assert any(package.documents for package in entry.packages)
        assert entry.reference == entry.name
    assert ENTRIES["qwen3:0.6b"].reference == "hf:Qwen/Qwen3-0.6B"


def test_a_licence_that_demands_a_notice_has_it() -> None:
    assert "Gemma Terms of Use" in (catalog.find("gemma3:270m").licence_notice or "")
    assert catalog.find("smollm2:135m").licence_notice is None


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ReferenceNotFound, match="Did you mean 'gemma3:270m'"):
        catalog.find("gema3:270m")


def test_only_active_experts_are_read_for_a_token() -> None:
    mixture = ENTRIES["granite3.1-moe:1b"].architecture
    assert mixture is not None
    assert mixture.parameters == pytest.approx(1.33e9, rel=0.03) and mixture.active_parameters < 0.5e9


def test_the_cache_of_windowed_layers_stops_growing() -> None:
    gemma = ENTRIES["gemma3:1b"].architecture
    llama = ENTRIES["llama3.2:1b"].architecture
    assert gemma is not None and llama is not None
    assert llama.cache_bytes(8192) == 2 * llama.cache_bytes(4096) == 8192 * llama.cache_bytes_per_token
    whole = (gemma.layers - gemma.sliding_layers) * 1024
    assert gemma.cache_bytes(32768) - gemma.cache_bytes(16384) == 16384 * whole


@pytest.mark.parametrize("name", ["smollm2:135m"])
def test_the_facts_of_smollm2_are_those_of_the_file(name: str, smollm2_gguf: Path) -> None:
    entry = catalog.find(name)
    file = read(smollm2_gguf)
    assert smollm2_gguf.stat().st_size == entry.bytes
    assert hashlib.sha256(smollm2_gguf.read_bytes()).hexdigest() == entry.sha256
    assert sum(prod(tensor.shape) for tensor in file.tensors.values()) == entry.parameters
    assert file.metadata["general.architecture"] == entry.family
    assert file.metadata["llama.context_length"] == entry.context_length
    assert file.metadata["general.license"] == entry.licence
    assert entry.dequantised_from in {tensor.format for tensor in file.tensors.values() if len(tensor.shape) == 2}
    assert entry.architecture is not None
    assert entry.architecture.layers == file.metadata["llama.block_count"]
    assert entry.architecture.key_value_heads == file.metadata["llama.attention.head_count_kv"]
    assert entry.architecture.feed_forward == file.metadata["llama.feed_forward_length"]
