"""OpenAI's own Python client against a real port: with the echo engine for the protocol, with smollm2 for the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from smidgen.inference.scoring import PromptScorer

SMOLLM2 = "smollm2:135m"
TEXT = "The capital of France is Paris, and café costs 3 €."


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def smollm2(smollm2_address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{smollm2_address}/v1", api_key="any", max_retries=0, timeout=120) as made:
        yield made


def test_chats(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "Good day."}], n=2)
    assert [choice.message.content for choice in made.choices] == ["Good day.", "Good day."]
    assert made.usage is not None and made.usage.completion_tokens == 4


def test_streamed_chats(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="echo",
        messages=[{"role": "user", "content": "one two three"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two three"
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 6


def test_the_helper_for_streams_puts_calls_together(client: openai.OpenAI) -> None:
    asked = '{"name": "add", "arguments": {"a": 1, "b": "x"}}'
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    with client.chat.completions.stream(
        model="echo", messages=[{"role": "user", "content": asked}], tools=[tool]
    ) as stream:
        final = stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"a": 1, "b": "x"}
    assert final.choices[0].finish_reason == "tool_calls"


def test_completions(client: openai.OpenAI) -> None:
    made = client.completions.create(model="echo", prompt="a b", echo=True, logprobs=1, max_tokens=0)
    shown = made.choices[0].logprobs
    assert shown is not None and shown.tokens == ["a", " b"] and shown.text_offset == [0, 1]
    parts = client.completions.create(model="echo", prompt="a b", stream=True)
    assert "".join(part.choices[0].text for part in parts) == "a b"


def test_vectors_and_models(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="echo", input=["a b", "c"])
    plain = client.embeddings.create(model="echo", input=["a b", "c"], encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert list(client.models.list()) == [] and client.models.retrieve("echo").owned_by == "library"


def test_errors_have_their_kind(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'none' not found"):
        client.chat.completions.create(model="none", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError, match="best_of"):
        client.completions.create(model="echo", prompt="x", best_of=2)


def test_a_real_model_scores_as_it_does_natively(smollm2: openai.OpenAI, smollm2_gguf: Path) -> None:
    with PromptScorer(smollm2_gguf, threads=1) as scorer:
        ids = scorer.tokenize(TEXT)
        native = scorer.next_token_logprobs(ids)
        greedy = [int(row.argmax()) for row in scorer.logits(ids)]
        pieces = [scorer.pieces()[token].decode(errors="replace") for token in greedy]
    by_text, by_tokens = (
        smollm2.completions.create(
            model=SMOLLM2, prompt=prompt, echo=True, logprobs=2, max_tokens=1, temperature=0
        ).choices[0]
        for prompt in (TEXT, ids)
    )
    assert by_text.logprobs == by_tokens.logprobs
    assert by_text.text.startswith(TEXT) and by_tokens.text == by_text.text
    shown = by_text.logprobs
    assert shown is not None and shown.token_logprobs is not None
    assert shown.token_logprobs[0] is None
    assert shown.token_logprobs[1:-1] == pytest.approx(native.tolist(), abs=1e-5)
    assert (shown.tokens or [])[-1] == pieces[-1] and len(shown.tokens or []) == len(ids) + 1
    for likeliest, best in zip((shown.top_logprobs or [])[1:-1], pieces, strict=False):
        assert "�" in best or max(likeliest, key=lambda token: likeliest[token]) == best
    assert all(TEXT.startswith(token, at) for token, at in zip(shown.tokens[:9], shown.text_offset[:9], strict=True))


def test_a_real_model_answers(smollm2: openai.OpenAI) -> None:
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    schema = {"type": "object", "properties": {"capital": {"enum": ["Paris", "Rome"]}}, "required": ["capital"]}
    made = smollm2.chat.completions.create(
        model=SMOLLM2,
        messages=asked,
        temperature=0,
        max_tokens=30,
        response_format={"type": "json_schema", "json_schema": {"name": "capital", "schema": schema}},
    )
    assert json.loads(made.choices[0].message.content or "") == {"capital": "Paris"}
    plain = smollm2.chat.completions.create(
        model=SMOLLM2, messages=asked, temperature=0, max_tokens=1, logprobs=True, top_logprobs=3
    )
    [token] = (plain.choices[0].logprobs or pytest.fail()).content or []
    assert len(token.top_logprobs) == 3 and token.logprob == max(each.logprob for each in token.top_logprobs)
