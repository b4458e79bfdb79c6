"""Contrast, as WCAG 2.2 defines it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.colors import contrast

COLORS = st.from_regex(r"\A#[0-9a-f]{6}\Z")


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        ("#000000", "#ffffff", 21.0),
        ("#767676", "#ffffff", 4.54),  # the lightest grey that is read on white, and the next
        ("#777777", "#ffffff", 4.48),
        ("#ff0000", "#ffffff", 4.0),
    ],
)
def test_known_ratios(one: str, other: str, ratio: float) -> None:
    assert contrast(one, other) == pytest.approx(ratio, abs=0.005)


@given(COLORS, COLORS)
def test_it_does_not_matter_which_is_the_ground(one: str, other: str) -> None:
    assert 1 <= contrast(one, other) == contrast(other, one) <= 21.01
    assert contrast(one, one) == 1
