"""What every engine must do, whatever runs inside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from smidgen import registry
from smidgen.errors import EngineFailed
from smidgen.inference.engine import ENGINES, Chunk, Engine, Message, open_engine
from smidgen.inference.llama_server import LlamaServer, ServerSettings
from smidgen.inference.options import GenerationOptions

pytestmark = pytest.mark.index
NAMES = registry.names(ENGINES)
PROMPT = "one two three four five six seven eight nine ten eleven"
UNICODE = "日本語 ☃ 😀 naïve 한국어 日本語 ☃ 😀 naïve 한국어 日本語 ☃ 😀 naïve 한국어"


def greedy(limit: int = 24, *stop: str) -> GenerationOptions:
    return GenerationOptions(temperature=0, num_predict=limit, stop=stop)


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


@contextmanager
def opened_engine(name: str, path: Path, threads: int, context: int) -> Iterator[Engine]:
    """Open a file in an engine; for the engines that ask a server behind a real one."""
    with ExitStack() as stack:
        model: str | Path = path
        if name in ("remote", "vllm"):
            server = LlamaServer(path, ServerSettings(context=context, threads=threads))
            stack.callback(server.close)
            key = stack.enter_context(pytest.MonkeyPatch.context())
            key.setenv("SMIDGEN_REMOTE_KEY", server.headers["Authorization"].removeprefix("Bearer "))
            model = f"{server.address}/v1/model"
        yield stack.enter_context(open_engine(model, engine=name, threads=threads, context=context))


@pytest.fixture(scope="module", params=NAMES)
def engine(request: pytest.FixtureRequest, smollm2_gguf: Path) -> Iterator[Engine]:
    with opened_engine(request.param, smollm2_gguf, 2, 512) as opened:
        yield opened


def test_all_engines_are_found() -> None:
    assert NAMES == ("echo", "llama_cpp", "remote", "torch", "vllm")


def test_an_engine_keeps_the_protocol(engine: Engine) -> None:
    assert isinstance(engine, Engine)
    assert engine.load_seconds >= 0


def test_greedy_answers_repeat(engine: Engine) -> None:
    first = list(engine.complete(PROMPT, greedy(12)))
    list(engine.complete("something else", greedy(4)))
    again = list(engine.complete(PROMPT, greedy(12)))
    assert [chunk.text for chunk in first] == [chunk.text for chunk in again]
    assert text_of(first).strip()


def test_a_conversation_is_answered(engine: Engine) -> None:
    messages = [Message("system", "Be brief."), Message("user", "Name a colour.")]
    chunks = list(engine.chat(messages, greedy(8)))
    assert text_of(chunks).strip()
    assert [chunk.text for chunk in chunks] == [chunk.text for chunk in engine.chat(messages, greedy(8))]


def test_the_last_chunk_alone_says_why_it_ended_and_what_it_took(engine: Engine) -> None:
    *before, last = engine.complete(PROMPT, greedy(6))
    assert all(not chunk.done and chunk.reason is None and chunk.metrics is None for chunk in before)
    assert last.done
    assert last.reason == "length"
    assert last.metrics is not None
    assert last.metrics.generated_tokens == 6
    assert last.metrics.prompt_tokens >= 11
    assert last.metrics.prompt_seconds >= 0 and last.metrics.generation_seconds >= 0


def test_a_stop_text_ends_the_answer_and_is_not_in_it(engine: Engine) -> None:
    whole = text_of(list(engine.complete(PROMPT, greedy(12))))
    stop = whole.split()[2]
    chunks = list(engine.complete(PROMPT, greedy(12, "never to be found", stop)))
    assert text_of(chunks) == whole[: whole.index(stop)]
    assert chunks[-1].reason == "stop"


def test_an_answer_can_be_broken_off(engine: Engine) -> None:
    answer = engine.complete(PROMPT, greedy(400))
    assert next(answer).text
    answer.close()
    assert text_of(list(engine.complete(PROMPT, greedy(2)))), "the engine must be free for the next request"


def test_streaming_never_splits_a_character(engine: Engine) -> None:
    chunks = list(engine.complete(UNICODE, greedy(24)))
    assert "\ufffd" not in text_of(chunks)
    assert any(ord(character) > 0x2000 for character in text_of(chunks)), "the test needs such characters"
    for chunk in chunks:
        chunk.text.encode("utf-8")


def test_closing_twice_is_harmless_and_closed_is_closed(smollm2_gguf: Path) -> None:
    for name in NAMES:
        with opened_engine(name, smollm2_gguf, 1, 64) as opened:
            opened.close()
            opened.close()
            with pytest.raises(EngineFailed, match="closed"):
                list(opened.complete("a", greedy()))
