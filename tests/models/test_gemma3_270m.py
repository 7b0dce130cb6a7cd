"""The real Gemma 3 270M of the package index: read, shown, cut to fewer tokens, written, run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from pydoc_data import topics

import numpy
import pytest
import torch
from typer.testing import CliRunner

from smidgen.cli.main import app
from smidgen.export import gguf
from smidgen.inference.scoring import PromptScorer
from smidgen.models.load import load_local
from smidgen.models.model import Model
from smidgen.models.reference import Reference
from smidgen.models.sources import LocalModel, fetch
from smidgen.models.store import Store
from smidgen.shrink.prune.structures.vocabulary import Vocabulary

pytestmark = pytest.mark.index
QUESTION = "The capital of France is Paris. The capital of Italy is Rome, and the capital of Germany is"


@pytest.fixture(scope="module")
def local(test_cache: Path) -> LocalModel:
    return fetch(Reference("catalog", "gemma3:270m"), Store(test_cache))


@pytest.fixture(scope="module")
def model(local: LocalModel) -> Model:
    return load_local(local)


def ids_of(model: Model, text: str) -> list[int]:
    ids: list[int] = model.tokenizer(text)["input_ids"]
    return ids


def logits_of(model: Model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.module(torch.tensor([ids]), use_cache=False).logits[0]
    return logits


def test_it_says_what_the_engine_says_of_its_own_file(model: Model, local: LocalModel, hard_text: str) -> None:
    ids = ids_of(model, QUESTION)
    logits = logits_of(model, ids)
    with PromptScorer(local.path, threads=1, context=64) as scorer:
        found = torch.from_numpy(numpy.array(scorer.logits(ids)))
        for text in (
            QUESTION,
            hard_text,
            *hard_text.splitlines(keepends=True),
            " " * 40,
            "\n" * 40,
            topics.topics["if"],
        ):
            assert scorer.tokenize(text, special=True) == ids_of(model, text)
            assert scorer.detokenize(ids_of(model, text)[1:]) == model.tokenizer.decode(ids_of(model, text)[1:]) == text
    p, q = logits.log_softmax(-1), found.log_softmax(-1)
    assert float((p.exp() * (p - q)).sum(-1).mean()) < 0.02  # llama.cpp rounds activations to 8 bits
    assert torch.equal(logits.argmax(-1), found.argmax(-1))
    assert model.tokenizer.decode([int(logits[-1].argmax())]) == " Berlin"
    assert model.lineage.origin.dequantised_from is not None
    assert (model.config.max_position_embeddings, model.config.sliding_window) == (32768, 512)
    assert [index for index, kind in enumerate(model.config.layer_types) if kind == "full_attention"] == [5, 11, 17]
    assert (model.anatomy.embedding_scale, model.anatomy.norm_offset) == (640**0.5, 1.0)


def test_it_is_shown(local: LocalModel, test_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMIDGEN_HOME", str(test_cache))
    shown = CliRunner().invoke(app, ["show", "gemma3:270m", "--json"])
    assert shown.exit_code == 0, shown.output
    facts = json.loads(shown.stdout)
    assert (facts["architecture"], facts["parameters"], facts["vocabulary_size"]) == ("gemma3", 268_098_176, 262_144)
    assert (facts["context_length"], facts["dequantised_from"], facts["licence"]) == (32768, "Q4_K_M", "gemma")


def test_fewer_tokens_say_the_same(model: Model, tmp_path: Path, hard_text: str) -> None:
    text = "\n".join(list(topics.topics.values())[:40])
    counts = Counter(ids_of(model, text))
    scores = torch.tensor([float(counts[number]) for number in range(262_144)])
    kept = Vocabulary().select(model, scores, 32_768)
    pruned = Vocabulary().remove(model, kept)
    assert pruned.parameter_count() == 268_098_176 - (262_144 - 32_768) * 640 < 268_098_176 / 2
    new = {old: number for number, old in enumerate(kept.tolist())}
    made = 0
    for line in text.splitlines():
        before = ids_of(model, line)
        if all(number in new for number in before):
            assert ids_of(pruned, line) == [new[number] for number in before]
            made += 1
    assert made == len(text.splitlines())  # every token of the text was kept
    assert len(ids_of(pruned, hard_text)) > len(ids_of(model, hard_text))  # spelled with bytes
    assert pruned.tokenizer.decode(ids_of(pruned, hard_text)[1:]) == hard_text
    ids = ids_of(pruned, QUESTION)
    old = kept[ids].tolist()
    torch.testing.assert_close(logits_of(pruned, ids), logits_of(model, old)[:, kept], atol=2e-3, rtol=1e-3)
    gguf.write(pruned, tmp_path / "small.gguf")
    with PromptScorer(tmp_path / "small.gguf", threads=1, context=64) as scorer:
        for sample in (QUESTION, hard_text, topics.topics["while"]):
            assert scorer.tokenize(sample, special=True) == ids_of(pruned, sample)
        found = torch.from_numpy(numpy.array(scorer.logits(ids)))
        assert scorer.detokenize([int(found[-1].argmax())]) == " Berlin"
    assert float(torch.cosine_similarity(logits_of(pruned, ids), found, dim=-1).min()) > 0.999


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_cut_to_english_it_is_half_as_large_and_as_good_on_held_out_english(model: Model) -> None:
    from smidgen.data import builtin
    from smidgen.data.packing import token_use, windows
    from smidgen.shrink.prune.comparison import spelling_cost
    from smidgen.shrink.prune.prune import Prune

    use = token_use(builtin.calibration(), model.tokenizer)
    result = Prune("vocabulary", keep_language="en").apply(model, torch.tensor([[2, 3, 4]]), token_use=use)
    assert result.parameter_count() <= 0.5 * model.parameter_count()
    held_out = windows(builtin.held_out(), model.tokenizer, length=512, count=24)[:8]
    lost = 0.0
    for window in held_out:
        logits = logits_of(model, window.tolist())
        lost += float(torch.nn.functional.cross_entropy(logits[:-1], window[1:], reduction="sum"))
    # Both read the same bytes, so the share by which the text costs more is that of the bits per byte.
    assert spelling_cost(model, result, held_out) * held_out.numel() / lost < 0.01
    for sample in ("日本語のテキスト", "naïve café Zürich", "👩‍👩‍👧 ☃", "Привет, мир", "\x01\x1f"):
        ids = result.tokenizer(sample, add_special_tokens=False)["input_ids"]
        assert result.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == sample
