"""Every demand rules out who does not meet it, says why, and the rest is ranked by what was published."""

from __future__ import annotations

import pytest

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.evaluate.calibrate import Calibration
from smidgen.evaluate.choose import TASKS, Choice, Needs, choose, makeable, quality_of
from smidgen.models import catalog

MACHINE = Calibration(20e9, 100e9, 2, token_seconds=0.01, read_seconds=0.002, memory=60_000_000)


def asked(**needs) -> Choice:
    return choose(Needs(**needs), MACHINE)


def names(choice: Choice) -> set[str]:
    return {each.name for each in choice.suggestions}


@pytest.mark.parametrize("task", TASKS)
def test_every_model_is_suggested_or_ruled_out_with_a_reason(task: str) -> None:
    found = asked(task=task)
    assert names(found) | set(found.ruled_out) == set(catalog.entries()) and not names(found) & set(found.ruled_out)
    assert found.suggestions and all(found.ruled_out.values())
    for each in found.suggestions:
        assert each.reasons and each.steps[0] == f"smidgen pull {each.reference}"


def test_memory_is_a_bound() -> None:
    found = asked(memory=10**9)
    assert found.suggestions
    assert all(each.estimate and each.estimate.memory <= 10**9 for each in found.suggestions)
    assert found.ruled_out["llama3.1:8b"].startswith("needs at least")
    assert names(asked(memory=5 * 10**8)) < names(found)


def test_speed_is_a_bound() -> None:
    found = asked(speed=40.0)
    assert found.suggestions
    assert all(each.estimate and each.estimate.tokens_per_second >= 40 for each in found.suggestions)
    assert found.ruled_out["llama3.1:8b"].startswith("writes at most")


def test_who_writes_slower_than_people_read_loses_rank_unless_a_speed_is_asked() -> None:
    slow = Calibration(5e9, 20e9, 2, token_seconds=0.05, read_seconds=0.01, memory=60_000_000)
    free = [each.name for each in choose(Needs(), slow).suggestions]
    asked_for = [each.name for each in choose(Needs(speed=0.01), slow).suggestions]
    assert asked_for.index("qwen2.5:7b") < asked_for.index("gemma3:1b")
    assert free.index("gemma3:1b") < free.index("qwen2.5:7b")
    reasons = {each.name: each.reasons for each in choose(Needs(), slow).suggestions}
    assert "writes slower than people read" in reasons["llama3.1:8b"]
    told = choose(Needs(speed=0.01), slow).suggestions
    assert not any("slower" in reason for each in told for reason in each.reasons)


def test_the_widest_format_that_fits_is_taken_and_none_below_four_bits_without_need() -> None:
    wide = {each.name: each.estimate for each in asked().suggestions}
    assert wide["qwen2.5:0.5b"] is not None and wide["qwen2.5:0.5b"].format == "Q8_0"
    assert all(cost is None or cost.bits >= 4 for cost in wide.values())
    tight = {each.name: each.estimate for each in asked(memory=830_000_000).suggestions}
    assert tight["llama3.2:1b"] is not None and tight["llama3.2:1b"].format == "Q3_K"
    squeezed = next(each for each in asked(memory=830_000_000).suggestions if each.name == "llama3.2:1b")
    assert any("below 4 bits" in reason for reason in squeezed.reasons)


def test_a_permissive_licence_is_one_that_forbids_nothing() -> None:
    found = asked(licence="permissive")
    terms = [catalog.find(name).terms for name in names(found)]
    assert terms and all(each is not None and each.permissive for each in terms)
    assert found.ruled_out["gemma2:2b"] == "licence gemma is not permissive"
    assert found.ruled_out["stablelm2:1.6b"] == "its licence is not known here"


def test_commercial_use_rules_out_what_forbids_it_and_what_was_not_read() -> None:
    found = asked(licence="commercial")
    assert found.ruled_out["qwen2.5:3b"] == "licence qwen-research forbids commercial use"
    assert "not known" in found.ruled_out["lfm2:1.2b"]
    assert {"llama3.2:1b", "gemma2:2b", "qwen3:0.6b"} <= names(found)


