"""What every fine-tuning objective promises."""

import argparse
import inspect
import runpy
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers

from smidgen.data.rows import Corpus, Message, Row
from smidgen.models import families
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model
from smidgen.models.vision.family import SeeingFamily
from smidgen.shrink.finetune import objectives
from smidgen.shrink.finetune._loss import PackedLoss
from smidgen.shrink.finetune.objectives import Objective

TESTS = Path(__file__).parents[1]
TEXT = inspect.getsource(argparse)
build_published_tokenizer = runpy.run_path(str(TESTS / "conftest.py"))["build_published_tokenizer"]
FOLDER = TESTS.parent / "src" / "smidgen" / "shrink" / "finetune" / "objectives"
OPTIONS = {
    "supervised": [{}, {"instruction": "Which is it?"}],
    "self_supervised": [{}, {"task": "fill_in_the_middle"}, {"task": "next_sentence"}, {"task": "span", "share": 0.3}],
}
CASES = [(name, options) for name in objectives.names() for options in OPTIONS.get(name, [{}])]
LENGTH = 96
FAMILIES = {type(family).__name__: family for family in families.all_families() if not isinstance(family, SeeingFamily)}
"""Those that see train the language model of another family."""


@cache
def tiny(name):
    """A tiny random model of a family, its windows and bounds small enough to matter."""
    kind = getattr(transformers, FAMILIES[name].architecture)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    more = {"intermediate_size": 96, "vocab_size": 400, "max_position_embeddings": 256, "head_dim": 16}
    bounds = {"final_logit_softcapping": 2.0} if name == "Gemma2" else {}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": True}
    torch.manual_seed(0)
    config = kind.config_class(**shape, **more, **bounds, **ids, sliding_window=12, initializer_range=0.2)
    module = kind(config).eval()
    origin = Origin(name, "0" * 64, 1, 1)
    return Model(module, build_published_tokenizer("smollm", 400), FAMILIES[name], Lineage(origin))


@pytest.fixture(autouse=True)
def plain_arithmetic(monkeypatch):
    monkeypatch.setattr("smidgen.shrink.precision._fast_bfloat16", lambda: False)
    torch.set_num_threads(1)


def answered():
    sums = [Row(prompt=f"{one} and {one}?", completion=f"It is {one + one}.") for one in range(6)]
    chats = [Row(messages=(Message("user", "Hi"), Message("assistant", "Good day"))) for _ in range(2)]
    labelled = [Row(f"text {number}", label="spam" if number % 2 else "ham") for number in range(4)]
    return Corpus("answers", (*sums, *chats, *labelled))


def corpus_of(name):
    if name == "supervised":
        return answered()
    pieces = [TEXT[start : start + 90] for start in range(2000, 4700, 90)]
    return Corpus("prose", tuple(Row(f"{piece}. {piece[::-1]}. The end? It is.") for piece in pieces))


def packed(name, options, tokenizer, seed=0):
    return objectives.pack(objectives.build(name, options), corpus_of(name), tokenizer, length=LENGTH, seed=seed)


@pytest.fixture(scope="module")
def tokenizer():
    return build_published_tokenizer("smollm", 400)


def test_the_sweep_found_every_objective():
    files = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    assert list(objectives.names()) == files == ["self_supervised", "supervised", "unsupervised"]
    assert len(CASES) == 7 and len(FAMILIES) >= 5


