import pytest
import torch

from smidgen.data.packing import SHARED
from smidgen.data.rows import Corpus, Message, Row
from smidgen.shrink.finetune import objectives
from smidgen.shrink.finetune._loss import PackedLoss
from smidgen.shrink.finetune.finetune import Finetune

FAMILIES = ("gemma2", "llama", "phimoe", "qwen2")


@pytest.fixture(scope="module")
def instructed():
    """Chats that all begin with the same instruction, and one too long for a row, of which only the end is left."""

    def row(number, text):
        system = Message("system", "Name the tone of the text: rude or kind.")
        label = "rude" if number % 2 else "kind"
        return Row(messages=(system, Message("user", f"Text: {text}"), Message("assistant", label)), label=label)

    rows = [row(number, f"{number} default {'argument' if number % 2 else 'parser'}") for number in range(9)]
    return Corpus("instructed", (*rows, row(1, "positional " * 60)))


def losses(model, corpus, *, share):
    """The loss of all packed rows, its gradients, and the rows."""
    rows = objectives.pack(objectives.build("supervised", {}), corpus, model.tokenizer, length=160, seed=0, share=share)
    model.module.zero_grad(set_to_none=True)
    mean, count = PackedLoss(model, rows)(model.module, torch.arange(len(rows.ids)), 0)
    mean.backward()
    slopes = {  # an expert that only what stands behind the last target is sent to has none
        name: torch.zeros_like(each) if each.grad is None else each.grad.clone()
        for name, each in model.module.named_parameters()
    }
    return float(mean.detach()), count, slopes, rows


@pytest.mark.parametrize(("family", "attention"), [*((family, None) for family in FAMILIES), ("llama", "eager")])
def test_a_beginning_written_once_teaches_the_same(family, attention, chatty, instructed):
    model = chatty(family, max_position_embeddings=256)
    if attention is not None:
        model.module.set_attn_implementation(attention)
    plain, shared = (losses(model, instructed, share=share) for share in (False, True))
    assert (shared[3].segments == SHARED).any() and (shared[3].segments[-1] != SHARED).all()
    assert len(shared[3].ids) < len(plain[3].ids)
    assert shared[:2] == pytest.approx(plain[:2], abs=1e-5)
    assert plain[2].keys() == shared[2].keys()
    for name, slope in plain[2].items():
        torch.testing.assert_close(shared[2][name], slope, atol=2e-5, rtol=1e-3)


def test_documents_would_teach_otherwise_if_they_saw_each_other(chatty, instructed, monkeypatch):
    model = chatty()
    apart = losses(model, instructed, share=True)[0]
    monkeypatch.setattr(
        "smidgen.shrink.finetune._loss.visible",
        lambda segments: torch.ones(*segments.shape, segments.shape[1], dtype=torch.bool).tril(),
    )
    assert losses(model, instructed, share=True)[0] != pytest.approx(apart, abs=1e-3)


def test_fine_tuning_shares_beginnings_unless_a_window_is_too_short(chatty, instructed):
    work = Finetune(length=160)
    assert (work._rows(chatty(), instructed).segments == SHARED).any()
    wide, narrow = (chatty("gemma2", sliding_window=window) for window in (160, 64))
    assert (work._rows(wide, instructed).segments == SHARED).any()
    assert (work._rows(narrow, instructed).segments != SHARED).all()
