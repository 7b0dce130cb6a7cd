"""The standard suites of langchain-tests, by subclassing, against the server at ``CLIENTS_ADDRESS``.

Each of LangChain's three ways to this server has the suite for chat models, two have that for embeddings. There is
none for plain LLMs; the functions at the end ask `OllamaLLM` and `OpenAI` what the one for chat models asks.
"""

import os
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseLLM
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

ADDRESS, MODEL = os.environ["CLIENTS_ADDRESS"], os.environ["CLIENTS_MODEL"]
OPENAI = {"model": MODEL, "base_url": f"{ADDRESS}/v1", "api_key": "any"}
ANTHROPIC = {"model": MODEL, "base_url": ADDRESS, "api_key": "any"}


class _Chat(ChatModelIntegrationTests):
    supports_json_mode = True
    model_override_value = f"library/{MODEL}"


class TestChatOllama(_Chat):
    """langchain-ollama, by Ollama's own routes: they have no field to choose a tool by."""

    chat_model_class = ChatOllama
    chat_model_params = {"model": MODEL, "base_url": ADDRESS}  # noqa: RUF012 - the suite's own way
    has_tool_choice = False


class TestChatOpenAI(_Chat):
    """langchain-openai, by /v1/chat/completions."""

    chat_model_class = ChatOpenAI
    chat_model_params = {**OPENAI, "max_tokens": 128, "stream_usage": True}  # noqa: RUF012


class TestResponses(_Chat):
    """langchain-openai, by /v1/responses."""

    chat_model_class = ChatOpenAI
    chat_model_params = {**OPENAI, "max_tokens": 128, "use_responses_api": True}  # noqa: RUF012


class TestChatAnthropic(_Chat):
    """langchain-anthropic, by /v1/messages: there is no way to ask for JSON without a schema."""

    chat_model_class = ChatAnthropic
    chat_model_params = {**ANTHROPIC, "max_tokens": 128}  # noqa: RUF012
    supports_json_mode = False
    supports_anthropic_inputs = False


class TestOllamaEmbeddings(EmbeddingsIntegrationTests):
    """langchain-ollama's vectors."""

    embeddings_class = OllamaEmbeddings
    embedding_model_params = {"model": MODEL, "base_url": ADDRESS}  # noqa: RUF012


class TestOpenAIEmbeddings(EmbeddingsIntegrationTests):
    """langchain-openai's vectors; it sends texts where it is told not to cut them into another model's tokens."""

    embeddings_class = OpenAIEmbeddings
    embedding_model_params = {**OPENAI, "check_embedding_ctx_length": False}  # noqa: RUF012


@pytest.fixture(params=["ollama", "openai"])
def llm(request: pytest.FixtureRequest) -> BaseLLM:
    """Each of LangChain's plain LLMs."""
    if request.param == "ollama":
        return OllamaLLM(model=MODEL, base_url=ADDRESS)
    options: dict[str, Any] = {**OPENAI, "max_tokens": 64}
    return OpenAI(**options)


def test_llm_whole(llm: BaseLLM) -> None:
    assert llm.invoke("Hello")


def test_llm_streamed(llm: BaseLLM) -> None:
    assert len([piece for piece in llm.stream("Hello") if piece]) > 1


def test_llm_batch(llm: BaseLLM) -> None:
    found = llm.batch(["Hello", "Good day"])
    assert len(found) == 2 and all(found)


async def test_llm_asynchronous(llm: BaseLLM) -> None:
    assert await llm.ainvoke("Hello") and all(await llm.abatch(["Hello", "Good day"]))
    assert len([piece async for piece in llm.astream("Hello") if piece]) > 1


def test_llm_stop(llm: BaseLLM) -> None:
    assert "e" not in llm.invoke("Hello", stop=["e"])
