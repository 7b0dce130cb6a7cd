import pytest
from transformers import PreTrainedTokenizerFast

from smidgen.data.chat import render
from smidgen.data.rows import Message, Row
from smidgen.errors import InvalidInput

CHAT = Row(
    messages=(
        Message("system", "be kind"),
        Message("user", "what is a list?"),
        Message("assistant", "a sequence of items"),
        Message("user", "and a fox?"),
        Message("assistant", " quick and brown \n"),
    )
)
UNSTABLE = (
    "{{ messages | length }}{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
STRICT = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}{{ messages }}"


def answers(row: Row, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The text of every run of supervised tokens."""
    rendered = render(row, tokenizer)
    assert len(rendered.ids) == len(rendered.supervised)
    runs: list[list[int]] = []
    before = False
    for token, supervised in zip(rendered.ids, rendered.supervised, strict=True):
        if supervised and not before:
            runs.append([])
        if supervised:
            runs[-1].append(token)
        before = supervised
    return [tokenizer.decode(run) for run in runs]


def test_only_what_the_assistant_writes_is_supervised(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    assert answers(CHAT, chat_tokenizer) == ["a sequence of items<|im_end|>", " quick and brown \n<|im_end|>"]


def test_rendering_is_the_template_itself(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    chat = [{"role": turn.role, "content": turn.content} for turn in CHAT.turns]
    whole = chat_tokenizer.apply_chat_template(chat, tokenize=False)
    assert chat_tokenizer.decode(render(CHAT, chat_tokenizer).ids) == whole


def test_a_generation_starts_exactly_where_supervision_does(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    row = Row(prompt="what is a list?", completion="\na sequence")
    rendered = render(row, chat_tokenizer)
    question = [{"role": "user", "content": "what is a list?"}]
    prompt = chat_tokenizer.apply_chat_template(question, add_generation_prompt=True)["input_ids"]
    assert rendered.ids[: len(prompt)] == prompt
    assert rendered.supervised.index(True) == len(prompt)


def test_text_is_supervised_throughout(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    rendered = render(Row("the lazy dog"), chat_tokenizer)
    assert rendered.ids == chat_tokenizer("the lazy dog")["input_ids"]
    assert all(rendered.supervised)


def test_without_a_template_turns_are_concatenated(tokenizer: PreTrainedTokenizerFast) -> None:
    row = Row(prompt="the quick", completion=" brown fox")
    rendered = render(row, tokenizer)
    assert tokenizer.decode(rendered.ids) == "the quick brown fox<|endoftext|>"
    assert answers(row, tokenizer) == [" brown fox<|endoftext|>"]
    assert answers(CHAT, tokenizer) == ["a sequence of items\n", " quick and brown \n\n<|endoftext|>"]


def test_the_begin_token_comes_first_and_is_not_an_answer(beginning_tokenizer: PreTrainedTokenizerFast) -> None:
    rendered = render(Row(prompt="a", completion="b"), beginning_tokenizer)
    assert rendered.ids[0] == beginning_tokenizer.bos_token_id
    assert not rendered.supervised[0]
    assert render(Row("a"), beginning_tokenizer).ids == beginning_tokenizer("a")["input_ids"]


@pytest.mark.parametrize(
    ("template", "message"), [(UNSTABLE, "differently once the chat goes on"), (STRICT, "refuses")]
)
def test_unfit_templates_are_explained(
    chat_tokenizer: PreTrainedTokenizerFast, template: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_tokenizer, "chat_template", template)
    with pytest.raises(InvalidInput, match=message):
        render(CHAT, chat_tokenizer)


def test_a_template_that_writes_the_date_always_writes_the_same(
    chat_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}"
    monkeypatch.setattr(chat_tokenizer, "chat_template", dated)
    row = Row(messages=(Message("user", "a fox"),))
    assert chat_tokenizer.decode(render(row, chat_tokenizer).ids) == "26 Jul 2024 a fox"
