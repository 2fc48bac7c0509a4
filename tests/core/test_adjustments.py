"""Lines that switch concepts off or change their strength."""

from __future__ import annotations

import re

import pytest

from ccvd_core.concepts import adjustments
from ccvd_core.concepts.adjustments import check_strength, parse_adjustments
from ccvd_core.errors import CCVDError


@pytest.mark.parametrize(
    ("text", "off", "strengths"),
    [
        ("", set(), {}),
        ("\n  \n", set(), {}),
        ("rex 0.8", set(), {"rex": 0.8}),
        ("<rex> = 0.5", set(), {"rex": 0.5}),
        ("<Rex>0.5\nkit: OFF\nfox=on\nowl", {"kit"}, {"rex": 0.5}),
        ("rex:-.5", set(), {"rex": -0.5}),
        ("rex +4.", set(), {"rex": 4.0}),
        ("rex off\nrex on", set(), {}),
        ("rex 2\nrex off", {"rex"}, {}),
        ("my-dog_2 1", set(), {"my-dog_2": 1.0}),
        ("rex0.5", set(), {}),
    ],
)
def test_lines_say_what_is_on_and_how_strongly(text: str, off: set[str], strengths: dict[str, float]) -> None:
    assert parse_adjustments(text) == (off, strengths)


@pytest.mark.parametrize(
    "line", ["rex loud", "rex 0.5 0.6", "<> 1", "rex 1e3", "rex nan", "rex 1_0", "rex 1.2.3", "rex --1"]
)
def test_a_line_that_means_nothing_is_named(line: str) -> None:
    with pytest.raises(CCVDError, match=r"Line 2 of the adjustments, '.*', should read `name 0.8`"):
        parse_adjustments(f"kit off\n{line}")


@pytest.mark.parametrize("strength", ["4.01", "-9", "99999999999999999999"])
def test_strengths_have_bounds(strength: str) -> None:
    with pytest.raises(CCVDError, match="between -4 and 4"):
        parse_adjustments(f"rex {strength}")


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), float("-inf"), 1e38])
def test_strengths_that_would_overflow_are_refused(strength: float) -> None:
    with pytest.raises(CCVDError, match="between -4 and 4"):
        check_strength("rex", strength)


def test_a_line_is_read_once_however_long() -> None:
    """A pattern tried every way to part 2,000 digits, for 96 seconds; 100,000 would take it weeks. None is left."""
    assert not any(isinstance(value, re.Pattern) for value in vars(adjustments).values())
    with pytest.raises(CCVDError, match="Line 1") as caught:
        parse_adjustments("1" * 100_000 + "x " + "1" * 100_000 + "x")
    assert len(str(caught.value)) < 200
    assert parse_adjustments("1" * 100_000) == (frozenset(), {})
