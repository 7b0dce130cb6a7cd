"""Comparing tiny real models and a server: whole, stopped, broken off, measured again, and refused."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import smidgen
from smidgen.cli.main import main
from smidgen.errors import InvalidInput, OutOfResources, ReferenceNotFound, Unsupported
from smidgen.evaluate.compare import CompareSetting
from smidgen.evaluate.comparing import contestants
from smidgen.evaluate.comparing.contestants import Contestant, find_contestants
from smidgen.evaluate.comparing.keeping import FOLDER, against_earlier
from smidgen.evaluate.comparing.prompts import Prompt, read_prompts
from smidgen.evaluate.tasks import read_exam

PROMPTS = [Prompt("parser", ("e",)), Prompt("An argument is")]
SHORT = CompareSetting(rounds=2, tokens=5, windows=1)


@pytest.fixture
def opened(monkeypatch):
    """The names of the models that were loaded for answering, in order."""
    names = []
    real = Contestant.open
    monkeypatch.setattr(Contestant, "open", lambda self, threads: names.append(self.name) or real(self, threads))
    return names


@pytest.fixture
def text_file(tmp_path, text):
    path = tmp_path / "held-out.txt"
    path.write_text(text.content[:6000], encoding="utf-8")
    return str(path)


@pytest.fixture
def exams(tmp_path):
    path = tmp_path / "own.jsonl"
    rows = [{"prompt": f"The parser {number}", "choices": ["an argument", "it"], "answer": 0} for number in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [read_exam("choices", path)]


def test_models_are_loaded_once_kept_and_measured_again(source, noisy, opened, text_file, exams, smidgen_home):
    def run(**changes):
        setting = replace(SHORT, texts=(text_file,), **changes)
        names = str(source.path), str(noisy.path)
        return smidgen.compare(*names, prompts=PROMPTS, tasks=exams, setting=setting, threads=1)

    first = run()
    assert opened == [str(source.path), str(noisy.path)] and first.failed == ()
    assert [len(model.answers) for model in first.models] == [2, 2]
    assert all(len(answer.rates) == 2 and answer.repeats for model in first.models for answer in model.answers)
    assert first.models[0].memory > 1_000_000 and first.models[0].texts[0]["tokens"] > 200
    plain = first.to_dict()
    assert plain["yardstick"]["name"] == "choices" and len(plain["verdicts"]) == 2
    assert {answer.right for model in first.models for answer in model.answers} <= {True, False, None}
    assert run().to_dict() == plain and len(opened) == 2, "what is kept is not measured again"
    (notes,) = (smidgen_home / FOLDER).glob("*/notes.jsonl")
    lines = notes.read_bytes().splitlines(keepends=True)
    notes.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    gone_on = run()
    assert [model.answers[0].text for model in gone_on.models] == [model.answers[0].text for model in first.models]
    assert gone_on.created == first.created and len(opened) == 4
    again = run(fresh=True)
    assert again.repeat["identical"] and again.repeat["moved"] == [] and len(again.repeat["speeds"]) == 2
    assert again.created > first.created
    assert "every figure of quality is the same" in again.to_dict()["repeated"]


def test_a_judge_or_a_task_that_is_added_later_asks_nothing_again(address, exams):
    Dying.left = 99
    quick = replace(SHORT, windows=0)
    first = smidgen.compare("echo", address, prompts=["Why?"], setting=quick)
    asked = Dying.asked
    second = smidgen.compare("echo", address, prompts=["Why?"], judge="echo", tasks=exams, setting=quick)
    assert Dying.asked == asked and second.opinion["judge"] == "echo"
    assert second.models[1].answers == first.models[1].answers
    assert "choices could not be measured" in second.models[1].notes[0]


def test_moved_figures_are_named(source):
    model = {"about": {"name": "m"}, "answers": [{"text": "a"}], "texts": [1], "tasks": [], "writes": {"median": 8.0}}
    before = {"created": "2026-01-01", "models": [model], "opinion": None}
    now = {"models": [model | {"answers": [None], "texts": [2], "writes": {"median": 10.0}}], "opinion": None}
    found = against_earlier(before, now)
    assert found["moved"] == ["m: answers", "m: texts"] and found["speeds"] == [1.25] and not found["identical"]


class Dying(BaseHTTPRequestHandler):
    """Speaks OpenAI's protocol as long as it has answers left, then breaks off in the middle."""

    left = 0
    asked = 0

    def do_GET(self):
        self._send(b'{"data": [{"id": "model", "meta": {"size": 1000}}]}')

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["messages"][0]["content"].startswith("Compare two answers"):
            return self._send(self._event("A", "stop"))
        type(self).asked += 1
        type(self).left -= 1
        self._send(self._event("Blue.", "stop" if type(self).left >= 0 else None))

    def _event(self, text, reason):
        choice = {"delta": {"content": text}, "finish_reason": reason}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    def _send(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dying)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Dying.left, Dying.asked = 3, 0
    yield f"http://127.0.0.1:{server.server_port}/v1/model"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_dies_midway_leaves_what_was_reached(address, capsys, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("What colour is the sky?\n\nAnd the sea?\n", encoding="utf-8")
    words = ["compare", "echo", address, "--prompts", str(prompts), "--windows", "0", "--json"]
    assert main(words) == 4
    broken = json.loads(capsys.readouterr().out)
    assert address in broken["missing"] and "without its last part" in broken["models"][1]["error"]
    assert [answer["text"] for answer in broken["models"][1]["answers"]] == ["Blue.", "Blue."]
    assert broken["models"][0]["error"] is None and broken["labels"][1] == "incomplete"
    assert Dying.asked == 4
    Dying.left = 9
    assert main(words) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["missing"] is None and Dying.asked == 5, "only what was missing is asked"
    assert len(whole["models"][1]["answers"][1]["first_ms"]) == 2


def test_a_judge_that_likes_the_first_place_decides_nothing(address):
    Dying.left = 99
    found = smidgen.compare(
        "echo", address, prompts=["Why?", "Blue."], judge=address, setting=replace(SHORT, windows=0)
    )
    assert found.opinion["shares"] == (0.5, 0.5) and found.opinion["takes_part"]
    assert found.opinion["agreed"] == 0.5, "two answers that are the same need no judge"
    assert found.yardstick.name.startswith("opinion of")
    assert any("its opinion, no measurement" in caveat for caveat in found.to_dict()["caveats"])


def test_nothing_is_loaded_that_does_not_fit(source, opened, monkeypatch):
    monkeypatch.setattr("smidgen.inference.engine.open_engine", lambda *words, **more: pytest.fail("loaded"))
    with pytest.raises(OutOfResources, match=r"needs about .* of memory .*weights.*200\.0 kB are allowed") as caught:
        smidgen.compare(str(source.path), "echo", setting=replace(SHORT, max_memory=200_000))
    assert "Nothing was loaded" in caught.value.remedy and opened == []
    with pytest.raises(OutOfResources, match=r"keys and values of 512 tokens and 80\.0 MB for the engine"):
        find_contestants([str(source.path)], limit=60_000_000)
    monkeypatch.setattr("smidgen.machine.memory", lambda: (10**9, 1_000_000))
    with pytest.raises(OutOfResources, match=r"1\.0 MB are free"):
        find_contestants([str(source.path)])


def test_another_machine_is_not_reached_offline():
    with pytest.raises(Unsupported, match="another machine"):
        find_contestants(["http://example.org/model"], offline=True)


@pytest.mark.parametrize(
    ("names", "setting", "part"),
    [
        (["echo"], {}, "two models"),
        (["echo", "echo"], {}, "named twice"),
        (["echo", "http://127.0.0.1:9/m"], {"rounds": 0}, "cannot be"),
        (["echo", "http://me:secret@host/m"], {}, "SMIDGEN_REMOTE_KEY"),
    ],
)
def test_what_cannot_be_compared(names, setting, part):
    with pytest.raises(InvalidInput, match=part):
        smidgen.compare(
            *names, setting=replace(SHORT, **setting) if "rounds" not in setting else CompareSetting(**setting)
        )


def test_prompts_are_read_and_mistakes_have_their_place(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "2 + 2?", "answer": 4}\n{"question": "Sky?", "answers": ["blue", "grey"]}\n')
    first, second = read_prompts(path)
    assert first.answers == ("4",) and second.right("It is GREY.") and first.right("Five.") is False
    path.write_text('{"prompt": "a"}\n{"prompt": "b", "pattern": "("}\n')
    with pytest.raises(InvalidInput, match=r"prompts.jsonl, line 2 has a pattern that cannot be read"):
        read_prompts(path)
    path.write_text('{"prompt": "a"}\n{"text": "b"}\n')
    with pytest.raises(InvalidInput, match="line 2 has no field 'prompt'"):
        read_prompts(path)
    with pytest.raises(ReferenceNotFound, match=r"none\.jsonl.*rows have prompt"):
        read_prompts(tmp_path / "none.jsonl")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InvalidInput, match="no prompts"):
        read_prompts(tmp_path / "empty.txt")
    assert len(read_prompts(None)) == 5


def test_a_name_of_output_that_nobody_can_write_is_refused_before_any_work(monkeypatch, capsys):
    monkeypatch.setattr(contestants, "find_contestants", lambda *words, **more: pytest.fail("worked"))
    assert main(["compare", "echo", "smollm2:135m", "--output", "report.pdf"]) == 2
    assert ".html, .md, .csv, .json" in capsys.readouterr().err


def test_the_command_writes_every_form(capsys, tmp_path, address):
    Dying.left = 99
    files = [tmp_path / f"out.{kind}" for kind in ("html", "md", "csv", "json")]
    words = [word for path in files for word in ("--output", str(path))]
    assert main(["compare", "echo", address, "--windows", "0", "--rounds", "1", *words]) == 0
    shown = capsys.readouterr()
    assert "Blue." in shown.out and "Written:" in shown.out and "asked once" in shown.err
    html, markdown, table, plain = (path.read_text() for path in files)
    assert "<title>2 models compared</title>" in html and markdown.startswith("**") and "> Blue." in markdown
    assert table.splitlines()[0].startswith("letter,model,engine,bytes") and len(table.splitlines()) == 3
    assert json.loads(plain)["format"] == 1
