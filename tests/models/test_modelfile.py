"""Modelfiles: what is understood, what is refused, and that writing and reading agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.models.modelfile import INSTRUCTIONS, ROLES, Modelfile, Parameter, Turn, parse, quoted, read

WHOLE = '''# A model of mine
from ./model.gguf
FROM ./eyes.gguf

ADAPTER ./first.gguf
Adapter "./with space.gguf"
DRAFT tiny:latest
TEMPLATE """{{ if .System }}{{ .System }}
{{ end }}{{ .Prompt }} # no comment"""
SYSTEM You are brief. "Very" brief.
LICENSE """
Do as you
like.
"""
LICENSE Second
PARAMETER temperature 0.7
PARAMETER stop "<|end|>"
PARAMETER stop "User: "
parameter num_ctx\t4096
MESSAGE user Hello!
MESSAGE Assistant """Good day.

What is it?"""
REQUIRES 0.14.0
RENDERER plain
PARSER plain
'''


def test_every_instruction_is_understood() -> None:
    found = parse(WHOLE)
    assert found == Modelfile(
        source="./model.gguf",
        projectors=("./eyes.gguf",),
        adapters=("./first.gguf", "./with space.gguf"),
        draft="tiny:latest",
        template="{{ if .System }}{{ .System }}\n{{ end }}{{ .Prompt }} # no comment",
        system='You are brief. "Very" brief.',
        licences=("\nDo as you\nlike.\n", "Second"),
        parameters=(
            Parameter("temperature", "0.7"),
            Parameter("stop", "<|end|>"),
            Parameter("stop", "User: "),
            Parameter("num_ctx", "4096"),
        ),
        messages=(Turn("user", "Hello!"), Turn("assistant", "Good day.\n\nWhat is it?")),
        requires="0.14.0",
        renderer="plain",
        parser="plain",
    )
    assert [each.line for each in found.parameters] == [16, 17, 18, 19]
    words = {line.split()[0].upper() for line in WHOLE.split("\n") if line.split()}
    assert set(INSTRUCTIONS) <= words


def test_the_last_of_several_counts_where_there_is_one() -> None:
    assert parse("FROM a\nSYSTEM one\nSYSTEM two\n").system == "two"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["no FROM"]),
        ("# nothing\n\n", ["no FROM"]),
        ("FROM x\nFORM y", ["Line 2", "'FORM'", "Did you mean FROM?", "ADAPTER, DRAFT, TEMPLATE", "PARSER"]),
        ("FROM x\nSYSTEMS y", ["Line 2", "'SYSTEMS'", "Did you mean SYSTEM?"]),
        ("FROM x\n{}", ["Line 2", "'{}'", "Known: FROM"]),
        ("FROM", ["Line 1", "FROM has no value"]),
        ("FROM x\nPARAMETER temperature", ["Line 2", "PARAMETER has no value", "PARAMETER temperature 0.7"]),
        ("FROM x\n\nMESSAGE robot hi", ["Line 3", "'robot' is no role", "system, user, assistant"]),
        ('FROM x\nSYSTEM """never\nclosed', ["Line 2", "quotes of SYSTEM are not closed"]),
        ('FROM x\nSYSTEM "a" and b\n', ["Line 2", "quotes of SYSTEM are not closed"]),
        ("FROM x\nREQUIRES soon", ["Line 2", "'soon' is no version"]),
    ],
)
def test_faults_name_the_line_and_the_remedy(text: str, parts: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    for part in parts:
        assert part in str(caught.value)


def test_what_is_written_reads_back_the_same() -> None:
    found = parse(WHOLE)
    assert parse(found.text()) == found
    assert found.text().count('"""') == 6  # only what spans lines


TEXTS = st.text(st.sampled_from('a "\n#\t<|é') | st.characters(codec="utf-8"), max_size=40)


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS, st.lists(st.tuples(st.sampled_from(ROLES), TEXTS), max_size=3), st.lists(TEXTS, max_size=3))
def test_any_text_survives_or_is_refused(system: str, template: str, said: list[tuple[str, str]], stops: list[str]):
    modelfile = Modelfile(
        "x",
        system=system,
        template=template,
        messages=tuple(Turn(role, content) for role, content in said),
        parameters=tuple(Parameter("stop", stop) for stop in stops),
    )
    try:
        text = modelfile.text()
    except InvalidInput:
        values = [system, template, *stops, *(content for _, content in said)]
        assert any('"""' in value for value in values)
        return
    assert parse(text) == modelfile


def test_three_quotes_at_a_line_s_end_cannot_be_written() -> None:
    with pytest.raises(InvalidInput, match="three quotes"):
        quoted('a\n"""\nb')


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_are_read_in_the_encodings_that_editors_write(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "Modelfile").write_bytes('FROM x\r\nSYSTEM """Grüße\r\nan alle"""\r\n'.encode(encoding))
    assert read(tmp_path / "Modelfile").system == "Grüße\nan alle"


def test_what_is_no_file_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReferenceNotFound):
        read(tmp_path / "Modelfile")
    (tmp_path / "Modelfile").write_bytes(b"FROM \xff\xfa")
    with pytest.raises(InvalidInput, match="no text in UTF-8"):
        read(tmp_path / "Modelfile")


def test_files_of_a_folder_get_their_whole_paths(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    found = Modelfile("./model.gguf", adapters=("lora.gguf",)).with_paths_in(tmp_path)
    assert found.source == str(tmp_path / "model.gguf") and found.adapters == ("lora.gguf",)
