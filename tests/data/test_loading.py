from pathlib import Path

import pytest

from smidgen.data.loading import load
from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported


def test_a_folder_is_read_in_order_and_tells_what_it_left_out(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.jsonl").write_text('{"text": "first"}')
    (tmp_path / "sub" / "C.TXT").write_text("third")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "x.pdf").touch()
    (tmp_path / ".hidden.txt").write_text("never")
    corpus = load(tmp_path)
    assert [row.text for row in corpus.rows] == ["first", "second", "third"]
    assert corpus.name == tmp_path.name
    assert corpus.warnings[0] == "Files of other kinds were left out: 1 of .pdf."
    assert corpus.warnings[1].endswith("empty.txt is empty and was left out.")


def test_a_pattern_reads_what_it_matches(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.md"):
        (tmp_path / name).write_text(name)
    assert [row.text for row in load(str(tmp_path / "*.txt")).rows] == ["a.txt", "b.txt"]
    with pytest.raises(InvalidInput, match="nothing to read"):
        load(str(tmp_path / "*.csv"))


def test_a_folder_without_readable_files_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nothing to read \(found no files\)"):
        load(tmp_path)
    (tmp_path / "x.docx").write_text("x")
    with pytest.raises(InvalidInput, match=r"found 1 files: 1 of \.docx.*\.jsonl"):
        load(tmp_path)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "tickets.jsonl").write_text("{}")
    with pytest.raises(ReferenceNotFound, match=r"no file .*ticket\.jsonl.*Did you mean .*tickets\.jsonl"):
        load(tmp_path / "ticket.jsonl")
    with pytest.raises(ReferenceNotFound, match="nor a folder"):
        load(tmp_path / "nowhere" / "x.txt")


@pytest.mark.parametrize("name", ["x.docx", "README"])
def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(Unsupported, match=r"\.csv \.json \.jsonl \.md \.parquet \.txt"):
        load(tmp_path / name)


def test_deduplicate_removes_repeats_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "the quick brown fox"}\n' * 3)
    assert len(load(tmp_path / "x.jsonl").rows) == 3
    corpus = load(tmp_path / "x.jsonl", deduplicate=True)
    assert len(corpus.rows) == 1
    assert corpus.warnings == ("2 duplicate rows were removed.",)
