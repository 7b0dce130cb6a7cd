"""Which tokens stay for a language, and that the tokenizer keeps its promises."""

import pytest
import torch

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.shrink.prune.languages import Alphabet, default_keep, known_scripts, likeness, token_scores
from smidgen.shrink.prune.prune import Prune

MIXED = "the cat sat on the mat " * 40 + "кошка сидела на ковре " * 40 + "η γάτα κάθισε στο χαλί " * 40


def mixed_model(tiny_model, vocabulary=1024):
    """A model whose tokenizer was trained on three scripts."""
    from dataclasses import replace

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([MIXED], trainer)
    model = tiny_model(vocab_size=vocabulary)
    return replace(model, tokenizer=PreTrainedTokenizerFast(tokenizer_object=core))


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("names", "admitted", "refused"),
    [
        ("en", [" the", "3.14", "!?", "", "Don't"], ["é", "über", "кот", "漢"]),
        ("de", [" Straße", "ÜBER"], ["été", "ñ"]),
        ("de,fr", [" Straße", "été"], ["ñ"]),
        ("ru", [" кошка", "1"], ["cat", "γάτα"]),
        ("ja", ["日本語", "かな", "カナ", "ー"], ["한국어", "abc"]),
        ("hi", ["नमस्ते"], ["வணக்கம்"]),
        ("Greek", ["γάτα"], ["cat"]),
    ],
)
def test_a_language_admits_its_letters_and_what_has_none(names, admitted, refused):
    alphabet = Alphabet.of(names)
    assert [text for text in admitted if not alphabet.admits(text)] == []
    assert [text for text in refused if alphabet.admits(text)] == []
    assert not alphabet.admits("half a \ufffd")


def test_unknown_languages_are_refused_before_a_model_is_seen():
    with pytest.raises(ReferenceNotFound, match="Did you mean"):
        Prune("vocabulary", keep_language="cyrilic")
    with pytest.raises(InvalidInput, match="No language"):
        Prune("vocabulary", keep_language=" ,")
    assert {"LATIN", "CYRILLIC", "HANGUL", "CJK", "THAI"} <= known_scripts()


def test_tokens_of_other_scripts_go_and_any_text_still_encodes(tiny_model):
    model = mixed_model(tiny_model)
    whole = model.tokenizer.get_vocab()
    assert len(whole) < 600  # rows without a token fill up what is kept
    step = Prune("vocabulary", keep_language="ru", keep=256)
    with pytest.raises(InvalidInput):
        step.apply(model, torch.tensor([[1, 2, 3]]))  # special and byte tokens alone are more
    counts = torch.zeros(1024)
    scores, wanted = token_scores(model, "ru", counts)
    words = {model.tokenizer.decode([number]): float(scores[number]) for number in whole.values()}
    assert words[" кошка"] > 0 and words[" the"] == 0 and words[" χαλί"] == 0
    assert wanted == int((scores > 0).sum())
    counts[whole["Ġthe"]] = 3
    assert float(token_scores(model, "ru", counts)[0][whole["Ġthe"]]) > words[" кошка"]


def test_a_cut_by_language_keeps_its_pieces(tiny_model, text):
    model = tiny_model(vocab_size=1024)
    use = torch.tensor(encode(model.tokenizer, text)).bincount(minlength=1024)
    result = Prune("vocabulary", keep_language="en", keep=768).apply(model, torch.tensor([[1, 2, 3]]), token_use=use)
    kept = result.lineage.kept_tokens
    assert result.lineage.steps[-1].parameters["keep_language"] == "en" and len(kept) == 768
    new = {old: number for number, old in enumerate(kept)}
    same = 0
    for word in (f" {word}" for word in text.split()):
        before = encode(model.tokenizer, word)
        if all(number in new for number in before):
            assert encode(result.tokenizer, word) == [new[number] for number in before]
            same += 1
    assert same > 1000
    for sample in ("кошка 漢字 🚀", "naïve café", "\x00\x1f"):
        assert result.tokenizer.decode(encode(result.tokenizer, sample), clean_up_tokenization_spaces=False) == sample


def test_where_all_tokens_belong_to_a_language_a_count_is_asked_for(tiny_model):
    with pytest.raises(InvalidInput, match="Say with 'keep'"):
        Prune("vocabulary", keep_language="en").apply(tiny_model(vocab_size=512), torch.tensor([[1, 2, 3]]))
    assert default_keep(262144) < 262144 / 2


def test_the_direction_of_embeddings_tells_one_kind_from_another():
    generator = torch.Generator().manual_seed(0)
    kind = torch.randn(2, 32, generator=generator)
    rows = kind.repeat_interleave(300, 0) + 0.8 * torch.randn(600, 32, generator=generator)
    found = likeness(rows, torch.arange(0, 200), torch.arange(300, 500))
    assert float((found[200:300] > 0).float().mean()) > 0.95 and float((found[500:] < 0).float().mean()) > 0.95
