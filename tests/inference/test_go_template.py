"""Go templates: each expectation is what Go's text/template writes for the same template and values."""

from __future__ import annotations

import pytest

from smidgen.errors import InvalidInput, SmidgenError, Unsupported
from smidgen.inference.go_template import parse

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
    {"role": "user", "content": "Bye"},
]
VALUES = {"System": "Be brief.", "Prompt": "Hi", "Response": "", "Messages": TURNS, "N": 3, "X": 0.5, "Yes": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{{ .Prompt }}", "Hi"),
        ("a {{- .Prompt -}} b", "aHib"),
        ("a\n\n{{- /* a {{ comment }} */ -}}\n\nb", "ab"),
        ("a{{/* x */}}b", "ab"),
        ('{{ "}}" }}{{ `"\\n` }}{{ "a\\nb" }}', '}}"\\na\nb'),
        ("{{ if .System }}S{{ else }}N{{ end }}", "S"),
        ("{{ if .Nothing }}S{{ else if eq .Prompt `Hi` }}P{{ else }}N{{ end }}", "P"),
        ("{{ if and .System (not .Response) }}yes{{ end }}", "yes"),
        ("{{ or .Response .Prompt }}", "Hi"),
        ("{{ and .System .Response }}|{{ or .Nothing `x` }}", "|x"),
        ("{{ range .Messages }}{{ .Role }},{{ end }}", "system,user,assistant,user,"),
        ("{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }} {{ end }}", "0system 1user 2assistant 3user "),
        ("{{ range $m := .Messages }}{{ $.Prompt }}{{ end }}", "HiHiHiHi"),
        ("{{ range .Nothing }}x{{ else }}none{{ end }}", "none"),
        ("{{ range .Messages }}{{ if eq .Role `user` }}{{ continue }}{{ end }}{{ .Role }}{{ end }}", "systemassistant"),
        ("{{ range .Messages }}{{ if eq .Role `user` }}{{ break }}{{ end }}{{ .Role }}{{ end }}", "system"),
        ("{{ with .Prompt }}<{{ . }}>{{ end }}{{ with .Nothing }}x{{ else }}y{{ end }}", "<Hi>y"),
        ("{{ $last := false }}{{ range .Messages }}{{ $last = .Role }}{{ end }}{{ $last }}", "user"),
        ("{{ len .Messages }} {{ (index .Messages 1).Content }}", "4 Hi"),
        ("{{ (len .Prompt) | eq 2 }}", "true"),
        ("{{ eq .Prompt `a` `Hi` }} {{ ne .N 3 }} {{ lt .N 4 }} {{ ge .N 4 }}", "true false true false"),
        ("{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}{{ $last }} {{ end }}",
         "false false false true "),
        ("{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Name }}{{ .Function.Arguments }}{{ end }}{{ end }}",
         'f{"a":1}'),
        ("{{ json (index .Messages 1) }}", '{"role":"user","content":"Hi"}'),
        ('{{ printf "%s=%d %q %05.1f%%" "n" .N "x" .X }}', 'n=3 "x" 000.5%'),
        ("{{ print 1 2 `a` }}{{ println `b` }}", "1 2ab\n"),
        ("{{ .N }} {{ .X }} {{ .Yes }} {{ .Nothing }}|{{ 3 }}{{ -1.5 }}", "3 0.5 true |3-1.5"),
        ("{{ .Messages.Nothing.Deep }}|", "|"),
    ],
)  # fmt: skip
def test_templates_are_filled_in(text: str, expected: str) -> None:
    assert parse(text).render(VALUES) == expected


@pytest.mark.parametrize(
    ("text", "kind", "parts"),
    [
        ('{{ define "x" }}{{ end }}', Unsupported, ["Line 1", "'define'"]),
        ('\n\n{{ template "x" }}', Unsupported, ["Line 3", "'template'"]),
        ('{{ block "x" . }}{{ end }}', Unsupported, ["'block'"]),
        ("{{ toTypeScriptType .X }}", Unsupported, ["'toTypeScriptType'", "Known: and,", "json"]),
        ("a\n{{ if .X }}b", InvalidInput, ["Line 2", "the if has no end"]),
        ("{{ range .X }}{{ else }}{{ else }}{{ end }}", InvalidInput, ["second 'else'"]),
        ("{{ end }}", InvalidInput, ["{{ end }} closes nothing"]),
        ("{{ .X", InvalidInput, ["'{{' is not closed"]),
        ("{{ break }}", InvalidInput, ["'break' stands outside"]),
        ("{{ $x }}", InvalidInput, ["no variable '$x'"]),
        ("{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}", InvalidInput, ["no variable '$x'"]),
        ("{{ $x = 1 }}", InvalidInput, ["nothing can be assigned to '$x'"]),
        ("{{ }}{{ if }}x{{ end }}", InvalidInput, ["a value is missing"]),
        ("{{ .X .Y }}", InvalidInput, ["'.X' is no function"]),
        ("{{ (.X }}", InvalidInput, ["parenthesis is not closed"]),
        ("{{ .X ) }}", InvalidInput, ["')' was not expected"]),
        ("{{ ! }}", InvalidInput, ["'!' was not expected"]),
        ('{{ "\\z" }}', InvalidInput, ["escape"]),
        ("{{ if .X }}" * 80 + "{{ end }}" * 80, InvalidInput, ["blocks lie in each other"]),
        ("{{ " + "(" * 80 + ".X" + ")" * 80 + " }}", InvalidInput, ["parentheses lie in each other"]),
        ("{{" + "/**/" * 40, InvalidInput, ["not closed"]),
    ],
)
def test_what_cannot_be_understood_is_named(text: str, kind: type[SmidgenError], parts: list[str]) -> None:
    with pytest.raises(kind) as caught:
        parse(text)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{{ len .N }}", "'len' cannot take"),
        ("{{ index .Messages 9 }}", "no place 9"),
        ("{{ slice .Prompt 3 1 }}", "no places 3 to 1"),
        ("{{ eq .N }}", "two values"),
        ("{{ lt .N .Prompt }}", "'lt' cannot take"),
        ('{{ printf "%d" "a" }}', "'printf' cannot take"),
        ("{{ range .Prompt }}{{ end }}", "cannot go through 'Hi'"),
        ("{{ .Prompt | .System }}", "no function"),
        ("{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}", "not done after"),
        ('{{ $x := "ab" }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}', "more than 33,554,432 characters"),
    ],
)
def test_what_cannot_be_carried_out_is_explained(text: str, part: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text).render(VALUES)
    assert part in str(caught.value)


def test_the_fields_that_are_read_are_known() -> None:
    template = parse("{{ range .Messages }}{{ if eq .Role `x` }}{{ (index $.Tools 0).Name }}{{ end }}{{ end }}")
    assert template.names == {"messages", "role", "tools", "name"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a{{ .Prompt }}b{{ .Response }}c", "aHib"),
        ("a{{ if .Prompt }}{{ .Prompt }}{{ end }}[{{ if .Response }}x{{ end }}]y", "aHi["),
        ("{{ if .Prompt }}p{{ .Response }}x{{ else }}y{{ end }}z", "p"),
        ("{{ .Prompt }} and nothing else", "Hi and nothing else"),
    ],
)
def test_a_template_is_cut_behind_the_place_of_the_answer(text: str, expected: str) -> None:
    assert parse(text).until("Response").render(VALUES) == expected
