from dataclasses import replace

import pytest
import torch

from smidgen.errors import InvalidInput, Unsupported
from smidgen.models.lineage import Origin
from smidgen.shrink.distill.matching import Matching, match_vocabulary


def match_blocks(student, teacher, **maps):
    return [(mine.path, theirs.path) for mine, theirs in Matching(student, teacher, **maps).blocks]


def elsewhere(model, sha256="1" * 64):
    """The model as if it had another origin."""
    origin = Origin("other", sha256, 1, 1)
    return replace(model, lineage=replace(model.lineage, origin=origin))


def test_the_same_vocabulary_needs_no_map(tiny_model):
    found = match_vocabulary(tiny_model(), tiny_model(seed=3))
    assert found.teacher_ids is None and found.columns is None and found.rows() is None
    assert torch.equal(found.asked(torch.tensor([[4, 5]])), torch.tensor([[4, 5]]))


def test_kept_tokens_lead_back_to_the_teacher(tiny_model):
    teacher, kept = tiny_model(), (0, 1, 2, 7, 9, 300)
    student = tiny_model(vocab_size=6)
    student = replace(student, lineage=student.lineage.without_tokens(kept))
    found = match_vocabulary(student, teacher)
    assert found.asked(torch.tensor([[3, 5]])).tolist() == [[7, 300]]
    assert found.columns is None and found.rows().tolist() == list(kept)
    again = replace(student, lineage=student.lineage.without_tokens((0, 3, 5)))
    smaller = replace(again, module=tiny_model(vocab_size=3).module)
    assert match_vocabulary(smaller, student).rows().tolist() == [0, 3, 5]
    with pytest.raises(Unsupported, match="lacks 3 of the student's tokens"):
        match_vocabulary(student, smaller)


def test_padding_is_left_out_and_other_orders_are_followed_by_spelling(tiny_model):
    teacher, student = tiny_model(vocab_size=448), elsewhere(tiny_model(vocab_size=416))
    tokenizer = tiny_model(vocab_size=400).tokenizer
    teacher, student = replace(teacher, tokenizer=tokenizer), replace(student, tokenizer=tokenizer)
    found = match_vocabulary(student, teacher)
    assert found.columns.tolist() == list(range(400)) == found.rows().tolist()
    other = tiny_model(vocab_size=400)
    vocabulary = match_vocabulary(elsewhere(tiny_model(vocab_size=300)), other)
    mine, theirs = tiny_model(vocab_size=300).tokenizer.get_vocab(), other.tokenizer.get_vocab()
    assert all(int(vocabulary.teacher_ids[place]) == theirs[token] for token, place in mine.items())


def test_other_tokenizers_are_refused(tiny_model):
    with pytest.raises(Unsupported, match=r"tokenizers of student and teacher differ.*100 of the student's 400"):
        match_vocabulary(tiny_model(vocab_size=400), elsewhere(tiny_model(vocab_size=300)))


def test_blocks_are_matched_by_lineage_else_evenly(tiny_model):
    teacher = tiny_model(num_hidden_layers=6)
    student = tiny_model(num_hidden_layers=3)
    cut = replace(student, lineage=student.lineage.without_layers((0, 2, 5)))
    paths = [(f"model.layers.{mine}", f"model.layers.{theirs}") for mine, theirs in enumerate((0, 2, 5))]
    assert match_blocks(cut, teacher) == paths
    even = [(f"model.layers.{mine}", f"model.layers.{theirs}") for mine, theirs in enumerate((1, 3, 5))]
    assert match_blocks(elsewhere(student), teacher) == even
    shorter = tiny_model(num_hidden_layers=2)
    shorter = replace(shorter, lineage=shorter.lineage.without_layers((0, 5)))
    assert match_blocks(cut, shorter) == [("model.layers.0", "model.layers.0"), ("model.layers.2", "model.layers.1")]


def test_a_map_of_layers_goes_before_lineage(tiny_model):
    student, teacher = tiny_model(num_hidden_layers=2), tiny_model(num_hidden_layers=4)
    found = match_blocks(student, teacher, layer_map={1: 2, 0: 0})
    assert found == [("model.layers.0", "model.layers.0"), ("model.layers.1", "model.layers.2")]
    with pytest.raises(InvalidInput, match="teacher's layer 4, and it has 4"):
        match_blocks(student, teacher, layer_map={0: 4})
    with pytest.raises(InvalidInput, match="student's head 9"):
        match_blocks(student, teacher, head_map={9: 0})
    with pytest.raises(InvalidInput, match="empty"):
        match_blocks(student, teacher, layer_map={})


def test_heads_are_matched_by_map_by_lineage_by_number_or_not_at_all(tiny_model):
    teacher, student = tiny_model(), tiny_model(num_attention_heads=2, num_key_value_heads=1)

    def heads(student, teacher, block=0, **maps):
        matching = Matching(student, teacher, **maps)
        return matching.heads(*matching.blocks[block])

    assert heads(teacher, tiny_model(seed=1)) == [(number, number) for number in range(4)]
    assert heads(student, teacher) is None and heads(elsewhere(student), teacher) is None
    cut = replace(student, lineage=student.lineage.without_heads(((0, 3), (1, 2), (2, 3))))
    assert [heads(cut, teacher, block) for block in range(3)] == [
        [(0, 0), (1, 3)],
        [(0, 1), (1, 2)],
        [(0, 2), (1, 3)],
    ]
    fewer = replace(student, lineage=student.lineage.without_heads(((1, 3), (0, 3), (0, 1))))
    assert [heads(cut, fewer, block) for block in range(3)] == [[(1, 1)], None, None]
    assert heads(cut, teacher, head_map={0: 2, 1: 1}) == [(0, 2), (1, 1)]
    unknown = student.with_step("prune", structure="head")
    assert heads(unknown, unknown) == [(0, 0), (1, 1)] and heads(unknown, teacher) is None


def test_tokenizers_with_the_same_tokens_that_cut_differently_are_refused(tiny_model):
    import json

    from tokenizers import Tokenizer

    student, teacher = elsewhere(tiny_model()), tiny_model()
    core = json.loads(student.tokenizer.backend_tokenizer.to_str())
    core["model"]["merges"] = core["model"]["merges"][::-1]
    other = type(student.tokenizer)(tokenizer_object=Tokenizer.from_str(json.dumps(core)))
    assert other.get_vocab() == teacher.tokenizer.get_vocab()
    with pytest.raises(Unsupported, match="tokenizers of student and teacher differ"):
        match_vocabulary(replace(student, tokenizer=other), teacher)
    assert match_vocabulary(student, teacher).teacher_ids is None
