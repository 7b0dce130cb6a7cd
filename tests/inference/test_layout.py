"""Layouts of conversations: a dozen shapes that public Modelfiles have, and what they must come out as."""

from __future__ import annotations

import json

import pytest

from smidgen.inference.go_template import parse
from smidgen.inference.layout import capabilities, lay_out, lay_out_prompt

TALK = [("system", "S"), ("user", "U1"), ("assistant", "A1"), ("user", "U2")]

SHAPES = {
    "bare": ("{{ .Prompt }}", "U1A1U2"),
    "chatml": (
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ if .Prompt }}<|im_start|>user\n"
        "{{ .Prompt }}<|im_end|>\n{{ end }}<|im_start|>assistant\n{{ .Response }}<|im_end|>\n",
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
        "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n",
    ),
    "chatml by messages": (
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
        "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n",
    ),
    "llama 3": (
        "{{- range $i, $_ := .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}"
        "{{- if ne (len (slice $.Messages $i)) 1 }}<|eot_id|>{{ end }}{{ end }}"
        '{{- if ne (index .Messages (len (slice .Messages 1))).Role "assistant" }}<|eot_id|>'
        "<|start_header_id|>assistant<|end_header_id|>\n\n{{ end }}",
        "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU1"
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\nU2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "llama 2": (
        "[INST] {{ if .System }}<<SYS>>{{ .System }}<</SYS>>\n\n{{ end }}{{ .Prompt }} [/INST]{{ .Response }}",
        "[INST] <<SYS>>S<</SYS>>\n\nU1 [/INST]A1[INST] U2 [/INST]",
    ),
    "mistral": (
        '{{- range $index, $_ := .Messages }}{{- if eq .Role "user" }}[INST] {{ if and $.System (eq (len (slice '
        '$.Messages $index)) 1) }}{{ $.System }}\n\n{{ end }}{{ .Content }}[/INST]{{- else if eq .Role "assistant" }}'
        " {{ .Content }}</s>{{- end }}{{- end }}",
        "[INST] U1[/INST] A1</s>[INST] S\n\nU2[/INST]",
    ),
    "gemma": (
        "{{- range $i, $_ := .Messages }}\n{{- $last := eq (len (slice $.Messages $i)) 1 }}\n"
        '{{- if or (eq .Role "user") (eq .Role "system") }}<start_of_turn>user\n{{ .Content }}<end_of_turn>\n'
        "{{ if $last }}<start_of_turn>model\n{{ end }}\n"
        '{{- else if eq .Role "assistant" }}<start_of_turn>model\n{{ .Content }}'
        "{{ if not $last }}<end_of_turn>\n{{ end }}\n{{- end }}\n{{- end }}",
        "<start_of_turn>user\nS<end_of_turn>\n<start_of_turn>user\nU1<end_of_turn>\n<start_of_turn>model\nA1"
        "<end_of_turn>\n<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n",
    ),
    "phi 3": (
        "{{ if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}{{ if .Prompt }}<|user|>\n{{ .Prompt }}<|end|>\n"
        "{{ end }}<|assistant|>\n{{ .Response }}<|end|>",
        "<|system|>\nS<|end|>\n<|user|>\nU1<|end|>\n<|assistant|>\nA1<|end|><|user|>\nU2<|end|>\n<|assistant|>\n",
    ),
    "alpaca": (
        "{{- if .System }}\n{{ .System }}\n{{- end }}\n\n### Instruction:\n{{ .Prompt }}\n\n### Response:\n"
        "{{ .Response }}\n\n",
        "\nS\n\n### Instruction:\nU1\n\n### Response:\nA1\n\n\n\n### Instruction:\nU2\n\n### Response:\n",
    ),
    "vicuna": (
        "{{ .System }}\nUSER: {{ .Prompt }}\nASSISTANT: {{ .Response }}</s>",
        "S\nUSER: U1\nASSISTANT: A1</s>\nUSER: U2\nASSISTANT: ",
    ),
    "zephyr": (
        "{{- if .System }}\n<|system|>\n{{ .System }}\n</s>\n{{- end }}\n<|user|>\n{{ .Prompt }}\n</s>\n<|assistant|>"
        "\n",
        "\n<|system|>\nS\n</s>\n<|user|>\nU1\n</s>\n<|assistant|>\nA1\n<|user|>\nU2\n</s>\n<|assistant|>\n",
    ),
    "thinking": (
        "{{- range .Messages }}{{ if eq .Role `assistant` }}{{ with .Thinking }}<think>{{ . }}</think>{{ end }}"
        "{{ end }}[{{ .Role }}]{{ .Content }}{{ end }}{{ if and $.IsThinkSet (not $.Think) }}<think></think>{{ end }}",
        "[system]S[user]U1[assistant]A1[user]U2",
    ),
}  # fmt: skip


