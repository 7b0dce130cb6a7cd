"""OCRBench with engines that read what they are told to: scores as published, images sent, answers kept."""

import json
import runpy
from base64 import b64decode
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from smidgen.cli.main import main
from smidgen.data.records import Record
from smidgen.data.remembering import Notebook
from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.evaluate import benchmarks
from smidgen.evaluate.answering import Writing
from smidgen.evaluate.benchmarks._benchmark import Answer
from smidgen.evaluate.respondents import READER, measure_tasks
from smidgen.evaluate.tasks import read_exam, take
from smidgen.inference.engine import Chunk, Message, Metrics

WORDS, FORMULA = "Regular Text Recognition", "Handwritten Mathematical Expression Recognition"


def row(word, path, kind=WORDS):
    return {"dataset_name": "x", "question": "what is written?", "answers": word, "type": kind, "image_path": path}


@pytest.fixture
def bench(tmp_path):
    """Three questions as published: one array, images in folders beside it."""
    rows = [row("CENTRE", "svt/1.png"), row(["exit", "way out"], "svt/2.png"), row("a ^ { 2 }", "hme/1.png", FORMULA)]
    for number, each in enumerate(rows):
        path = tmp_path / each["image_path"]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (80 * number, 0, 0)).save(path)
    file = tmp_path / "OCRBench.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


