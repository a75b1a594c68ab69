"""Numbers as text: the sign of a zero is never shown, in tables, sentences and CSV files."""

import re

import numpy as np
import pytest

from cellmill.metrics.decimals import round_decimals, round_digits
from cellmill.reports import scales, wording
from cellmill.stages.evaluate import TableWriter

ZERO_WITH_SIGN = re.compile(r"(?<![\d.e])[-+−](0*\.?0+)(?![\d.]*[1-9e])")


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [
        (0.0, 3, "0.000"), (-0.0, 3, "0.000"), (-0.0004, 3, "0.000"), (0.0004, 3, "0.000"), (-0.0006, 3, "−0.001"),
        (-1234.5, 1, "−1,234.5"), (0.25, 3, "0.250"), (-0.4, 0, "0"),
    ],
)  # fmt: skip
def test_a_number_that_rounds_to_zero_has_no_sign(value, decimals, expected):
    assert round_decimals(value, decimals) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, "0.000"), (-0.0, "0.000"), (0.0004, "0.000"), (0.02, "+0.020"), (-0.02, "−0.020")]
)
def test_a_difference_has_a_sign_unless_it_rounds_to_zero(value, expected):
    assert wording.say_difference(value) == expected
    assert wording.difference(value).text == expected


@pytest.mark.parametrize(
    ("share", "expected"), [(-0.0004, "0.0 %"), (0.051, "+5.1 %"), (-0.051, "−5.1 %"), (12.5, "+1,250.0 %")]
)
def test_percentages_follow_the_same_rule(share, expected):
    assert wording.say_percent(share, is_signed=True).replace("\N{NO-BREAK SPACE}", " ") == expected


def test_no_function_of_the_pages_writes_a_zero_with_a_sign():
    values = [sign * 10.0**-power for power in range(2, 12) for sign in (1, -1)] + [0.0, -0.0]
    for value in values:
        written = [
            wording.say_score(value), wording.say_difference(value), wording.say_percent(value, is_signed=True),
            wording.say_count(value), wording.score(value, low=value, high=0.5).note,
            wording.say_percent_interval(value, 0.5), wording.say_value(value),
        ]  # fmt: skip
        assert [text for text in written if ZERO_WITH_SIGN.search(text)] == [], value
    assert wording.score(-0.0).value.hex() == (0.0).hex()  # the value that a downloaded table contains


def test_the_pattern_of_this_test_finds_what_it_should():
    for wrong in ("-0.000", "+0.000", "−0.0 %", "from -0 to 1", "(−0.00)"):
        assert ZERO_WITH_SIGN.search(wrong), wrong
    for right in ("-0.001", "+0.010", "0.000–0.100", "−0.5", "1e-05"):
        assert not ZERO_WITH_SIGN.search(right), right


def test_intervals_of_negative_ends_have_room_for_the_minus():
    assert wording.say_interval(-0.2, 0.1) == "−0.200 – 0.100"
    assert wording.say_interval(-0.0001, 0.1) == "0.000–0.100"
    assert wording.say_interval(0.1, None) == ""


@pytest.mark.parametrize(
    ("value", "expected"), [(-0.0, "0"), (np.float64(-0.0), "0"), (-0.5, "-0.5"), (1e-12, "1e-12")]
)
def test_a_csv_file_has_no_negative_zero(tmp_path, value, expected):
    assert round_digits(float(value), 9) == expected
    with TableWriter(tmp_path / "a.csv", ["value"]) as table:
        table.write([{"value": float(value)}])
    assert (tmp_path / "a.csv").read_text() == f"value\n{expected}\n"


def test_ticks_of_an_axis_through_zero_have_no_signed_zero():
    texts = [text for _, text in scales.Scale(-0.3, 0.3, 0, 100).ticks()]
    assert "−0.2" in texts
    assert any(text.strip("0.") == "" for text in texts)
    assert not any(ZERO_WITH_SIGN.search(text) for text in texts)
