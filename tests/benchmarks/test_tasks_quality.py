import json

import pytest


@pytest.fixture
def bench(benchmark):
    return vars(benchmark("tasks_quality"))


@pytest.fixture
def data(tmp_path):
    rows = [{"text": f"message {number}", "label": ("ham", "spam")[number % 4 == 0]} for number in range(80)]
    (tmp_path / "sms-spam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [
        {
            "query": f"Is it?\nPassage: '''\n{'Call +44 20 7946 0958' if number % 2 else 'Call me'} {number}\n'''\nA:",
            "gold": number % 2,
        }
        for number in range(60)
    ]
    (tmp_path / "pii-classification-1000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    return tmp_path


def test_without_data_nothing_is_measured(bench, capsys):
    assert bench["main"]([]) == 0 and "Not measured" in capsys.readouterr().out


def test_rows_are_measured_once(bench, data, capsys):
    words = ["--data", str(data), "--only", "spam", "--kind", "asked", "--kind", "calibrated", "--model", "echo"]
    words += ["--work", str(data / "work"), "--json"]
    assert bench["main"](words) == 0
    first = capsys.readouterr().out
    rows = json.loads(first)
    assert [row["kind"] for row in rows] == ["asked", "calibrated"] and rows[0]["texts"] == 16
    assert rows[0]["majority"]["accuracy"] == 0.75
    assert bench["main"](words) == 0 and capsys.readouterr().out == first
    assert len((data / "work" / "tasks-quality.jsonl").read_text().splitlines()) == 2


def test_rules_say_which_passages_hold_personal_data(bench, data, capsys):
    words = ["--data", str(data), "--only", "pii", "--kind", "rules", "--model", "echo", "--work", str(data / "work")]
    assert bench["main"]([*words, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["accuracy"] == 1.0 and row["majority"]["accuracy"] == 0.5 and row["left_in"] == 0
    assert bench["main"](words) == 0 and "macro F1" in capsys.readouterr().out
