import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.tasks import identifiers
from smidgen.tasks.jobs.redact import Redact, candidates
from smidgen.tasks.opened_model import OpenedModel

SECRETS = {
    "EMAIL": ["ann.lee+x@mail.example.org"],
    "URL": ["https://example.org/ann?id=7", "www.example.org"],
    "IBAN": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"],
    "CARD": ["4111 1111 1111 1111", "5500-0000-0000-0004"],
    "SSN": ["078-05-1120"],
    "IP": ["192.168.10.77", "2001:db8:85a3:0:0:8a2e:370:7334"],
    "DATE": ["2024-05-03", "3/5/2024", "3rd of May 2024", "May 3, 2024", "March 1999", "12 Sept. 2020"],
    "PHONE": ["+44 20 7946 0958", "(020) 7946-0958", "555-123-4567", "0049 30 123456"],
    "ADDRESS": ["221b Baker Street", "10 Old Mill Road", "SW1A 1AA", "P.O. Box 77"],
    "ID": ["MRN: 884-1", "policy number: AB-2231"],
    "NAME": ["Dr. Ann van der Lee", "My name is Boris", "Mrs O'Neil"],
    "NUMBER": ["1234567", "12 345"],
}
WORDS = st.text(alphabet=string.ascii_letters + string.digits + " .,:;-/()@+#[]\n’é٣", max_size=30)
SECRET = st.sampled_from([value for values in SECRETS.values() for value in values])


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in SECRETS.items() for value in values])
def test_every_kind_is_found(kind, value):
    found = identifiers.find(f"it was {value} then")
    assert [span.kind for span in found] == [kind]
    assert identifiers.cleaned(f"it was {value} then").endswith(f"[{kind}] then")


@given(st.lists(st.one_of(WORDS, SECRET), max_size=8).map("".join))
@settings(max_examples=300, deadline=None)
def test_nothing_that_a_rule_finds_is_ever_left(text):
    left = identifiers.cleaned(text)
    assert identifiers.find(left) == []


@given(st.lists(st.one_of(WORDS, SECRET), max_size=6).map("".join).filter(str.strip))
@settings(max_examples=60, deadline=None)
def test_nothing_that_a_rule_finds_is_left_by_the_task(text):
    with OpenedModel("echo") as model:
        assert identifiers.find(Redact().done(text, model)["text"]) == []


@given(WORDS, st.sampled_from(SECRETS["EMAIL"] + SECRETS["CARD"] + SECRETS["SSN"] + SECRETS["IBAN"]), WORDS)
@settings(max_examples=100, deadline=None)
def test_a_secret_does_not_outlive_what_stands_around_it(before, secret, after):
    assert secret not in identifiers.cleaned(f"{before} {secret} {after}")


def test_plain_words_stay():
    text = "In 2020 we sold 35 chairs at 12.50 each, 3 of 4 in May."
    assert identifiers.cleaned(text) == text


def test_what_is_kept_protects_what_lies_in_it_and_no_more():
    assert identifiers.cleaned("on 2024-05-03", keep=["DATE"]) == "on 2024-05-03"
    assert identifiers.cleaned("card 4111 1111 1111 1111", keep=["PHONE"]) == "card [CARD]"


def test_a_name_is_taken_out_wherever_it_stands(scripted):
    model = scripted(likelihood=lambda asked, answer: float(asked in ("Ann Lee",) and answer == "person") * 5)
    result = Redact(threshold=0.5).done("Ann Lee met Berlin. Lee left.", model)
    assert result["text"] == "[NAME] met Berlin. [NAME] left."
    assert {place["by"] for place in result["found"]} == {"model"}


def test_words_that_are_no_names_are_not_asked_about():
    assert candidates("On Monday the Meeting took place. A meeting with Ann.", []) == ["Ann"]