@pytest.mark.parametrize("name", objectives.names())
def test_an_objective_is_a_documented_frozen_dataclass(name):
    kind = type(objectives.build(name, {}))
    assert is_dataclass(kind) and kind.__dataclass_params__.frozen and issubclass(kind, Objective)
    text = inspect.getdoc(kind)
    assert ">>>" in text and "Source" in text and "``[tokens]``" in text
    assert all(f"{field.name}: " in text for field in fields(kind))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_documents_fit_have_targets_and_come_again(name, options, tokenizer):
    objective, corpus = objectives.build(name, options), corpus_of(name)
    documents = list(objective.documents(corpus, tokenizer, length=LENGTH, seed=3))
    assert len(documents) >= 10
    for each in documents:
        assert 2 <= len(each.ids) == len(each.supervised) <= LENGTH
        assert any(each.supervised) and not each.supervised[0]
        assert all(0 <= token < 400 for token in each.ids)
    assert list(objective.documents(corpus, tokenizer, length=LENGTH, seed=3)) == documents


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_document_lies_whole_in_one_row(name, options, tokenizer):
    objective = objectives.build(name, options)
    documents = list(objective.documents(corpus_of(name), tokenizer, length=LENGTH, seed=0))
    rows, found = packed(name, options, tokenizer), []
    for row in range(len(rows.ids)):
        for segment in range(int(rows.segments[row].max()) + 1):
            inside = rows.segments[row] == segment
            found.append((rows.ids[row][inside].tolist(), rows.supervised[row][inside].tolist()))
            assert rows.positions[row][inside].tolist() == list(range(int(inside.sum())))
    assert sorted(found) == sorted((each.ids, each.supervised) for each in documents)
    assert not rows.supervised[rows.segments < 0].any()


def reached(model, rows, row, segment, positions=None):
    """Places of a row whose embedding the loss of one document depends on, and the document's own."""
    inside = rows.segments[row] == segment
    alone = replace(rows, supervised=rows.supervised & (inside & (torch.arange(len(rows.ids))[:, None] == row)))
    if positions is not None:
        alone = replace(alone, positions=positions)
    seen = []
    hook = model.module.get_submodule(model.anatomy.embedding).register_forward_hook(
        lambda part, inputs, output: seen.append(output.requires_grad_()) or output.retain_grad()
    )
    try:
        loss, count = PackedLoss(model, alone)(model.module, torch.tensor([row]), 0)
        loss.backward()
    finally:
        hook.remove()
    touched = (seen[0].grad[0].abs().sum(-1) > 0).nonzero().flatten().tolist()
    return touched, inside.nonzero().flatten().tolist(), count


FAMILY_CASES = [(*CASES[-1], family) for family in sorted(FAMILIES)] + [(*case, "Llama") for case in CASES[:-1]]


@pytest.mark.parametrize(("name", "options", "family"), FAMILY_CASES)
def test_no_gradient_reaches_another_document(name, options, family, tokenizer):
    model = tiny(family)
    rows = packed(name, options, tokenizer)
    row = int(rows.segments.max(1).values.argmax())
    count = int(rows.segments[row].max()) + 1
    assert count >= 2
    for segment in range(count):
        touched, own, targets = reached(model, rows, row, segment)
        assert targets == int(rows.supervised[row][own].sum()) > 0
        assert set(touched) <= set(own) and own[0] in touched


def test_without_positions_of_their_own_documents_would_see_each_other(tokenizer):
    rows = packed("supervised", {}, tokenizer)
    row = int(rows.segments.max(1).values.argmax())
    assert int(rows.segments[row].max()) >= 1
    running = torch.arange(LENGTH).expand_as(rows.positions)
    touched, own, _ = reached(tiny("Llama"), rows, row, 1, running)
    assert not set(touched) <= set(own)


@pytest.mark.parametrize(("name", "options", "family"), FAMILY_CASES)
def test_the_loss_of_packed_rows_is_that_of_every_document_alone(name, options, family, tokenizer):
    model, rows = tiny(family), packed(name, options, tokenizer)
    documents = list(objectives.build(name, options).documents(corpus_of(name), tokenizer, length=LENGTH, seed=0))
    total, targets = 0.0, 0
    with torch.no_grad():
        for each in documents:
            ids = torch.tensor([each.ids])
            labels = torch.where(torch.tensor([each.supervised]), ids, -100)
            count = sum(each.supervised)
            total += float(model.module(input_ids=ids, labels=labels, use_cache=False).loss) * count
            targets += count
        found = PackedLoss(model, rows).evaluate(model.module)
    assert found == pytest.approx(total / targets, rel=1e-5)
    assert targets == int(rows.supervised.sum())
