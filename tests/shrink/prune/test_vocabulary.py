import json
import random
import time
from collections import Counter

import pytest
import torch

from smidgen.errors import InvalidInput, Unsupported
from smidgen.models.checkpoint import gguf
from smidgen.models.checkpoint import tokenizer as tokenizers
from smidgen.models.load import read_gguf
from smidgen.shrink.prune.structures._bpe import Merges, check_closed, choose_closed, rewrite
from smidgen.shrink.prune.structures.vocabulary import Vocabulary

HARD = [
    "emoji 🚀😶‍🌫️🦙👩‍👩‍👧‍👦🇫🇷",
    "漢字かな交じり文と한국어 텍스트 नमस्ते Привет مرحبا",
    "def f(x):\n\treturn {k: v**2 for k, v in x.items()}  # note\n\n\n",
    "\u0007\u007f\u200b\ufeff a\u0301 \u0001\u001f",
    "   \t \n\n  multiple   spaces  ",
    "<|im_start|>user\nhi<|im_end|>\n",
    "3.14159 1e-10 0xDEADBEEF It's we'RE they'll ſtraße ÆØÅ ﬁ",
]


def random_texts(count):
    source = random.Random(7)
    ranges = [(1, 0xD7FF), (0xE000, 0x10FFFF), (32, 127)]
    return ["".join(chr(source.randrange(*source.choice(ranges))) for _ in range(40)) for _ in range(count)]


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def counts(tokenizer, text, rows):
    found = Counter(encode(tokenizer, text))
    return torch.tensor([float(found[number]) for number in range(rows)])


@pytest.fixture(scope="module")
def pruned(tiny_model, text):
    model = tiny_model(vocab_size=1024)
    kept = Vocabulary().select(model, counts(model.tokenizer, text, 1024), 512)
    return model, kept, Vocabulary().remove(model, kept)


def same_pieces(model, kept, result, pieces):
    """Count texts of kept tokens only, and assert that all of them encode to the same pieces."""
    new = {old: number for number, old in enumerate(kept.tolist())}
    made = 0
    for piece in pieces:
        before = encode(model.tokenizer, piece)
        if all(number in new for number in before):
            assert encode(result.tokenizer, piece) == [new[number] for number in before]
            made += 1
    return made


def round_trips(tokenizer, text):
    return tokenizer.decode(encode(tokenizer, text), clean_up_tokenization_spaces=False) == text


def test_text_of_kept_tokens_encodes_to_the_same_pieces(pruned, text):
    words = [f" {word}" for word in text.split()]
    made = same_pieces(*pruned, words)
    assert 0.5 * len(words) < made < len(words)


def test_any_other_text_still_round_trips(pruned):
    model, _, result = pruned
    for sample in [*HARD, *random_texts(50)]:
        assert round_trips(model.tokenizer, sample) and round_trips(result.tokenizer, sample)


def test_the_model_says_the_same_about_kept_tokens(pruned):
    model, kept, result = pruned
    assert (result.config.vocab_size, result.module.lm_head.out_features) == (512, 512)
    tokens = torch.arange(3, 67).view(2, 32)
    with torch.no_grad():
        before = model.module(input_ids=kept[tokens]).logits[..., kept].log_softmax(-1)
        after = result.module(input_ids=tokens).logits.log_softmax(-1)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-4)
    assert result.lineage.kept_tokens == tuple(kept.tolist())


def test_special_tokens_and_settings_are_renumbered(tiny_model):
    model = tiny_model(vocab_size=1024)
    model.module.generation_config.eos_token_id = [2, 900]
    model.config.eos_token_id = 900
    kept = Vocabulary().select(model, torch.arange(1024).flip(0).float(), 512)
    assert 900 in kept  # the configuration names it, although its score is low
    result = Vocabulary().remove(model, kept)
    new = kept.tolist().index(900)
    assert (result.config.eos_token_id, result.module.generation_config.eos_token_id) == (new, [2, new])
    assert model.config.eos_token_id == 900 and model.module.generation_config.eos_token_id == [2, 900]
    tokenizer = result.tokenizer
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.chat_template == model.tokenizer.chat_template


def test_an_untied_head_loses_the_same_rows(tiny_model):
    model = tiny_model("qwen2", vocab_size=1024, tie_word_embeddings=False)
    kept = Vocabulary().select(model, torch.arange(1024).float(), 768)
    result = Vocabulary().remove(model, kept)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(result.weight(name), model.weight(name)[kept])


def test_equal_scores_go_by_merge_rank(tiny_model):
    model = tiny_model(vocab_size=1024)
    kept = set(Vocabulary().select(model, torch.zeros(1024), 512).tolist())
    rank = Merges(model.tokenizer).token_rank
    free = sorted((number for number in range(1024) if number in rank), key=rank.__getitem__)
    assert kept >= set(free[:240]) and not kept & set(free[-200:])


