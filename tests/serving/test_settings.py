"""The server's settings, as the environment and the command line give them."""

from __future__ import annotations

from typing import Any

import pytest

from smidgen.errors import InvalidInput
from smidgen.serving.settings import ServingSettings, parse_host


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0", ("0.0.0.0", 11434)),
        ("example.org:99", ("example.org", 99)),
        ("https://example.org/path", ("example.org", 443)),
        ("http://10.0.0.1:8080/x", ("10.0.0.1", 8080)),
        (":1234", ("127.0.0.1", 1234)),
        ("[::1]", ("::1", 11434)),
        ("[fe80::1]:5", ("fe80::1", 5)),
    ],
)
def test_a_host_is_split_as_ollama_splits_it(text: str, expected: tuple[str, int]) -> None:
    assert parse_host(text) == expected


def test_smidgens_own_variable_counts_before_ollamas() -> None:
    given = {"OLLAMA_NUM_PARALLEL": "2", "SMIDGEN_NUM_PARALLEL": "4", "OLLAMA_ORIGINS": "http://a, app://b"}
    settings = ServingSettings.from_environment(given)
    assert (settings.slots, settings.origins) == (4, ("http://a", "app://b"))


def test_what_the_command_line_says_counts_most() -> None:
    settings = ServingSettings.from_environment({"OLLAMA_HOST": "0.0.0.0:80"}, port=99, host=None)
    assert (settings.host, settings.port) == ("0.0.0.0", 99)


@pytest.mark.parametrize("variable", ["OLLAMA_MAX_QUEUE", "OLLAMA_KEEP_ALIVE", "OLLAMA_NUM_PARALLEL"])
def test_a_variable_that_cannot_be_understood_is_named(variable: str) -> None:
    with pytest.raises(InvalidInput, match=variable.removeprefix("OLLAMA_")):
        ServingSettings.from_environment({variable: "many"})


BOUNDS = [{f"max_{name}": 0} for name in ("body", "bodies", "image", "pixels", "grammar", "texts", "context", "memory")]


@pytest.mark.parametrize("wrong", [{"port": 70000}, {"slots": 0}, {"context": 1}, {"engine": "remote"}, *BOUNDS])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        ServingSettings(**wrong)
