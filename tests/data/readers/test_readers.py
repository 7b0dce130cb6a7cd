import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from smidgen import registry
from smidgen.data.loading import READERS, load
from smidgen.data.readers.txt import pieces
from smidgen.data.rows import Corpus, Message, Row
from smidgen.errors import DamagedFile, InvalidInput, SmidgenError

RECORDS = [
    ({"text": "a fox"}, Row("a fox")),
    ({"Content": "a fox", "label": 3}, Row("a fox", label="3")),
    ({"prompt": "2+2", "completion": 4}, Row(prompt="2+2", completion="4")),
    ({"instruction": "Add.", "input": "2 2", "output": "4"}, Row(prompt="Add.\n\n2 2", completion="4")),
    ({"instruction": "Add.", "input": "", "output": "4"}, Row(prompt="Add.", completion="4")),
    ({"input": "2+2", "output": "4"}, Row(prompt="2+2", completion="4")),
    ({"question": "why?", "answer": "so"}, Row(prompt="why?", completion="so")),
    (
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
        Row(messages=(Message("user", "hi"), Message("assistant", "ho"))),
    ),
    (
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}], "label": "x"},
        Row(messages=(Message("user", "hi"), Message("assistant", "ho")), label="x"),
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi "}, {"type": "text", "text": "ho"}]}]},
        Row(messages=(Message("user", "hi ho"),)),
    ),
    (
        {"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "ho"}]},
        Row(messages=(Message("user", "hi"), Message("assistant", "ho"))),
    ),
]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def same(corpus: Corpus, *rows: Row) -> bool:
    return corpus.sha256 == Corpus("expected", rows).sha256


def test_every_reader_is_found_and_reads() -> None:
    found = registry.names(READERS)
    assert found == ("csv", "json", "jsonl", "md", "parquet", "txt")
    assert all(callable(registry.find(READERS, name)().read) for name in found)


@pytest.mark.parametrize(("record", "row"), RECORDS)
def test_json_lines_know_the_usual_fields(tmp_path: Path, record: dict[str, object], row: Row) -> None:
    corpus = load(write(tmp_path / "data.jsonl", json.dumps(record) + "\n\n"))
    assert same(corpus, row)
    assert corpus.rows[0].origin == "data.jsonl, line 1"


@pytest.mark.parametrize(("record", "row"), RECORDS)
def test_parquet_and_json_read_the_same(tmp_path: Path, record: dict[str, object], row: Row) -> None:
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), path)
    assert same(load(path), row)
    assert same(load(write(tmp_path / "data.json", json.dumps([record]))), row)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_separators_and_quotes(tmp_path: Path, separator: str) -> None:
    lines = [separator.join(("text", "label")), separator.join(('"a ""fox"",\n two; lines\t"', "yes"))]
    corpus = load(write(tmp_path / "data.csv", "\ufeff" + "\r\n".join(lines) + "\r\n"))
    assert same(corpus, Row('a "fox",\n two; lines\t', label="yes"))


def test_csv_takes_very_long_fields(tmp_path: Path) -> None:
    assert load(write(tmp_path / "data.csv", "text\n" + "x" * 200_000)).characters == 200_000


def test_text_is_one_document_unless_borders_divide_it(tmp_path: Path) -> None:
    prose = "One.\n\nTwo.\n = Three = \n \n Four."
    assert same(load(write(tmp_path / "one.txt", prose)), Row(prose))
    assert same(load(write(tmp_path / "two.txt", "One.\n\nTwo.\r\n\r\n\r\nThree.")), Row("One.\n\nTwo."), Row("Three."))


def test_very_long_texts_are_cut_without_loss() -> None:
    text = "one\n\ntwo three\nfour five six seven\neight"
    for largest in range(1, len(text) + 2):
        cut = pieces(text, largest)
        assert "".join(cut) == text
        assert all(0 < len(piece) <= largest for piece in cut)
    assert pieces(text, 25) == ["one\n\n", "two three\n", "four five six seven\neight"]