class Eye:
    """An engine that says what stands in an image by its colour, and counts what it is asked."""

    load_seconds = 0.0
    says = ("It says\nCentre.", "Way out", "a^{2} ")

    def __init__(self):
        self.asked: list[tuple[Message, int]] = []

    def chat(self, messages, options):
        (message,) = messages
        (image,) = message.images
        import io

        with Image.open(io.BytesIO(image)) as picture:
            red = picture.getpixel((0, 0))[0]
        self.asked.append((message, options.num_predict))
        yield Chunk(self.says[red // 80])
        yield Chunk("", True, "stop", Metrics(1, 1, 0.0, 0.0, 0.0))


def test_every_question_is_put_with_its_image_and_asked_once(bench, tmp_path):
    exam, eye = read_exam("ocrbench", bench), Eye()
    notes = tmp_path / "notes.jsonl"
    answering = Writing(eye, exam.benchmark.writes, exam.benchmark.stops)
    score = take(exam, "eye", answering, Notebook(notes))
    assert [(message.content, tokens) for message, tokens in eye.asked] == [("what is written?", 100)] * 3
    assert {name: each.value for name, each in score.figures.items()} == {"hit": 1, "exact": pytest.approx(2 / 3)}
    assert score.details["score"] == 3
    assert score.details["types"][WORDS] == {"items": 2, "hit": 2, "exact": 1}
    notes.write_bytes(b"".join(notes.read_bytes().splitlines(keepends=True)[:2]))
    assert take(exam, "eye", answering, Notebook(notes)).scores == score.scores and len(eye.asked) == 4
    Image.new("RGB", (9, 9)).save(bench.parent / "svt" / "1.png")
    from smidgen.evaluate import tasks

    tasks._digest.cache_clear()
    take(read_exam("ocrbench", bench), "eye", answering, Notebook(notes))
    assert len(eye.asked) == 5, "another image is another question"


@pytest.mark.parametrize(
    ("wanted", "kind", "said", "hit", "exact"),
    [
        ("CENTRE", WORDS, " the centre\nof", 1, 0),
        ("way out", WORDS, "WAY\nOUT", 1, 1),
        ("way out", WORDS, "wayout", 0, 0),
        (["a", "bc"], WORDS, "it is bc", 1, 0),
        ("\\frac { A } { b }", FORMULA, "= \\frac{A}{b}", 1, 0),
        ("\\frac { A } { b }", FORMULA, "\\frac{A}\n{b}", 1, 1),
        ("\\frac { A } { b }", FORMULA, "\\frac{a}{b}", 0, 0),
        (12, WORDS, "12", 1, 1),
    ],
)
def test_scores_are_those_of_the_published_program(wanted, kind, said, hit, exact):
    benchmark = benchmarks.find("ocrbench")
    question = benchmark.question(Record("item 1", row(wanted, "x.png", kind)))
    assert benchmark.score(question, Answer(text=said)) == {"hit": hit, "exact": exact}


def test_images_are_looked_for_before_anything_is_asked(bench, tmp_path):
    moved = bench.rename(tmp_path / "svt" / "OCRBench.json")
    with pytest.raises(ReferenceNotFound, match=r"item 1 names the image 'svt/1\.png'.*--images"):
        read_exam("ocrbench", moved)
    exam = read_exam("ocrbench", moved, images=tmp_path, limit=1)
    assert exam.questions[0].images == (tmp_path / "svt" / "1.png",)
    moved.write_text(json.dumps([row("x", "../../secret.png")]))
    with pytest.raises(InvalidInput, match="does not lie within"):
        read_exam("ocrbench", moved)
    moved.write_text(json.dumps([{"question": "?"}]))
    with pytest.raises(InvalidInput, match="item 1 has no field 'answers'"):
        read_exam("ocrbench", moved)


def test_who_cannot_see_is_refused_before_it_is_loaded(bench, source, capsys):
    words = ["measure", str(source.path), "--task", "ocrbench", "--task-file", str(bench), "--quiet"]
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert "reads none" in shown and READER in shown
    plain = bench.parent / "own.jsonl"
    plain.write_text('{"prompt": "a", "answer": "b"}\n')
    with pytest.raises(Unsupported, match="reads nothing else"):
        measure_tasks(READER, [read_exam("exact", plain)])


def test_a_server_is_sent_the_images(bench, seeing, capsys):
    words = ["measure", seeing.address, "--task", "ocrbench", "--task-file", str(bench), "--limit", "2"]
    assert main([*words, "--json"]) == 0
    (score,) = json.loads(capsys.readouterr().out)["tasks"]
    assert score["figures"]["hit"]["value"] == 0.5 and score["details"]["types"][WORDS]["items"] == 2
    sent = [json.loads(body)["messages"][0]["content"] for body in seeing.bodies]
    assert [part["type"] for part in sent[0]] == ["image_url", "text"]
    assert b64decode(sent[0][0]["image_url"]["url"].partition(",")[2]).startswith(b"\x89PNG")
    assert main([*words, "--quiet"]) == 0 and len(seeing.bodies) == 2
    assert WORDS in capsys.readouterr().out
    assert main(["measure", seeing.address, "--task", "choices", "--task-file", str(bench), "--quiet"]) == 2


@pytest.fixture
def seeing():
    """A server of OpenAI's protocol that always reads the same."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Seeing(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(b'{"data": [{"id": "eye"}]}' if self.path.endswith("models") else b"{}")

        def do_POST(self):
            server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            choice = {"delta": {"content": "the centre"}, "finish_reason": "stop"}
            self._send(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")

        def _send(self, body):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Seeing)
    server.bodies, server.address = [], f"http://127.0.0.1:{server.server_port}/v1/eye"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_words_are_read_without_a_model(bench):
    picture = Image.new("RGB", (320, 96), "white")
    ImageDraw.Draw(picture).text((24, 24), "CENTRE", "black", ImageFont.load_default(42))
    picture.save(bench.parent / "svt" / "1.png")
    (score,) = measure_tasks(READER, [read_exam("ocrbench", bench, limit=2)], threads=1)
    assert [each["hit"] for each in score.scores] == [1, 0] and score.scores[0]["exact"] == 1


def test_a_folder_that_sees_is_asked(bench, tmp_path):
    tiny = runpy.run_path(str(Path(__file__).parents[2] / "tiny_mississippi.py"))
    tiny["write"](tmp_path / "eye", "llama")
    (score,) = measure_tasks(str(tmp_path / "eye"), [read_exam("ocrbench", bench, limit=1)], threads=1)
    assert score.items == 1 and set(score.figures) == {"hit", "exact"}
