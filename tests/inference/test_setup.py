"""How a model wants to be run, and what comes over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.errors import InvalidInput, RecipeError, ReferenceNotFound
from smidgen.inference.engine import Message
from smidgen.inference.options import GenerationOptions, read_option
from smidgen.inference.setup import FORGOTTEN, Setup, check_parameters, known_parameters
from smidgen.models.modelfile import Parameter, parse
from smidgen.models.sources import LocalModel


def local(tmp_path: Path, **facts: object) -> LocalModel:
    (tmp_path / "model.gguf").touch()
    return LocalModel("x:latest", tmp_path / "model.gguf", "gguf", "0" * 64, 0, None, None, (), facts)


def test_the_request_is_above_the_modelfile_and_that_above_the_defaults(tmp_path: Path) -> None:
    setup = Setup.of(local(tmp_path, parameters={"temperature": 0.1, "top_k": 3, "stop": ["a"]}))
    options = setup.options({"top_k": 7}, {"temperature": 1.0, "top_p": 0.5})
    assert (options.temperature, options.top_k, options.top_p, options.stop) == (0.1, 7, 0.5, ("a",))
    assert options.num_predict == GenerationOptions().num_predict
    with pytest.raises(RecipeError, match="top_k"):
        setup.options({"top_k": -1})
    with pytest.raises(ReferenceNotFound, match="top_z"):
        setup.options({"top_z": 1})


def test_what_the_model_wants_stands_before_the_conversation(tmp_path: Path) -> None:
    facts = {"system": "S", "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    setup = Setup.of(local(tmp_path, **facts))
    said = [Message("user", "Hi")]
    shown = [(message.role, message.content) for message in setup.conversation(said)]
    assert shown == [("system", "S"), ("user", "Q"), ("assistant", "A"), ("user", "Hi")]
    assert setup.conversation(said, "T")[0].content == "T"
    assert setup.conversation(said, "")[0].role == "user"
    own = [Message("system", "mine"), *said]
    assert [message.content for message in setup.conversation(own)] == ["Q", "A", "mine", "Hi"]


def test_adapters_and_draft_lie_beside_the_model(tmp_path: Path) -> None:
    setup = Setup.of(local(tmp_path, adapters=["adapter-0.gguf"], draft="draft.gguf", template="{{ .Prompt }}!"))
    assert setup.adapters == (tmp_path / "adapter-0.gguf",) and setup.draft == tmp_path / "draft.gguf"
    assert setup.template is not None and setup.template.render({"Prompt": "x"}) == "x!"


def test_a_model_without_a_modelfile_wants_nothing(tmp_path: Path) -> None:
    assert Setup.of(local(tmp_path)) == Setup.of(None) == Setup()


def test_parameters_of_a_modelfile_are_read_and_checked() -> None:
    text = "FROM x\nPARAMETER temperature 0\nPARAMETER Stop <a>\nPARAMETER use_mmap false\nPARAMETER stop User:\n"
    assert check_parameters(parse(text).parameters) == {"temperature": 0, "stop": ["<a>", "User:"], "use_mmap": False}
    assert check_parameters(Parameter(name, "1") for name in FORGOTTEN) == {}


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("PARAMETER temprature 1", ["Line 2", "'temprature'", "Did you mean 'temperature'?"]),
        ("PARAMETER top_p 7", ["Line 2", "'top_p' is 7, expected 0 to 1"]),
        ("PARAMETER seed soon", ["Line 2", "'seed' must be of type integer, not 'soon'"]),
        ("PARAMETER top_p nan", ["Line 2", "'top_p' must be"]),
        ('PARAMETER stop ""', ["Line 2", "'stop' must be"]),
    ],
)
def test_a_wrong_parameter_is_named_with_its_line(line: str, parts: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_parameters(parse(f"FROM x\n{line}").parameters)
    for part in parts:
        assert part in str(caught.value)


def test_parameters_that_others_wrote_are_kept_where_they_can_be_honoured() -> None:
    written = {"stop": ["a"], "rope_frequency_base": 1e6, "temperature": "hot", "num_ctx": 4096}
    assert known_parameters(written) == {"stop": ["a"], "num_ctx": 4096}


def test_values_are_read_by_the_option_s_type() -> None:
    assert read_option("temperature", ["1"]) == 1 and read_option("use_mmap", ["TRUE"]) is True
    with pytest.raises(ReferenceNotFound, match="'tempo'"):
        read_option("tempo", ["1"])
