import json
import runpy
from pathlib import Path

import pytest

from smidgen import tasks
from smidgen.export import gguf
from smidgen.models.store import Store

build_model = runpy.run_path(str(Path(__file__).parents[2] / "shrink" / "conftest.py"))["build_model"]


def test_the_tasks_are_listed_with_their_options(ask):
    data = ask("GET", "/v1/tasks").json()["data"]
    assert [each["id"] for each in data] == list(tasks.names())
    chat = next(each for each in data if each["id"] == "chat")
    assert chat["about"] and "tokens" in chat["options"] and "memory" not in chat["options"]


def test_a_task_is_done(ask):
    body = {"model": "echo", "text": "Rain falls. It is wet.", "options": {"words": 3}}
    answer = ask("POST", "/v1/tasks/write", body)
    assert answer.status_code == 200
    assert answer.json() == {
        "object": "task",
        "task": "write",
        "model": "echo:latest",
        "result": {"text": "Rain falls.", "words": 2},
    }


def test_several_texts_are_labelled_together(ask):
    body = {"model": "echo", "text": ["one", "two"], "options": {"labels": ["a", "b"]}}
    results = ask("POST", "/v1/tasks/classify", body).json()["results"]
    assert [each["label"] for each in results] == ["a", "a"]
    assert results[0]["scores"] == {"a": 0.5, "b": 0.5}


def test_what_is_written_is_streamed_and_the_result_comes_last(ask):
    body = {"model": "echo", "text": "One two. Three four. Five", "stream": True, "options": {"words": 4}}
    answer = ask("POST", "/v1/tasks/write", body)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert "".join(line["text"] for line in lines[:-1]) == "One two. Three four."
    assert lines[-1]["result"]["text"] == "One two. Three four."


def test_items_are_recommended_by_vectors(ask):
    body = {"model": "echo", "text": "green tea", "options": {"items": ["a rope", "black tea"], "explain": False}}
    found = ask("POST", "/v1/tasks/recommend", body).json()["result"]["recommendations"]
    assert found[0]["item"] == "black tea" and found[0]["because"] == "green tea"


def test_a_chat_hands_its_memory_back_and_forth(ask):
    first = ask("POST", "/v1/tasks/chat", {"model": "echo", "text": "I am Ada."}).json()["result"]
    body = {"model": "echo", "text": "Who am I?", "options": {"remembered": first["memory"]}}
    memory = ask("POST", "/v1/tasks/chat", body).json()["result"]["memory"]
    assert [turn["content"] for turn in memory["turns"]] == ["I am Ada.", "I am Ada.", "Who am I?", "Who am I?"]


@pytest.mark.parametrize(
    ("name", "body", "status", "said"),
    [
        ("sentimnt", {"text": "x"}, 404, "Did you mean 'sentiment'"),
        ("write", {"text": "x", "model": "no-such"}, 404, "no-such"),
        ("write", {"text": "x", "model": "echo", "options": {"wordz": 1}}, 404, "wordz"),
        ("write", {"text": "x", "model": "echo", "options": {"words": "many"}}, 400, "whole number"),
        ("write", {"text": "", "model": "echo"}, 400, "no text"),
        ("write", {"text": [], "model": "echo"}, 400, "no text"),
        ("write", {"text": ["a"], "model": "echo", "stream": True}, 400, "not streamed"),
        ("chat", {"text": "x", "model": "echo", "options": {"memory": "/etc/passwd"}}, 400, "not taken over HTTP"),
        ("code", {"text": "x", "model": "echo", "options": {"run_it": True}}, 400, "not taken over HTTP"),
        (
            "classify",
            {"text": "x", "model": "echo", "options": {"labels": ["a", "b"], "calibration": {}}},
            400,
            "calibration",
        ),
        ("chat", {"text": "x", "model": "echo", "options": {"remembered": {"turns": 3}}}, 400, "memory"),
        ("chat", {"text": "x", "model": "echo", "options": {"remembered": 3}}, 400, "memory"),
    ],
)
def test_what_cannot_be_is_refused(ask, name, body, status, said):
    answer = ask("POST", f"/v1/tasks/{name}", body)
    assert (answer.status_code, said in answer.json()["error"]["message"]) == (status, True), answer.text


def test_too_many_texts_are_refused(ask):
    body = {"model": "echo", "text": ["x"] * 3, "options": {"labels": ["a", "b"]}}
    assert ask("POST", "/v1/tasks/classify", body, max_texts=2).status_code == 413


def test_an_error_within_a_stream_is_its_last_line(ask):
    answer = ask("POST", "/v1/tasks/summarize", {"model": "echo", "text": " ", "stream": True})
    assert answer.status_code == 400 and "no text" in answer.json()["error"]["message"]


def test_a_real_model_gives_the_labels_that_it_gives_without_a_server(ask, tmp_path):
    model = build_model()
    model.tokenizer.chat_template = (
        "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    gguf.write(model, tmp_path / "tiny.gguf")
    Store().add("tiny", {"tiny.gguf": tmp_path / "tiny.gguf"}, {"source": "tiny"})
    texts, labels = ["one default", "an argument"], ("no", "yes", "yes please")
    options = {"labels": list(labels), "about": "kind"}
    results = ask("POST", "/v1/tasks/classify", {"model": "tiny", "text": texts, "options": options}).json()["results"]
    here = tasks.classify(texts, model="tiny", threads=1, labels=labels, about="kind")
    assert [each["scores"] for each in results] == [pytest.approx(each["scores"], abs=1e-4) for each in here]
    assert results[0]["scores"] != results[1]["scores"]
    short = {"model": "tiny", "text": "Sum this up. " * 4, "options": {"words": 5}}
    assert len(ask("POST", "/v1/tasks/summarize", short).json()["result"]["text"].split()) <= 5