def turns(said: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in said]


@pytest.mark.parametrize("shape", SHAPES)
def test_public_shapes_come_out_as_the_models_were_trained(shape: str) -> None:
    template, expected = SHAPES[shape]
    assert lay_out(parse(template), turns(TALK)) == expected


def test_an_answer_that_is_begun_is_continued() -> None:
    begun = [("user", "U"), ("assistant", "The answer")]
    assert lay_out(parse(SHAPES["phi 3"][0]), turns(begun)) == "<|user|>\nU<|end|>\n<|assistant|>\nThe answer"
    assert lay_out(parse(SHAPES["llama 3"][0]), turns(begun)).endswith("<|end_header_id|>\n\nThe answer")


def test_neighbours_of_one_role_are_joined() -> None:
    template = parse("{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}|{{ .System }}")
    said = [("system", "a"), ("user", "b"), ("user", "c"), ("system", "d")]
    assert lay_out(template, turns(said)) == "<system>a<user>b\n\nc<system>d|a\n\nd"


def test_tools_and_their_calls_are_shown_to_the_model() -> None:
    template = parse(
        "{{ if .Tools }}T:{{ range .Tools }}{{ . }}{{ end }}{{ end }}{{ range .Messages }}{{ if .ToolCalls }}"
        "{{ range .ToolCalls }}{{ .Function.Name }}({{ json .Function.Arguments }}){{ end }}"
        "{{ else if eq .Role `tool` }}<{{ .ToolName }}:{{ .Content }}>{{ else }}{{ .Content }}{{ end }}{{ end }}"
    )
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": "é"}}}]}
    results = [{"role": "tool", "tool_name": "f", "content": str(number)} for number in (1, 2)]
    text = lay_out(template, [{"role": "user", "content": "Go"}, call, *results], tools=[tool])
    assert text == f'T:{json.dumps(tool, separators=(",", ":"))}Gof({{"a":"é"}})<f:1><f:2>'


@pytest.mark.parametrize(("think", "expected"), [(None, ""), (False, "off"), (True, "on"), ("high", "onhigh")])
def test_templates_are_told_whether_to_think(think: bool | str | None, expected: str) -> None:
    template = parse("{{ if .IsThinkSet }}{{ if .Think }}on{{ .ThinkLevel }}{{ else }}off{{ end }}{{ end }}")
    assert lay_out(template, turns([("user", "")]), think=think) == expected


def test_a_gap_is_filled_between_prompt_and_suffix() -> None:
    template = parse("{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}")
    assert lay_out_prompt(template, "def f(", suffix="return 1") == "<PRE>def f(<SUF>return 1<MID>"
    assert lay_out_prompt(template, "Hi") == "Hi"
    assert capabilities(template) == ("insert",)


def test_a_single_prompt_stands_behind_the_system_message() -> None:
    assert lay_out_prompt(parse(SHAPES["vicuna"][0]), "U", system="S") == "S\nUSER: U\nASSISTANT: "