def test_rows_without_a_token_go_first_whatever_their_score(tiny_model):
    model = tiny_model(vocab_size=1024)
    wide = torch.nn.Embedding(1280, 64)
    model.module.set_input_embeddings(wide)
    model.module.tie_weights()
    model.config.vocab_size = 1280
    scores = torch.zeros(1280)
    scores[1024:] = 9.0
    assert int(Vocabulary().select(model, scores, 768).max()) < 1024
    filled = Vocabulary().remove(model, Vocabulary().select(model, scores, 1024))
    assert filled.config.vocab_size == 1024


def test_special_tokens_outside_the_merged_vocabulary_stay_behind_it(tiny_model):
    model = tiny_model(vocab_size=1020)
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["<|one|>", "<|two|>", "<|three|>", "<|four|>"]})
    model = tiny_model(vocab_size=1024).__class__(
        tiny_model(vocab_size=1024).module, model.tokenizer, model.family, model.lineage
    )
    assert model.tokenizer.convert_tokens_to_ids("<|four|>") == 1023
    result = Vocabulary().remove(model, Vocabulary().select(model, torch.zeros(1024), 512))
    assert result.tokenizer.convert_tokens_to_ids(["<|one|>", "<|four|>"]) == [508, 511]
    assert encode(result.tokenizer, "a<|two|>")[-1] == 509


def test_a_template_that_adds_tokens_is_renumbered(tiny_model):
    from tokenizers import processors

    model = tiny_model(vocab_size=1024)
    core = model.tokenizer.backend_tokenizer
    word = model.tokenizer.convert_ids_to_tokens(700)
    core.add_special_tokens([word])
    core.post_processor = processors.TemplateProcessing(single=f"{word} $A", special_tokens=[(word, 700)])
    result = Vocabulary().remove(model, Vocabulary().select(model, torch.zeros(1024), 512))
    first = result.tokenizer("text")["input_ids"][0]
    assert first != 700 and result.tokenizer.convert_ids_to_tokens(first) == word


def test_an_open_list_is_refused(tiny_model):
    model = tiny_model(vocab_size=1024)
    kept = Vocabulary().select(model, torch.zeros(1024), 512).tolist()
    Vocabulary().check(model, torch.tensor(kept))
    merges = Merges(model.tokenizer)
    last = max(number for number in merges.text if len((merges.needed(number) or set()) - set(kept)) > 1)
    for wrong in (kept[1:], sorted({*kept, last})):
        with pytest.raises(InvalidInput, match="built from"):
            Vocabulary().check(model, torch.tensor(wrong))


def test_whole_words_of_tokenizers_that_ignore_merges_stay_reachable(tiny_model):
    tokenizer = tiny_model(vocab_size=1024).tokenizer
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    spec["model"]["ignore_merges"] = True
    orphan = spec["model"]["merges"].pop()  # its token can now be taken as a whole word only
    from tokenizers import Tokenizer

    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(spec))
    merges = Merges(tokenizer)
    number = merges.vocabulary["".join(orphan)]
    assert merges.needed(number) == {number}
    kept = choose_closed(merges, [number], merges.required, 512, 1024)
    check_closed(merges, set(kept), merges.required)
    result = rewrite(tokenizer, merges, kept)
    word = tokenizer.decode([number])
    assert encode(tokenizer, word) == [number] and encode(result, word) == [kept.index(number)]


def test_other_kinds_of_tokenizer_are_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(Unsupported, match="byte-level"):
        Merges(words)


@pytest.mark.index
def test_a_published_tokenizer_cut_to_half_keeps_its_promises(smollm2_gguf, text):
    model = read_gguf(smollm2_gguf, torch.bfloat16)
    rows, started = model.anatomy.vocabulary_size, time.perf_counter()
    kept = Vocabulary().select(model, counts(model.tokenizer, text, rows), 24576)
    result = Vocabulary().remove(model, kept)
    assert time.perf_counter() - started < 30
    assert (result.config.vocab_size, len(result.tokenizer)) == (24576, 24576)
    words = [f" {word}" for word in text.split()]
    assert same_pieces(model, kept, result, words) == len(words)  # every token of the text was kept
    made = same_pieces(model, kept, result, [token.replace("Ġ", " ") for token in model.tokenizer.get_vocab()][:6000])
    assert made > 2000
    for sample in [*HARD, *random_texts(100)]:
        assert round_trips(result.tokenizer, sample) == round_trips(model.tokenizer, sample)
    metadata = tokenizers.to_gguf(result.tokenizer, 24576)
    before = gguf.read(smollm2_gguf).metadata
    assert metadata["tokenizer.ggml.pre"] == before["tokenizer.ggml.pre"]
    assert metadata["tokenizer.ggml.token_type"].count(tokenizers.CONTROL) == (
        before["tokenizer.ggml.token_type"].count(tokenizers.CONTROL)
    )
    again = tokenizers.from_gguf({**before, **metadata})
    assert [encode(again, sample) for sample in HARD] == [encode(result.tokenizer, sample) for sample in HARD]
    chat = [{"role": "user", "content": "Hi"}]
    assert result.tokenizer.apply_chat_template(chat, tokenize=False) == (
        model.tokenizer.apply_chat_template(chat, tokenize=False)
    )
