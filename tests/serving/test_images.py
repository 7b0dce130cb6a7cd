"""Images to a real, tiny model that sees: random weights, so that what it says means nothing, but differs."""

from __future__ import annotations

import base64
import io
import json
import runpy
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest
from PIL import Image

from smidgen.export import gguf
from smidgen.models.modelfile import Modelfile
from smidgen.models.store import Store
from smidgen.recipe.create import Creation, create

TESTS = Path(__file__).parents[1]
build_model = runpy.run_path(str(TESTS / "shrink" / "conftest.py"))["build_model"]
tiny_projector = runpy.run_path(str(TESTS / "tiny_projector.py"))

TEMPLATE = "{{ range .Messages }}{{ .Content }}{{ end }}"
SEEING, BLIND = "seeing:latest", "blind:latest"
GREEDY = {"temperature": 0, "num_predict": 6}
MOST_PIXELS, MOST_BYTES = 10_000, 50_000


def picture(colour: Any = "red", size: tuple[int, int] = (40, 30), kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind, **more)
    return file.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, start_server: Any) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("seeing")
    gguf.write(build_model(), folder / "tiny.gguf", float_format="float32")
    tiny_projector["write"](folder / "eyes.gguf", 64)
    store = Store(folder / "home")
    create(Creation("seeing", Modelfile("tiny.gguf", ("eyes.gguf",), template=TEMPLATE), folder), store)
    first = "{{ (index .Messages 0).Content }}"
    create(Creation("first", Modelfile("tiny.gguf", ("eyes.gguf",), template=first), folder), store)
    create(Creation("blind", Modelfile("tiny.gguf"), folder), store)
    (folder / "broken.gguf").write_bytes(b"GGUF eyes")
    files = {"model.gguf": folder / "tiny.gguf", "projector-0.gguf": folder / "broken.gguf"}
    store.add("damaged", files, {"projectors": ["projector-0.gguf"], "format": "gguf", "weights": "model.gguf"})
    bounds = {"SMIDGEN_MAX_PIXELS": str(MOST_PIXELS), "SMIDGEN_MAX_IMAGE": str(MOST_BYTES)}
    server = start_server(folder / "home", "--threads", "1", **bounds)
    yield server
    code, errors = server.stop()
    assert (code, errors) == (0, "")


@pytest.fixture(scope="module")
def client(running: Any) -> Iterator[ollama.Client]:
    with ollama.Client(running.address) as opened:
        yield opened


def test_a_model_that_sees_says_so(client: ollama.Client) -> None:
    shown = client.show(SEEING)
    assert "vision" in (shown.capabilities or ()) and "vision" not in (client.show(BLIND).capabilities or ())
    assert shown.details is not None and shown.details.families == ["llama", "clip"]
    listed = {model.model: model for model in client.list().models}
    assert listed[SEEING].size > listed[BLIND].size


def test_shown_is_what_sees(running: Any) -> None:
    shown = running.client.post("/api/show", json={"model": SEEING}).json()
    assert shown["projector_info"]["clip.vision.image_size"] == tiny_projector["SIZE"]
    assert "FROM ./projector-0.gguf" in shown["modelfile"]


def test_ollamas_client_sends_images_with_prompts_and_with_messages(client: ollama.Client) -> None:
    def seen(image: bytes) -> tuple[str, int]:
        answer = client.generate(SEEING, "def main", images=[image], options=GREEDY)
        return answer.response, answer.prompt_eval_count or 0

    blind = client.generate(SEEING, "def main", options=GREEDY)
    assert seen(picture("red")) == seen(picture("red")) != seen(picture("blue"))
    assert seen(picture("red"))[1] == (blind.prompt_eval_count or 0) + tiny_projector["TOKENS"]
    said = [{"role": "user", "content": "def main", "images": [picture("red"), picture("blue")]}]
    both = client.chat(SEEING, said, options=GREEDY)
    assert both.prompt_eval_count == (blind.prompt_eval_count or 0) + 2 * tiny_projector["TOKENS"]


def openai_parts(image: bytes) -> list[dict[str, Any]]:
    url = f"data:image/png;base64,{base64_of(image)}"
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "def main"}]


def anthropic_parts(image: bytes) -> list[dict[str, Any]]:
    source = {"type": "base64", "media_type": "image/png", "data": base64_of(image)}
    return [{"type": "image", "source": source}, {"type": "text", "text": "def main"}]


