"""A batch goes on whatever one document does, is taken up where it stopped, and says what failed."""

import json

import pytest

from smidgen.cli.extract import page_numbers
from smidgen.cli.main import main
from smidgen.documents.batch import Job, Journal, Workers, documents, extract_all
from smidgen.documents.overlay import write_overlay
from smidgen.documents.reading import File, PageReader
from smidgen.documents.schema import preset
from smidgen.documents.spreadsheet import as_csv
from smidgen.errors import InvalidInput, ReferenceNotFound

JOB = Job(preset("invoice"))


@pytest.fixture
def folder(tmp_path, pdf, invoice):
    """Two good documents, and two bad ones between them."""
    place = tmp_path / "scans"
    place.mkdir()
    (place / "a.pdf").write_bytes(pdf([invoice[0]]))
    (place / "b.pdf").write_bytes(b"")
    (place / "c.png").write_bytes(b"no picture")
    (place / "d.PDF").write_bytes(pdf([[(40, 40, "Invoice No: D-404"), (40, 60, "Total: 9.50")]]))
    (place / "notes.txt").write_text("not asked for")
    return place


def test_files_folders_and_patterns_are_found(folder):
    assert [path.name for path in documents([str(folder)])] == ["a.pdf", "b.pdf", "c.png", "d.PDF"]
    assert [path.name for path in documents([str(folder / "*.p*"), str(folder / "a.pdf")])] == [
        "a.pdf",
        "b.pdf",
        "c.png",
    ]
    for name in (str(folder / "*.gif"), str(folder / "none.pdf")):
        with pytest.raises(ReferenceNotFound):
            documents([name])


def test_a_batch_goes_on_after_bad_files_and_is_taken_up_again(folder, tmp_path, monkeypatch):
    out = tmp_path / "results.jsonl"
    paths = documents([str(folder)])
    seen = []
    rows = list(extract_all(paths, JOB, journal=Journal.at(out), progress=seen.append))
    assert {row["path"][-5:]: row.get("error", {}).get("type") for row in rows} == {
        "a.pdf": None,
        "b.pdf": "DamagedFile",
        "c.png": "Unsupported",
        "d.PDF": None,
    }
    assert (seen[-1].done, seen[-1].total, seen[-1].note) == (4, 4, "2 failed")
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(row["path"] for row in written) == sorted(row["path"] for row in rows)
    # A row that was cut off, and those that failed, are done again; the others are taken as they are.
    out.write_text(out.read_text() + '{"key": "cut o')
    (folder / "b.pdf").write_bytes((folder / "d.PDF").read_bytes().replace(b"9.50", b"7.50"))
    asked = []
    monkeypatch.setattr(
        Workers, "extract", lambda self, path: asked.append(path.name) or {"extraction": {"file": path.name}}
    )
    list(extract_all(paths, JOB, journal=Journal.at(out)))
    assert sorted(asked) == ["b.pdf", "c.png"]


def test_a_file_of_something_else_is_not_written_over(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"mine": 1}\n{"mine": 2}\n')
    with pytest.raises(InvalidInput, match="something else"):
        Journal.at(path)
    assert path.read_text().startswith('{"mine": 1}')


def test_a_worker_that_breaks_down_is_one_error_row(folder):
    with Workers(JOB, 1) as workers:
        assert workers.extract(folder / "a.pdf")["extraction"]["data"]["amount"] == 48.0
        child = workers._idle.get()
        child.process.kill()
        child.process.wait()
        workers._idle.put(child)
        failed = workers.extract(folder / "a.pdf")["failed"]
        assert failed["type"] == "EngineFailed" and "a.pdf" in failed["message"]
        assert workers.extract(folder / "d.PDF")["extraction"]["data"]["invoice_number"] == "D-404"
        assert workers.peak > 10_000_000


def test_the_command_prints_json_and_ends_with_4_where_documents_failed(folder, tmp_path, capsys):
    table, drawn = tmp_path / "table.csv", tmp_path / "drawn"
    words = ["extract", str(folder), "--preset", "invoice", "--model", "none", "--json", "--quiet"]
    assert main([*words, "--csv", str(table), "--overlay", str(drawn)]) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == 2 and len(told["documents"]) == 4
    cells = table.read_text().splitlines()
    assert cells[0].startswith("file,issuer,invoice_number") and len(cells) == 5
    assert ",KT-2044,2024-03-14," in cells[1] and "empty" in cells[2]
    assert sorted(path.name for path in drawn.iterdir()) == [
        "a.pdf.html",
        "a.pdf.page1.png",
        "d.PDF.html",
        "d.PDF.page1.png",
    ]
    page = (drawn / "a.pdf.html").read_text()
    assert "KT-2044" in page and "http" not in page and page.count("data:image/jpeg;base64,") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.pdf", "--preset", "invoice"], "no file none.pdf"),
        ([".", "--preset", "invoice", "--jobs", "0"], "--jobs 0"),
    ],
)
def test_what_cannot_be_is_told_without_a_traceback(words, said, capsys):
    assert main(["extract", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "either --schema FILE or --preset"),
        (["--preset", "invoic"], "Did you mean 'invoice'"),
        (["--schema", "none.json"], "no schema 'none.json'"),
        (["--preset", "invoice", "--pages", "3-1"], "no list of pages"),
    ],
)
def test_what_cannot_be_looked_for_is_told(folder, words, said, capsys):
    assert main(["extract", str(folder / "a.pdf"), "--model", "none", *words]) == 2
    assert said in capsys.readouterr().err


def test_pages_are_written_as_people_do():
    assert page_numbers("2, 4-5,2") == (2, 4, 5)


def test_boxes_are_drawn_on_a_turned_page_where_the_words_stand(tmp_path, pdf, invoice):
    from PIL import Image

    from smidgen.documents.extract import extract

    file = File("turned.pdf", pdf([invoice[0]], rotate=180))
    found = extract(file, "invoice", model=None, threads=1)
    written = write_overlay(file, found, PageReader(), tmp_path)
    assert [path.name for path in written] == ["turned.pdf.page1.png", "turned.pdf.html"]
    with Image.open(written[0]) as image:
        box = found.fields["amount"].box
        scale = image.width / found.pages[0].width
        within = image.convert("L").crop([round(edge * scale) for edge in (box.left, box.top, box.right, box.bottom)])
        assert within.getextrema()[0] < 90  # the sum itself, in black


def test_a_spreadsheet_runs_nothing():
    row = {"path": "a.pdf", "fields": {"issuer": {"value": "=cmd()", "status": "grounded"}}}
    assert as_csv([row]).splitlines()[1] == "a.pdf,'=cmd(),,"


def test_a_page_that_never_ends_is_one_error_row(tmp_path, pdf):
    endless = Job({"properties": {"invoice_number": {"type": "string", "pattern": "^([A-Z0-9-]+)+!$"}}})
    path, good = tmp_path / "endless.pdf", tmp_path / "good.pdf"
    path.write_bytes(pdf([[(40, 40, "Invoice No: " + "7" * 40)]]))
    good.write_bytes(pdf([[(40, 40, "Invoice No: D-404")]]))
    with Workers(endless, 1, patience=20.0) as workers:
        assert "extraction" in workers.extract(good)
        workers._patience = 1.5
        failed = workers.extract(path)["failed"]
        workers._patience = 20.0
        assert failed["type"] == "EngineFailed" and "longer than a page may take" in failed["message"]
        assert "extraction" in workers.extract(good)
