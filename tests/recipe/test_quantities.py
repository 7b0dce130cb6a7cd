import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import InvalidInput
from smidgen.recipe.quantities import (
    DURATION_UNITS,
    SIZE_UNITS,
    format_duration,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
    parse_speed,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("80MB", 80_000_000),
        ("80 MB", 80_000_000),
        (" 80mb ", 80_000_000),
        ("1B", 1),
        ("77.5MB", 77_500_000),
        (".5KB", 500),
        ("1.5GiB", 1_610_612_736),
        ("0.1KiB", 102),
        ("2TB", 2 * 10**12),
        ("1TiB", 2**40),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["80", "80.5", "0"])
def test_a_size_without_unit_names_examples(text):
    with pytest.raises(InvalidInput, match="has no unit") as caught:
        parse_size(text, name="--fit")
    assert "--fit" in caught.value.message
    assert f"{text}MB" in (caught.value.remedy or "") and f"{text}GiB" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    "text", ["", "MB", "-80MB", "+80MB", "1e3MB", "80 M B", "1,5GB", "nanMB", "80MB5", "²MB", "٣MB"]
)
def test_what_is_not_a_size(text):
    with pytest.raises(InvalidInput):
        parse_size(text)


@pytest.mark.parametrize("text", ["80M", "80Gbit", "5bytes"])
def test_an_unknown_unit_is_named(text):
    with pytest.raises(InvalidInput, match="unknown unit"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0MB", "0.5B", "9999999999TB", "9" * 24 + "TB"])
def test_a_size_out_of_range(text):
    with pytest.raises(InvalidInput, match="out of range"):
        parse_size(text)


def test_a_number_of_endless_digits_is_refused_quickly():
    with pytest.raises(InvalidInput):
        parse_size("9" * 1_000_000 + "MB")


@given(st.integers(1, 10**6), st.sampled_from(sorted(SIZE_UNITS)), st.booleans())
def test_size_is_number_times_unit(number, unit, space):
    assert parse_size(f"{number}{' ' if space else ''}{unit.upper()}") == number * SIZE_UNITS[unit]


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_cleanly(text):
    for parse in (parse_size, parse_duration, parse_speed, parse_share):
        try:
            value = parse(text)
        except InvalidInput as error:
            assert error.remedy
        else:
            assert value > 0 and math.isfinite(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4m", 240),
        ("4min", 240),
        ("90s", 90),
        ("1h30m", 5400),
        ("1h 30m 5s", 5405),
        ("1.5h", 5400),
        ("2d", 172_800),
        ("200ms", 0.2),
        ("1s500ms", 1.5),
        ("1H", 3600),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["4", "1.5"])
def test_a_duration_without_unit_names_examples(text):
    with pytest.raises(InvalidInput, match="has no unit") as caught:
        parse_duration(text, name="--within")
    assert f"{text}m" in (caught.value.remedy or "") and "--within" in caught.value.message


@pytest.mark.parametrize("text", ["", "m", "30m1h", "4m4m", "4m3min", "1h30", "-4m", "4 weeks", "0s", "0h0m"])
def test_what_is_not_a_duration(text):
    with pytest.raises(InvalidInput):
        parse_duration(text)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
def test_parts_of_a_duration_add_up(hours, minutes, seconds):
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@given(st.integers(1, 10**6), st.sampled_from(sorted(DURATION_UNITS)))
def test_a_duration_is_number_times_unit(number, unit):
    assert parse_duration(f"{number}{unit}") == pytest.approx(number * DURATION_UNITS[unit], rel=1e-12)


@pytest.mark.parametrize(
    "text", ["20tok/s", "20 tok/s", "20t/s", "20 tokens/s", "20token/sec", "20 tok / s", "20", "20.0", 20, 20.0]
)
def test_speeds(text):
    assert parse_speed(text) == 20.0


@pytest.mark.parametrize("text", ["", "0", 0, -1, "-3", "20MB", "20tok/m", "fast", float("nan"), float("inf")])
def test_what_is_not_a_speed(text):
    with pytest.raises(InvalidInput, match="tokens per second"):
        parse_speed(text)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("95%", 0.95),
        ("95 %", 0.95),
        ("99.5%", 0.995),
        ("0.95", 0.95),
        (0.95, 0.95),
        (1, 1.0),
        ("100%", 1.0),
        (1e-5, 1e-5),
    ],
)
def test_shares(text, share):
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["95", 95, "1.5"])
def test_a_percentage_without_its_sign_says_so(text):
    with pytest.raises(InvalidInput, match="more than the whole") as caught:
        parse_share(text, name="--keep")
    assert re.search(rf"mean {text}(\.0)?%", caught.value.remedy or "")


@pytest.mark.parametrize("text", ["", "%", "0", "0%", "101%", "950", "-5%", "most", float("nan")])
def test_what_is_not_a_share(text):
    with pytest.raises(InvalidInput):
        parse_share(text)


@given(st.floats(1e-6, 1))
def test_a_share_as_number_is_itself(share):
    assert parse_share(share) == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_960, "1.0 MB"), (80_000_000, "80.0 MB"), (3e15, "3000.0 TB")],
)
def test_sizes_shown(size, text):
    assert format_size(size) == text


@given(st.integers(1, 10**14))
def test_a_shown_size_reads_back_close(size):
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.051)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.9996, "1.0 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_durations_shown(seconds, text):
    assert format_duration(seconds) == text


@given(st.floats(0.001, 10**6))
def test_a_shown_duration_reads_back_close(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.51)
