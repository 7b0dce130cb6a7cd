"""What a page says is found with its place; what it does not say is missing, and never said to stand there."""

import pytest

import smidgen
from smidgen.documents.extract import extract
from smidgen.documents.grounding import ground
from smidgen.documents.layout import lay_out
from smidgen.documents.reading import File, PageReader
from smidgen.documents.vocabulary import plain_word
from smidgen.errors import RecipeError, Unsupported


def found_in(content, schema, **options):
    return extract(File("made.pdf", content), schema, model=None, threads=1, **options)


def test_the_fields_of_an_invoice_are_found_where_they_stand(pdf, invoice):
    lines, said = invoice
    found = found_in(pdf([lines]), "invoice")
    assert {name: found[name] for name in said} == said
    total = found.fields["amount"]
    assert (total.page, total.status, total.text) == (1, "grounded", "£48.00") and total.confidence > 0.6
    assert 348 < total.box.left < 352 and 295 < total.box.top < total.box.bottom < 322
    assert found.faults == ()
    assert found.data["lines"] == [
        {"description": "Hand saw", "quantity": 2.0, "unit_price": 15.5, "amount": 31.0},
        {"description": "Wood glue", "quantity": 1.0, "unit_price": 9.0, "amount": 9.0},
    ]
    assert list(found.data) == list(smidgen.documents.schema.preset("invoice")["properties"])


ERASABLE = {
    "issuer": "Kestrel",
    "invoice_number": "Invoice No",
    "date": "Invoice date",
    "due_date": "Due date",
    "buyer": "Bill to",
    "amount": "Total",
    "tax": "VAT",
}


@pytest.mark.parametrize("label_too", [True, False])
@pytest.mark.parametrize("name", ERASABLE)
def test_a_field_that_was_erased_is_missing(pdf, invoice, name, label_too):
    lines, _ = invoice
    left = []
    for x, y, text in lines:
        same_row = any(text2.startswith(ERASABLE[name]) and y == y2 for _, y2, text2 in lines)
        head, colon, _ = text.partition(":")
        if not same_row:
            left.append((x, y, text))
        elif not label_too and text.startswith(ERASABLE[name]) and name != "issuer":
            left.append((x, y, head + colon))
    found = found_in(pdf([left]), "invoice").fields[name]
    assert (found.value, found.status, found.box, found.page) == (None, "missing", None, None)


def test_every_grounded_value_is_made_of_words_of_its_page(pdf, invoice):
    content = pdf([invoice[0]])
    layouts = [lay_out(page) for page in PageReader().pages(File("made.pdf", content))]
    whole = plain_word(layouts[0].text)
    for found in found_in(content, "invoice").fields.values():
        if found.status == "grounded":
            assert plain_word(found.text) in whole, found.path
            assert found.boxes and 0 < found.confidence <= 1


def test_an_empty_page_has_every_field_missing(pdf):
    found = found_in(pdf([[]]), "receipt")
    assert {each.status for each in found.fields.values()} == {"missing"}
    assert set(found.data.values()) == {None}


def test_the_last_page_of_several_counts_where_the_total_stands(pdf, invoice):
    lines = invoice[0]
    found = found_in(pdf([lines[:7], [], lines[7:]]), "invoice")
    assert found.fields["invoice_number"].page == 1 and found.fields["amount"].page == 3
    assert [page.number for page in found.pages] == [1, 2, 3]
    assert len(found.data["lines"]) == 2
    chosen = found_in(pdf([lines[:7], [], lines[7:]]), "invoice", pages=[3])
    assert chosen["invoice_number"] is None and chosen["amount"] == 48.0


def test_sums_that_do_not_add_up_are_told(pdf, invoice):
    wrong = [(x, y, text.replace("48.00", "58.00")) for x, y, text in invoice[0]]
    found = found_in(pdf([wrong]), "invoice")
    assert found.faults == ("amount_untaxed + tax is 48.00, and amount is 58.00.",)
    assert found.fields["amount"].status == "failed_check" and found["amount"] == 58.0
    assert found.fields["amount"].confidence < 0.5


def test_a_sum_that_adds_up_speaks_for_its_parts(pdf, invoice):
    # Another subtotal of the same name stands nearer to the foot of the page.
    lines = [*invoice[0], (260, 350, "Subtotal"), (350, 350, "31.00")]
    assert found_in(pdf([lines]), "invoice")["amount_untaxed"] == 40.0


