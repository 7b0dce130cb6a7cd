"""Kinds of noise: the same in every process, as strong as they say, and of the kind they say."""

from __future__ import annotations

import difflib
import subprocess
import sys

import pytest

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.evaluate import noises
from smidgen.evaluate.noises.ocr import Ocr
from smidgen.evaluate.noises.typos import Typos

TEXT = "Nobody who opened the small wooden box could tell where the missing letters had been hidden. " * 40


@pytest.mark.parametrize("name", noises.names())
def test_noise_is_the_same_in_every_process_and_changes_the_text(name: str) -> None:
    noise = noises.find(name)
    code = f"from smidgen.evaluate import noises; print(noises.find({name!r}).put_on({TEXT!r}, 3), end='')"
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert noise.put_on(TEXT, 3) == elsewhere != TEXT
    assert noise.put_on("", 3) == ""


@pytest.mark.parametrize("kind", [Typos, Ocr])
def test_no_share_is_no_noise_and_another_seed_is_other_noise(kind: type) -> None:
    assert kind(0.0).put_on(TEXT) == TEXT
    assert kind().put_on(TEXT, 1) != kind().put_on(TEXT, 2)
    with pytest.raises(InvalidInput, match="cannot be hit"):
        kind(1.5)


def test_typos_hit_as_many_words_as_asked_with_one_error_each_and_spare_the_first_letter() -> None:
    clean, noisy = TEXT.split(), Typos(0.3).put_on(TEXT).split()
    changed = [(one, two) for one, two in zip(clean, noisy, strict=True) if one != two]
    assert 0.25 < len(changed) / len(clean) < 0.35
    for one, two in changed:
        assert one[0] == two[0] and abs(len(one) - len(two)) <= 1
        assert difflib.SequenceMatcher(None, one, two).ratio() > 0.6


def test_typos_leave_numbers_and_short_words_alone() -> None:
    assert Typos(1.0).put_on("At 12345 to 3.14 we") == "At 12345 to 3.14 we"


def test_ocr_takes_two_letters_for_one_and_back() -> None:
    everything = Ocr(1.0)
    assert everything.put_on("rn") == "m"
    assert everything.put_on("w") == "vv"
    assert {everything.put_on("m", seed) for seed in range(40)} == {"rn", "in"}
    assert everything.put_on("a b") == "a6"


def test_an_unknown_noise_names_the_nearest() -> None:
    with pytest.raises(ReferenceNotFound, match="Did you mean 'typos'"):
        noises.find("typo")
