"""The load on a server, small: the echo engine, and a tiny model whose process is killed and whose clients leave."""

import asyncio
import json
import runpy
from collections import Counter
from pathlib import Path

import pytest

from smidgen.export import gguf
from smidgen.models.modelfile import Modelfile
from smidgen.models.store import Store
from smidgen.recipe.create import Creation, create

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("load")
    gguf.write(build_model(), folder / "tiny.gguf", float_format="float32")
    create(Creation("tiny", Modelfile("tiny.gguf"), folder), Store(folder / "home"))
    return folder / "home"


def test_nothing_is_wrong_under_load(benchmark, home, capsys):
    words = ["--clients", "24", "--seconds", "1", "--queue", "8", "--leavers", "2", "--json"]
    code = benchmark("serving_load").main([*words, "--model", "tiny", "--model-seconds", "1.5", "--home", str(home)])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["faults"]) == (0, [])
    assert found["figures"]["echo"]["answers"]["right"] > 0
    assert found["figures"]["tiny"]["answers"]["engine lost"] > 0
    assert found["figures"]["slot_free_seconds"]["most"] < 1


def test_what_is_wrong_is_told(benchmark):
    load = benchmark("serving_load")
    tally = load.Tally(Counter({"right": 3, "mixed": 1, "500 oh": 2}), [0.1, 0.2, 0.3])
    tally.memory = [(second, second << 20) for second in range(60)]
    assert tally.faults == ["1 answers: mixed", "2 answers: 500 oh", "memory grew by 29.0 MiB"]
    assert tally.figures()["slope_mib_per_minute"] == 60
    assert load.Tally().faults == ["no answer was right"]
    assert load.kind_of_error(503, '{"error":"server busy: maximum pending requests exceeded"}') == "busy"
    assert load.kind_of_error(500, "The engine's process was ended by signal 9 at") == "engine lost"


def test_answers_that_are_another_clients_are_seen(benchmark):
    load = benchmark("serving_load")

    class Answers:
        def __init__(self, *texts):
            self.texts = texts

        async def post(self, route, fields):
            if route == "/api/generate":
                said = [{"response": text} for text in self.texts]
            else:
                said = [
                    {"message": {"content": text}, "choices": [{"message": {"content": text}}]} for text in self.texts
                ]
            return 200, "\n".join(json.dumps(each) for each in said).encode()

    real = load.asking("tiny")
    answers = {" 123 456": "unsure", "123456": "right", "654321": "mixed", "123450": "unsure", "hello": "unsure"}
    for text, kind in answers.items():
        assert asyncio.run(real(Answers(text), "123456 0001 end", True)) == kind
    assert asyncio.run(load.ask_echo(Answers("123456 0001 end"), "123456 0001 end", False)) == "right"
    assert asyncio.run(load.ask_echo(Answers("654321 0001 end"), "123456 0001 end", False)) == "wrong"
