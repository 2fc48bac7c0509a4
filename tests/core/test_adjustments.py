"""Lines that switch concepts off or change their strength."""

from __future__ import annotations

import re

import pytest

from ccvd_core.concepts import adjustments
from ccvd_core.concepts.adjustments import Adjustments, NoiseRange, check_strength, parse_adjustments
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
    found = parse_adjustments(text)
    assert (found.off, found.strengths, found.ranges) == (off, strengths, {})


@pytest.mark.parametrize(
    ("text", "strengths", "ranges"),
    [
        ("hop from 0.5", {}, {"hop": (0.5, 1.0)}),
        ("hop 0.8 to .9", {"hop": 0.8}, {"hop": (0.0, 0.9)}),
        ("<hop>: 0.8 from 0.25 to 0.5", {"hop": 0.8}, {"hop": (0.25, 0.5)}),
        ("hop to 0.5 from 0.1", {}, {"hop": (0.1, 0.5)}),
        ("hop from 0 to 1", {}, {}),
        ("hop from 0.5\nhop", {}, {}),
        ("from 0.5", {"from": 0.5}, {}),
    ],
)
def test_lines_say_at_which_noise(text: str, strengths: dict[str, float], ranges: dict[str, NoiseRange]) -> None:
    found = parse_adjustments(text)
    assert (found.off, found.strengths, found.ranges) == (set(), strengths, ranges)
    assert set(found.names) == {*strengths, *ranges}


@pytest.mark.parametrize("line", ["hop from 0.9 to 0.1", "hop from 0.5 to 0.5", "hop to 2", "hop from -1"])
def test_a_range_without_noise_is_refused(line: str) -> None:
    with pytest.raises(CCVDError, match="must go from a smaller to a larger number between 0 and 1"):
        parse_adjustments(line)


@pytest.mark.parametrize(
    "line",
    [
        "rex loud",
        "rex 0.5 0.6",
        "<> 1",
        "rex 1e3",
        "rex nan",
        "rex 1_0",
        "rex 1.2.3",
        "rex --1",
        "rex from",
        "rex from a",
    ],
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
    assert parse_adjustments("1" * 100_000) == Adjustments()