def test_markdown_divides_at_first_level_headings_outside_code(tmp_path: Path) -> None:
    text = "---\ntitle: x\n---\n# One\n\n```\n# code\n```\n## Sub\n# Two\n"
    corpus = load(write(tmp_path / "a.md", text))
    assert [row.text for row in corpus.rows] == ["# One\n\n```\n# code\n```\n## Sub\n", "# Two\n"]
    assert corpus.warnings == ("The front matter of a.md was left out.",)


def test_empty_rows_are_counted(tmp_path: Path) -> None:
    lines = '{"text": ""}\n{"text": "fox"}\n{"prompt": "a", "completion": " "}\n'
    corpus = load(write(tmp_path / "data.jsonl", lines))
    assert corpus.warnings == ("2 empty rows were left out (first: data.jsonl, line 1).",)
    assert same(corpus, Row("fox"))


BAD = [
    ("a.txt", b"", InvalidInput, r"a\.txt is empty"),
    ("a.jsonl", b" \n\t\n", InvalidInput, "only blank lines"),
    ("a.parquet", b"", InvalidInput, "is empty"),
    ("a.txt", b"one\ntwo\0three", DamagedFile, r"binary, not text \(a NUL byte in line 2\)"),
    ("a.csv", b"text\n\x01\x02\xff\x80", DamagedFile, r"binary.*byte 0xFF in line 2"),
    ("a.txt", "x\nà la carte".encode("latin-1"), InvalidInput, r"byte 0xE0 in line 2.*iconv -f ISO-8859-1 -t UTF-8"),
    ("a b.txt", "fox".encode("utf-16"), InvalidInput, r"UTF-16.*iconv -f UTF-16 -t UTF-8 '.*a b\.txt' > 'a b-utf8"),
    ("a.jsonl", b'{"text": "x"}\n{"text": ', DamagedFile, "line 2 is not JSON: Expecting value at column 10"),
    ("a.jsonl", b"[" * 100_000, DamagedFile, "line 1 is not JSON"),
    ("a.jsonl", b'["x"]', InvalidInput, "line 1 holds a list"),
    ("a.jsonl", b'{"text": "x"}\n{"body": 1, "id": 2}', InvalidInput, "line 2: .*fields body, id. Expected: text"),
    ("a.jsonl", b'{"text": ["x"]}', InvalidInput, "'text' must be text, not list"),
    ("a.jsonl", b'{"prompt": "x"}', InvalidInput, "unknown shape with the fields prompt"),
    ("a.jsonl", b'{"messages": []}', InvalidInput, "must be a list of turns"),
    ("a.jsonl", b'{"messages": [{"role": "user"}]}', InvalidInput, "turn 1 of 'messages' is not understood"),
    ("a.jsonl", b'{"text": " "}\n', InvalidInput, r"no row with any words \(1 empty"),
    ("a.json", b'{"text": "x"}', InvalidInput, "not an array of objects.*name the file .jsonl"),
    ("a.json", b"[1,", DamagedFile, "not JSON: Expecting value at line 1"),
    ("a.json", b"[" * 100_000, DamagedFile, "nested too deeply"),
    ("a.csv", b"text,label\nfox\n", DamagedFile, "line 2 has 1 values; the header has 2"),
    ("a.csv", b'text\n"fox\n', DamagedFile, "not readable as CSV"),
    ("a.csv", b"text,label\n", InvalidInput, "no row with any words"),
    ("a.parquet", b"PAR1 but not really PAR1", DamagedFile, "not a complete Parquet file"),
]


@pytest.mark.parametrize(("name", "content", "error", "message"), BAD)
def test_bad_files_are_explained(
    tmp_path: Path, name: str, content: bytes, error: type[SmidgenError], message: str
) -> None:
    with pytest.raises(error, match=f"(?s){message}") as caught:
        load(write(tmp_path / name, content))
    assert caught.value.remedy
    assert name in str(caught.value)


def test_a_parquet_file_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["fox"] * 100}), whole)
    content = whole.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        with pytest.raises(DamagedFile):
            load(write(tmp_path / "cut.parquet", content[: int(share * len(content))]))