def responses_parts(image: bytes) -> list[dict[str, Any]]:
    url = f"data:image/png;base64,{base64_of(image)}"
    return [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": "def main"}]


@pytest.mark.parametrize(
    ("path", "parts", "fields", "read"),
    [
        ("/v1/chat/completions", openai_parts, "messages", lambda body: body["choices"][0]["message"]["content"]),
        ("/v1/messages", anthropic_parts, "messages", lambda body: body["content"][0]["text"]),
        ("/v1/responses", responses_parts, "input", lambda body: body["output"][-1]["content"][0]["text"]),
    ],
)
def test_other_dialects_give_the_same_answer(
    running: Any, client: ollama.Client, path: str, parts: Any, fields: str, read: Any
) -> None:
    def ask(image: bytes) -> str:
        turn = {"role": "user", "content": parts(image)}
        limit = {"max_tokens": 6, "max_output_tokens": 6, "temperature": 0}
        answer = running.client.post(path, json={"model": SEEING, fields: [turn], **limit})
        assert answer.status_code == 200, answer.text
        return str(read(answer.json()))

    for colour in ("red", "blue"):
        own = client.generate(SEEING, "def main", images=[picture(colour)], options={**GREEDY, "top_p": 1.0})
        assert ask(picture(colour)) == own.response


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP"])
def test_other_kinds_of_files_are_seen_as_their_pixels(client: ollama.Client, kind: str) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    answers = [
        client.generate(SEEING, "def main", images=[image], options=GREEDY).response
        for image in (picture("white"), picture("white", kind=kind, **lossless))
    ]
    assert answers[0] == answers[1]


def test_a_text_names_the_place_of_an_image(running: Any) -> None:
    def rendered(prompt: str, **more: Any) -> dict[str, Any]:
        body = {"model": SEEING, "prompt": prompt, "images": [base64_of(picture())], **more}
        found: dict[str, Any] = running.client.post("/api/generate", json=body | {"_debug_render_only": True}).json()
        return dict(found["_debug_info"])

    assert rendered("What?") == {"rendered_template": "[img-0]What?", "image_count": 1}
    assert rendered("Is [img] red?")["rendered_template"] == "Is [img-0] red?"
    assert rendered("Is [img] red?", raw=True)["rendered_template"] == "Is [img-0] red?"


def test_a_damaged_projector_is_no_eye(client: ollama.Client) -> None:
    assert "vision" not in (client.show("damaged").capabilities or ())
    with pytest.raises(ollama.ResponseError, match="does not support images"):
        client.generate("damaged", "def main", images=[picture()])


def test_a_model_of_texts_refuses_images(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="missing data required for image input") as error:
        client.generate(BLIND, "def main", images=[picture()])
    assert error.value.status_code == 400


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(min(width * 3 + 1, 1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("images", "status", "words"),
    [
        ([b"hello"], 400, "cannot be read as PNG"),
        ([b""], 400, "cannot be read as PNG"),
        ([picture()[:60]], 400, "cannot be read as PNG"),
        ([b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40)], 400, "cannot be read as PNG"),
        ([b"<svg xmlns='http://www.w3.org/2000/svg'/>"], 400, "cannot be read as PNG"),
        ([bomb(200, 100)], 413, "larger than 10000 pixels"),
        ([bomb(60_000, 60_000)], 400, "too many pixels"),
        ([picture(size=(80, 80))] * 2, 413, "larger than 10000 pixels together"),
        ([picture(size=(1, 1))] * 33, 413, "at most 32 images"),
        ([picture() + bytes(MOST_BYTES)], 413, "larger than 50000 bytes"),
    ],
)
def test_what_is_no_image_or_too_large_is_refused(running: Any, images: list[bytes], status: int, words: str) -> None:
    body = {"model": SEEING, "prompt": "hi", "images": [base64_of(image) for image in images], "stream": False}
    answer = running.client.post("/api/generate", json=body)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_images_from_elsewhere_are_not_fetched(running: Any) -> None:
    for url in ("http://127.0.0.1:1/a.png", "file:///etc/passwd", "ftp://x/y.png"):
        parts = [{"type": "image_url", "image_url": {"url": url}}]
        body = {"model": SEEING, "messages": [{"role": "user", "content": parts}]}
        answer = running.client.post("/v1/chat/completions", json=body)
        assert (answer.status_code, "not fetched from elsewhere" in answer.text) == (400, True)


def test_more_than_the_context_holds_is_an_error_of_its_own(running: Any) -> None:
    body = {"model": SEEING, "prompt": "word " * 300, "images": [base64_of(picture())]}
    answer = running.client.post("/api/generate", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "the input length exceeds the context length")


def test_the_oldest_turns_go_with_their_images(running: Any) -> None:
    turns = [
        {"role": "user", "content": "x", "images": [base64_of(picture("red"))]},
        {"role": "assistant", "content": "word " * 80},
        {"role": "user", "content": "def", "images": [base64_of(picture("blue"))]},
    ]
    body = {"model": SEEING, "messages": turns, "stream": True, "options": GREEDY}
    last = json.loads(running.client.post("/api/chat", json=body).text.splitlines()[-1])
    alone = running.client.post("/api/chat", json=body | {"messages": turns[2:], "stream": False}).json()
    assert last["prompt_eval_count"] == alone["prompt_eval_count"] > tiny_projector["TOKENS"]


def test_images_that_a_template_leaves_out_are_left_out(running: Any) -> None:
    turns = [
        {"role": "user", "content": "def", "images": [base64_of(picture())]},
        {"role": "assistant", "content": "x"},
    ]
    more = [{"role": "user", "content": "main", "images": [base64_of(picture())]}]

    def ask(messages: list[dict[str, Any]]) -> Any:
        return running.client.post("/api/chat", json={"model": "first", "messages": messages, "stream": False})

    assert ask(turns + more).json()["prompt_eval_count"] == ask(turns[:1]).json()["prompt_eval_count"]
    none = ask([{"role": "user", "content": "def"}, turns[1], *more])
    assert (none.status_code, "leaves images out" in none.text) == (400, True)


def test_tokens_of_an_exchange_with_an_image_are_taken_back(client: ollama.Client) -> None:
    first = client.generate(SEEING, "def", images=[picture()], options=GREEDY)
    second = client.generate(SEEING, "main", context=first.context, images=[picture("blue")], options=GREEDY)
    assert second.response and (second.prompt_eval_count or 0) > tiny_projector["TOKENS"] + len(first.context or ())