def test_what_does_not_fit_the_schema_is_told_and_null_in_the_data(pdf):
    schema = {"properties": {"invoice_number": {"type": "string", "pattern": "^KT-[0-9]{4}$"}}}
    good, bad = (found_in(pdf([[(40, 40, f"Invoice No: {code}")]]), schema) for code in ("KT-2044", "XX-1"))
    assert good.fields["invoice_number"].status == "grounded"
    assert bad.fields["invoice_number"].status == "invalid_format" and bad["invoice_number"] == "XX-1"
    assert bad.data == {"invoice_number": None} and "XX-1" in bad.fields["invoice_number"].note


def test_fields_of_any_schema_are_found_by_their_names(pdf):
    schema = {
        "properties": {
            "patient": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "bloodType": {"type": "string"},
                    "weight_kg": {"type": "number"},
                },
            },
            "visits": {"type": "integer"},
            "smoker": {"type": "boolean"},
            "ward": {"enum": ["north", "south"]},
            "last_visit": {"type": "string", "format": "date"},
        }
    }
    lines = ["Patient name: Anna Lee", "Blood type: AB", "Weight (kg): 61.5", "Visits: 12", "Smoker: [ ] Yes [x] No"]
    lines += ["Ward: South", "Date of last visit: 3 May 2024"]
    found = found_in(pdf([[(40, 40 + 24 * row, line) for row, line in enumerate(lines)]]), schema)
    assert found.data == {
        "patient": {"name": "Anna Lee", "bloodType": "AB", "weight_kg": 61.5},
        "visits": 12,
        "smoker": False,
        "ward": "south",
        "last_visit": "2024-05-03",
    }


@pytest.mark.parametrize("name", ["GIN KEE TRADING (81109-A)", "99 SPEED MART SDN BHD"])
def test_a_shop_s_name_comes_without_its_registration(pdf, name):
    lines = [
        (40, 40, name),
        (40, 56, "NO 290, JALAN AIR PANAS,"),
        (40, 72, "53200 KUALA LUMPUR."),
        (40, 100, "TOTAL RM 9.00"),
    ]
    found = found_in(pdf([lines]), "receipt")
    assert found["company"] == name.partition(" (")[0]
    assert found["address"] == "NO 290, JALAN AIR PANAS, 53200 KUALA LUMPUR."
    assert (found["total"], found["currency"]) == (9.0, "MYR")


def test_a_sum_asked_for_as_text_is_its_figures_as_printed(pdf):
    schema = {"properties": {"total": {"type": "string"}, "discount": {"type": "string"}}}
    found = found_in(pdf([[(40, 40, "Discount: -£ 2.00"), (40, 60, "Total: £ 1,048.00")]]), schema)
    assert found.data == {"total": "1,048.00", "discount": "-2.00"}


def test_one_value_is_not_given_to_two_fields(pdf):
    schema = {"properties": {"invoice_number": {"type": "string"}, "order_number": {"type": "string"}}}
    found = found_in(pdf([[(40, 40, "Order number: 7712-B")]]), schema)
    assert found.data == {"invoice_number": None, "order_number": "7712-B"}


def test_free_text_needs_a_model(pdf):
    with pytest.raises(Unsupported, match="'summary' is to be written by a model"):
        found_in(pdf([[]]), {"properties": {"summary": {"type": "string", "x-kind": "free"}}})


def test_a_schema_may_be_a_class(pdf):
    from pydantic import BaseModel

    class Bill(BaseModel):
        invoice_number: str
        total: float | None = None

    found = found_in(pdf([[(40, 40, "Invoice No: A-77"), (40, 60, "Total: 9.50")]]), Bill)
    assert Bill(**found.data) == Bill(invoice_number="A-77", total=9.5)


def test_a_schema_s_faults_are_told_before_a_document_is_read():
    with pytest.raises(RecipeError):
        extract("/nowhere.pdf", {"type": "object"}, model=None)


def test_words_are_found_again_only_where_all_of_them_stand(pdf):
    content = pdf([[(40, 40, "Delivered to Anna Lee on Monday")]])
    layouts = [lay_out(page) for page in PageReader().pages(File("made.pdf", content))]
    assert ground("Anna Lee", layouts).words[0].text == "Anna"
    assert ground("Anna Smith", layouts) is None and ground("", layouts) is None
    assert ground("Deliverd to Anna", layouts).quality < 1
