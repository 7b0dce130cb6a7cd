from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound
from smidgen.inference.engine import Message, open_engine
from smidgen.inference.options import GenerationOptions


def test_echo_answers_the_last_message() -> None:
    with open_engine("echo") as engine:
        chunks = list(engine.chat([Message("user", "one"), Message("user", "two  three\n")], GenerationOptions()))
    assert "".join(chunk.text for chunk in chunks) == "two  three\n"
    assert chunks[-1].metrics is not None
    assert chunks[-1].metrics.prompt_tokens == 4


def test_echo_keeps_to_its_context() -> None:
    with open_engine("echo", context=5) as engine:
        chunks = list(engine.complete("a b c", GenerationOptions()))
    assert ("".join(chunk.text for chunk in chunks), chunks[-1].reason) == ("a b", "length")


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    text = tmp_path / "notes.gguf"
    text.write_text("hello")
    with pytest.raises(DamagedFile):
        open_engine(text)
    with pytest.raises(ReferenceNotFound, match="Did you mean 'llama_cpp'"):
        open_engine("echo", engine="lama_cpp")
    with pytest.raises(ReferenceNotFound):
        open_engine(tmp_path / "missing.gguf")
    with pytest.raises(InvalidInput, match="threads is 0"):
        open_engine("echo", threads=0)
    with pytest.raises(InvalidInput, match="needs a model file"):
        open_engine("echo", engine="llama_cpp")