def test_one_licence_can_be_asked_for() -> None:
    assert {catalog.find(name).licence for name in names(asked(licence="mit"))} == {"mit"}


def test_languages_rule_out_who_was_published_without_and_mark_who_does_not_say() -> None:
    found = asked(languages=("ko",))
    assert found.ruled_out["llama3.2:1b"] == "was not published for ko"
    assert "exaone4:1.2b" in names(found)
    unsure = next(each for each in found.suggestions if each.name == "mistral:7b")
    assert "whether it knows ko is not said" in unsure.reasons


def test_a_context_that_is_too_short_rules_out() -> None:
    found = asked(context=32768)
    assert found.ruled_out["gemma2:2b"] == "its context ends at 8,192 tokens"
    assert "llama3.2:1b" in names(found)
    cache = {each.name: each.estimate.cache for each in found.suggestions if each.estimate}
    assert cache["llama3.2:1b"] == 8 * 4096 * 32768


def test_a_task_brings_its_kind() -> None:
    assert all("image" in catalog.find(name).modalities for name in names(asked(task="documents")))
    assert "base model" in asked(task="chat").ruled_out["pythia:410m"]
    assert "pythia:410m" in names(asked(task="classify")), "a base model can be trained for classes"
    code = asked(task="code", memory=7 * 10**8)
    ranked = [each.name for each in code.suggestions]
    assert ranked.index("qwen2.5-coder:0.5b") < ranked.index("smollm2:360m")
    chat = [each.name for each in asked(memory=7 * 10**8).suggestions]
    assert chat.index("qwen2.5:0.5b") < chat.index("qwen2.5-coder:0.5b") or "qwen2.5-coder:0.5b" not in chat


def test_only_what_is_in_the_store_when_nothing_may_be_fetched() -> None:
    found = asked(stored=frozenset({"smollm2:135m", "Qwen/Qwen3-0.6B"}))
    assert names(found) == {"smollm2:135m", "qwen3:0.6b"}


def test_the_rank_is_that_of_published_figures_with_unknown_last() -> None:
    qualities = [
        each.quality for each in asked(task="answer", speed=0.01).suggestions if not catalog.find(each.name).specialty
    ]
    known = [value for value in qualities if value is not None]
    assert known == sorted(known, reverse=True) and qualities[: len(known)] == known
    assert None in qualities


def test_quality_is_the_share_of_the_catalog_that_a_figure_beats() -> None:
    values = sorted(value for entry in catalog.entries().values() if (value := entry.score("gsm8k")) is not None)
    best = max(catalog.entries().values(), key=lambda entry: entry.score("gsm8k") or 0)
    assert quality_of(best, ("gsm8k",)) == (1.0, {"gsm8k": values[-1]})
    assert quality_of(catalog.find("smollm2:135m"), ("gsm8k",)) == (None, {})


def test_what_to_run_next_can_be_run() -> None:
    found = {each.name: each for each in asked(speed=12.0).suggestions}
    assert makeable(catalog.find("qwen2.5:0.5b")) and not makeable(catalog.find("granite4:1b"))
    step = found["qwen2.5:0.5b"].steps[1]
    assert step.startswith("smidgen make hf:Qwen/Qwen2.5-0.5B-Instruct --fit ") and "--speed 12tok/s" in step
    assert len(found["granite3.1-moe:1b"].steps) == 1


@pytest.mark.parametrize(
    ("needs", "error", "words"),
    [
        ({"task": "sumarize"}, ReferenceNotFound, "Did you mean 'summarize'"),
        ({"licence": "permisive"}, ReferenceNotFound, "Did you mean 'permissive'"),
        ({"context": 0}, InvalidInput, "context of 0 tokens"),
    ],
)
def test_what_cannot_be_asked_is_refused(needs, error, words) -> None:
    with pytest.raises(error, match=words):
        Needs(**needs)
