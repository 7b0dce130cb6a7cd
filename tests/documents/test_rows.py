"""Rows of tables are found whole, on however many lines they stand."""

import pytest

from smidgen.documents.extract import extract
from smidgen.documents.reading import File

HEAD = [(40, 40, "Invoice No: KT-2044"), (40, 100, "Description"), (200, 100, "Qty"), (260, 100, "Unit price"),
        (350, 100, "Amount")]  # fmt: skip
FOOT = ["Total", "40.00"]
SAW = {"description": "Hand saw of steel, 30 cm", "quantity": 2.0, "unit_price": 15.5, "amount": 31.0}
GLUE = {"description": "Wood glue in a tube", "quantity": 1.0, "unit_price": 9.0, "amount": 9.0}


def lines_of(pdf, rows, schema="invoice"):
    """Lay rows out below a head; each row is a distance from the row before and its cells."""
    drawn, y = list(HEAD), 100
    for step, *cells in [*rows, (30, "", "", "Total", "40.00")]:
        y += step
        drawn += [(x, y, cell) for x, cell in zip((40, 200, 260, 350), cells, strict=False) if cell]
    return extract(File("made.pdf", pdf([drawn])), schema, model=None, threads=1).data["lines"]


def test_words_go_on_below_their_figures(pdf):
    rows = [
        (16, "Hand saw", "2", "15.50", "31.00"),
        (13, "of steel, 30 cm"),
        (16, "Wood glue", "1", "9.00", "9.00"),
        (13, "in a tube"),
    ]
    assert lines_of(pdf, rows) == [SAW, GLUE]


def test_the_sum_stands_on_the_last_line(pdf):
    rows = [
        (16, "Hand saw"),
        (13, "of steel, 30 cm", "2", "15.50", "31.00"),
        (16, "Wood glue"),
        (13, "in a tube", "1", "9.00", "9.00"),
    ]
    assert lines_of(pdf, rows) == [SAW, GLUE]


def test_figures_stand_below_the_words_in_two_lines(pdf):
    rows = [(16, "Hand saw"), (13, "of steel, 30 cm"), (13, "", "2", "15.50", ""), (13, "", "", "", "31.00"),
            (20, "Wood glue"), (13, "in a tube"), (13, "", "1", "9.00", ""), (13, "", "", "", "9.00")]  # fmt: skip
    assert lines_of(pdf, rows) == [SAW, GLUE]


def test_gaps_tell_rows_apart_where_the_first_has_one_line(pdf):
    saw = {**SAW, "description": "Hand saw"}
    rows = [
        (16, "Hand saw", "2", "15.50", "31.00"),
        (24, "Wood glue"),
        (12, "in a tube", "1", "9.00", "9.00"),
        (24, "Nails"),
        (12, "of steel", "1", "2.00", "2.00"),
    ]
    assert lines_of(pdf, rows)[:2] == [saw, GLUE] and len(lines_of(pdf, rows)) == 3


def test_what_stands_apart_or_left_of_the_table_belongs_to_no_row(pdf):
    saw = {**SAW, "description": "Hand saw"}
    rows = [
        (16, "Hand saw", "2", "15.50", "31.00"),
        (40, "Delivered on Monday"),
        (40, "Wood glue", "1", "9.00", "9.00"),
        (13, "in a tube"),
    ]
    assert lines_of(pdf, rows) == [saw, GLUE]


RECEIPT = {
    "properties": {"items": {"type": "array", "items": {"properties": {"item": {}, "amount": {"type": "number"}}}}}
}


@pytest.mark.parametrize("count", ["2 x 15.50", "2 @ 15.50"])
def test_an_item_s_price_stands_below_its_name_on_a_receipt(pdf, count):
    drawn = [(40, 40, "Kestrel Tools Ltd"), (40, 80, "Hand saw"), (60, 94, count), (300, 94, "31.00"),
             (40, 108, "Wood glue"), (300, 108, "9.00"), (40, 130, "TOTAL"), (300, 130, "40.00")]  # fmt: skip
    found = extract(File("made.pdf", pdf([drawn])), RECEIPT, model=None, threads=1)
    assert found.data["items"] == [{"item": "Hand saw", "amount": 31.0}, {"item": "Wood glue", "amount": 9.0}]
