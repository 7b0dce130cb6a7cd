import io
import json

import pytest

from smidgen import tasks
from smidgen.cli.main import main
from smidgen.cli.task._command import about, listed
from smidgen.models.store import Store
from smidgen.tasks.calibration import Calibration
from smidgen.tasks.profile import Profile, keep


@pytest.fixture
def run(capsys):
    def call(*words):
        code = main(["task", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def test_an_argument_is_done(run):
    assert run("write", "Rain falls. It is wet.", "--model", "echo", "--words", "3")[:2] == (0, "Rain falls.\n")


def test_a_file_and_what_is_piped_in_are_done(run, tmp_path, monkeypatch):
    file = tmp_path / "text.txt"
    file.write_text("Rain falls. It is wet.")
    assert run("summarize", "--input", str(file), "--model", "echo", "--words", "3")[1].startswith("Rain falls.")
    monkeypatch.setattr("sys.stdin", io.StringIO("Snow falls.\n"))
    assert run("write", "--model", "echo")[1] == "Snow falls.\n"


def test_a_result_is_json_or_a_file(run, tmp_path):
    _, out, _ = run("classify", "x", "--labels", "a, b", "--model", "echo", "--json")
    assert json.loads(out)["scores"] == {"a": 0.5, "b": 0.5}
    assert run("classify", "x", "--labels", "a,b", "--model", "echo")[1] == "a (50%)\n"
    assert run("write", "Rain.", "--model", "echo", "--out", str(tmp_path / "out.txt"))[0] == 0
    assert (tmp_path / "out.txt").read_text() == "Rain.\n"


def test_rows_are_done_in_a_batch_that_goes_on_where_it_was(run, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("id,text\n1,alpha\n2,\n3,gamma\n")
    out = tmp_path / "out.csv"
    words = ["classify", "--input", str(rows), "--out", str(out), "--labels", "a,b", "--model", "echo"]
    code, _, err = run(*words)
    assert code == 4 and "1 of 3 rows failed" in err
    lines = out.read_text().splitlines()
    assert lines[0] == "id,text,label,confidence,scores,calibrated,error"
    assert lines[1].startswith("1,alpha,a,0.5") and "no text" in lines[2] and lines[3].startswith("3,gamma,a")
    assert "is there already" in run(*words)[2]
    (notes,) = (Store().root / "tasks" / "results").iterdir()
    assert len(notes.read_text().splitlines()) == 2
    assert run(*words, "--force")[0] == 4
    assert len(notes.read_text().splitlines()) == 2  # nothing was done twice


def test_rows_may_bring_options_of_their_own(run, tmp_path):
    rows = tmp_path / "rows.jsonl"
    text = "Ann built it. It rained."
    rows.write_text(
        json.dumps({"passage": text, "question": "Who built it?"})
        + "\n"
        + json.dumps({"passage": text, "question": "Was it rained on?"})
        + "\n"
    )
    code, out, _ = run("answer", "--input", str(rows), "--field", "passage", "--model", "echo")
    sentences = [json.loads(line)["result"]["sentence"] for line in out.splitlines()]
    assert code == 0 and sentences == ["Ann built it.", "It rained."]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sentimnt", "x"], "Did you mean 'sentiment'"),
        (["write"], "There is no text"),
        (["write", "x", "--words", "1"], "expected at least 3"),
        (["write", "x", "--input", "none.txt"], "no file"),
        (["classify", "x", "--model", "echo"], "no labels"),
        (["classify", "x", "--labels", "a,a"], "must differ"),
        (["redact", "x", "--keep", "DATES"], "Did you mean 'DATE'"),
        (["code", "x", "--do", "generat"], "Did you mean 'generate'"),
        (["vocabulary", "--due"], "no deck"),
        (["sentiment", "x", "--fit", "60MB"], "--train"),
        (["summarize", "--calibrate", "x.csv"], "no labels whose confidence"),
        (["sentiment", "--train", "none.csv"], "no file"),
        (["sentiment", "--train", "none.csv", "--held-out", "1"], "held-out share"),
        (["sentiment", "--train", "none.csv", "--epochs", "0"], "Epochs must be above 0"),
        (["sentiment", "--train", "none.csv", "--upper", "2"], "at most 1"),
        (["sentiment", "--train", "none.csv", "--batch-size", "0"], "at least 1"),
        (["sentiment", "--train", "none.csv", "--fit", "tiny"], "--fit"),
    ],
)
def test_wrong_input_is_said_in_words(run, words, said):
    code, _, err = run(*words)
    assert code == 2 and said in err and "Traceback" not in err


def test_what_is_read_is_not_replaced(run, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "x"}\n')
    code, _, err = run("sentiment", "--input", str(rows), "--out", str(rows), "--force", "--model", "echo")
    assert code == 2 and "would be replaced" in err and rows.read_text() == '{"text": "x"}\n'


def test_a_conversation_is_held_until_it_ends(run, monkeypatch):
    lines = iter(["I am Ada.", "Who am I?"])

    def typed(prompt):
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    terminal = io.StringIO("")
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("builtins.input", typed)
    assert run("chat", "--model", "echo")[1] == "I am Ada.\nWho am I?\n\n"


def test_lists_are_written_between_commas_or_in_files(tmp_path):
    lines, rows = tmp_path / "items.txt", tmp_path / "items.csv"
    lines.write_text("one\n\ntwo, too\n")
    rows.write_text("title,price\none,1\n")
    assert listed("a, b,,c") == ("a", "b", "c")
    assert listed(str(lines)) == ("one", "two, too") and listed(str(rows)) == ("one",)


def test_help_says_what_a_task_does(run):
    for name in ("classify", "vocabulary", "write"):
        code, out, _ = run(name, "--help")
        assert code == 0 and about(tasks.find(name)).split()[0] in out


def test_a_specialised_model_serves_as_long_as_it_fits_what_is_asked(tiny_gguf, capsys):
    store = Store()
    store.add("mine", {"model.gguf": tiny_gguf}, {"source": "tiny"})
    calibration = Calibration(("x", "y"), 1.0, (0.0, 2.0), (0.5, 0.5), 40)
    keep(Profile("classify", {"labels": ["x", "y"], "about": "kind"}, calibration), "mine", store)
    from smidgen.tasks import profile

    chosen = profile.default_model("classify", tasks.build("classify", {}))
    assert chosen == "mine:latest"
    assert profile.default_model("classify", tasks.build("classify", {"labels": ("y", "x")})) == chosen
    assert profile.default_model("classify", tasks.build("classify", {"labels": ("a", "b")})) == profile.DEFAULT_MODEL
    facts = store.resolve("mine").facts
    applied = profile.applied("classify", tasks.build("classify", {"labels": ("y", "x")}), facts)
    assert applied.labels == ("x", "y") and applied.about == "kind" and applied.calibration == calibration
    ways = {"accuracy": 0.875, "macro_f1": 0.75}
    figures = {"rows": 12, "texts_per_second": 3.0, "rows_trained_on": 48, "seconds": 61.0, "calibration_error": 0.1}
    figures |= ways | {"majority": ways, "even": ways | {"macro_f1": 0.81}}
    keep(Profile("classify", {"labels": ["x", "y"], "about": "kind"}, calibration, figures), "mine", store)
    assert main(["show", "mine"]) == 0
    shown = capsys.readouterr().out
    assert "made for the task classify" in shown and "87.50%" in shown and "0.810" in shown and "48 rows" in shown
    assert profile.applied("sentiment", tasks.build("sentiment", {}), facts).calibration is None
    store.remove("mine")
    assert profile.default_model("classify", tasks.build("classify", {})) == profile.DEFAULT_MODEL
