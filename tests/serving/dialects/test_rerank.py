"""Documents sorted by the echo engine's vectors, which count words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

Ask = Callable[..., httpx.Response]
ASKED = {"model": "echo", "query": "red apple pie", "documents": ["green pear", "red apple", {"text": "red apple pie"}]}


def test_documents_are_sorted_by_how_near_they_are(ask: Ask) -> None:
    made = ask("POST", "/v1/rerank", ASKED | {"return_documents": True}).json()
    assert [result["index"] for result in made["results"]] == [2, 1, 0]
    assert made["results"][0]["relevance_score"] == pytest.approx(1.0)
    assert made["results"][0]["document"] == {"text": "red apple pie"}
    scores = [result["relevance_score"] for result in made["results"]]
    assert scores == sorted(scores, reverse=True)
    assert (made["model"], made["scored_by"]) == ("echo", "pooled embeddings")
    assert made["usage"] == {"prompt_tokens": 10, "total_tokens": 10}


def test_only_the_best_are_given_where_that_is_asked_for(ask: Ask) -> None:
    [best] = ask("POST", "/v1/rerank", ASKED | {"top_n": 1}).json()["results"]
    assert best["index"] == 2 and "document" not in best


@pytest.mark.parametrize("fields", [{"query": ""}, {"documents": []}, {"documents": [{"body": "x"}]}, {"top_n": 0}])
def test_what_cannot_be_sorted_is_refused(ask: Ask, fields: dict[str, Any]) -> None:
    answer = ask("POST", "/v1/rerank", ASKED | fields)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
