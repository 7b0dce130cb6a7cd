"""The catalog's facts, held against the real files where those are at hand."""

from __future__ import annotations

import hashlib
from math import prod
from pathlib import Path

import pytest

from smidgen.errors import ReferenceNotFound
from smidgen.models import catalog
from smidgen.models.checkpoint.gguf import read
from smidgen.models.names import StoreName


def test_every_entry_is_complete() -> None:
    entries = catalog.entries()
    assert set(entries) == {"smollm2:135m", "gemma3:270m"}
    for name, entry in entries.items():
        assert str(StoreName.parse(name)) == name
        assert entry.file.endswith(".gguf") and len(entry.sha256) == 64
        assert any(package.member for package in entry.packages)
        assert any(package.documents for package in entry.packages)
        assert "/" in entry.base_model and entry.licence_url.startswith("https://")


def test_a_licence_that_demands_a_notice_has_it() -> None:
    assert "Gemma Terms of Use" in (catalog.find("gemma3:270m").licence_notice or "")
    assert catalog.find("smollm2:135m").licence_notice is None


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ReferenceNotFound, match="Did you mean 'gemma3:270m'"):
        catalog.find("gemma:270m")


def test_the_facts_of_smollm2_are_those_of_the_file(smollm2_gguf: Path) -> None:
    entry = catalog.find("smollm2:135m")
    file = read(smollm2_gguf)
    assert smollm2_gguf.stat().st_size == entry.bytes
    assert hashlib.sha256(smollm2_gguf.read_bytes()).hexdigest() == entry.sha256
    assert sum(prod(tensor.shape) for tensor in file.tensors.values()) == entry.parameters
    assert file.metadata["general.architecture"] == entry.family
    assert file.metadata["llama.context_length"] == entry.context_length
    assert file.metadata["general.license"] == entry.licence
    assert entry.dequantised_from in {tensor.format for tensor in file.tensors.values() if len(tensor.shape) == 2}
