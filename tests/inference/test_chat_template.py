"""Chat templates as transformers carries them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smidgen.errors import InvalidInput
from smidgen.inference.chat_template import reads, render

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi <b>"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Bye"},
]
TEMPLATES = [
    "{%- for m in messages %}\n    {{- '<' + m.role + '>' + m.content }}\n{%- endfor %}\n{{ eos_token }}",
    "{% for m in messages %}{% if m['role'] == 'tool' %}{% continue %}{% endif %}{{ m | tojson }}\n{% endfor %}",
    "{{ bos_token }}{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}{{ messages[-1].content }}"
    "{% if add_generation_prompt %}[a]{% endif %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_it_writes_what_transformers_writes(template: str, published_tokenizer: Callable[..., Any]) -> None:
    tokenizer = published_tokenizer("gpt-2")
    tools = [{"type": "function", "function": {"name": "f", "description": "é", "parameters": {"type": "object"}}}]
    expected = tokenizer.apply_chat_template(
        TURNS, chat_template=template, tools=tools, tokenize=False, add_generation_prompt=True
    )
    marks = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    assert render(template, TURNS, tools=tools, marks=marks) == expected


def test_a_template_that_refuses_system_messages_gets_them_with_the_first_question() -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    )
    assert render(template, TURNS[:2]) == "[user]Be brief.\n\nHi <b>"
    with pytest.raises(InvalidInput, match="no system"):
        render(template, TURNS[:1])


def test_an_assistants_last_turn_is_gone_on_with() -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{{ add_generation_prompt }}"
    assert render(template, TURNS[1:3], go_on=True) == "<user>Hi <b></><assistant>Yes?"


@pytest.mark.parametrize("template", ["{% for %}", "{{ messages.foo.bar }}", "{{ 1/0 }}", "{{ ''.__class__.__mro__ }}"])
def test_a_template_that_cannot_be_carried_out_is_a_clear_error(template: str) -> None:
    with pytest.raises(InvalidInput, match="template"):
        render(template, TURNS[1:2])


def test_variables_reach_the_template() -> None:
    assert render("{% if enable_thinking is false %}no{% endif %}", TURNS, variables={"enable_thinking": False}) == "no"
    assert reads("{%- if tools is defined %}x{% endif %}", "tools")
