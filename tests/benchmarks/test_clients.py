"""The table of clients: what tells the server's faults from the model's, and the script of the echo engine."""

import importlib.util
import json
from pathlib import Path

import pytest

from smidgen.serving.exchange import GenerationRequest, Turn

REPORT = """<testsuites><testsuite><testcase classname="a.TestChat" name="test_passes"/>
<testcase classname="a.TestChat" name="test_calls"><failure message="m">self = 1
E   AssertionError: no calls
E   assert []</failure></testcase>
<testcase classname="a.TestChat" name="test_pictures"><skipped type="pytest.skip" message="needs pictures"/></testcase>
<testcase classname="a.TestChat" name="test_known"><skipped type="pytest.xfail" message="known"/></testcase>
<testcase classname="a.TestChat" name="test_fetches"><error>E  Name or service not known</error></testcase>
</testsuite></testsuites>"""
WEATHER = {
    "function": {
        "name": "weather",
        "parameters": {
            "properties": {"city": {"type": "string"}, "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}
        },
    }
}
ADD = {"function": {"name": "add"}}


@pytest.fixture(scope="module")
def scripted():
    path = Path(__file__).parents[2] / "benchmarks" / "_clients" / "scripted.py"
    spec = importlib.util.spec_from_file_location("scripted", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def asked(content: str, **fields) -> GenerationRequest:
    return GenerationRequest("any", (Turn("user", content),), think=False, **fields)


def test_what_the_model_did_not_do_is_told_from_what_the_server_did_not_do(benchmark):
    module = benchmark("clients")
    real = module.outcomes(REPORT)
    assert {name.partition("::")[2]: ending for name, (ending, _) in real.items()} == {
        "test_passes": "passed",
        "test_calls": "failed",
        "test_pictures": "skipped",
        "test_known": "failed",
        "test_fetches": "skipped",
    }
    by_script = {name: ("passed", "") for name in real} | {"TestChat::test_known": ("failed", "E   gone")}
    found = module.judged(real, by_script)
    assert found["TestChat::test_calls"] == ("judged by content", "AssertionError: no calls")
    assert found["TestChat::test_known"] == ("failed", "known")
    assert found["TestChat::test_pictures"] == ("skipped", "needs pictures")
    drawn = module.table({"suite": found})
    assert drawn[2] == "| suite | 5 | 1 | 1 | 1 | 2 |" and "  TestChat::test_calls  AssertionError: no calls" in drawn


def test_what_only_the_model_passes_is_a_failure(benchmark):
    module = benchmark("clients")
    (found,) = module.judged({"a": ("passed", "")}, {"a": ("failed", "E   lost")}).values()
    assert found == ("failed", "with the script: lost")


def test_names_that_tests_expect_are_found(benchmark, tmp_path):
    (tmp_path / "test_a.py").write_text('MODEL_NAME = os.environ.get("MODEL", "one:1b")\nOTHER_MODEL_NAME = "two"\n')
    assert benchmark("clients").expected_names(tmp_path) == ["one:1b", "two"]


def test_the_script_takes_values_from_the_question(scripted):
    said = json.loads(scripted.answer(asked("Is it warm in San Jose for 3 days?", tools=(ADD, WEATHER))))
    assert said == {"name": "add", "arguments": {}}
    said = json.loads(
        scripted.answer(asked("Is it warm in San Jose, 3 days?", tools=(ADD, WEATHER), tool_choice="weather"))
    )
    assert said == {"name": "weather", "arguments": {"city": "San Jose", "days": 3}}
    schema = {"$ref": "#/$defs/P", "$defs": {"P": {"properties": {"names": {"type": "array"}, "ok": {"const": 1}}}}}
    assert json.loads(scripted.answer(asked("Call it 'x'.", format=schema))) == {"names": ["x"], "ok": 1}
    assert json.loads(scripted.answer(asked("A joke.", format="json"))) == scripted.JOKE


def test_the_script_thinks_unless_told_not_to_and_answers_after_a_call(scripted):
    turns = (Turn("user", "Hi"), Turn("assistant"), Turn("tool", "3"))
    request = GenerationRequest("any", turns, tools=(ADD,))
    assert scripted.answer(request) == scripted.THOUGHT + scripted.SENTENCE
    assert scripted.answer(asked("Hi")) == scripted.SENTENCE


def test_without_a_known_suite_nothing_runs(benchmark, capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmark("clients").main(["--suite", "none"])
    assert "invalid choice" in capsys.readouterr().err
