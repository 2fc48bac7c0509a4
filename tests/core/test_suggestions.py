"""The name that was most likely meant."""

from __future__ import annotations

import pytest

from ccvd_core.concepts.suggestions import closest
from ccvd_core.errors import UnknownConceptError
from ccvd_core.prompts.mentions import check_known


@pytest.mark.parametrize(
    ("name", "near"),
    [("mimy", "mimi"), ("Mimi", "mimi"), ("rax", "rex"), ("re", "rex"), ("red_car", "red-car"), ("elephant", None)],
)
def test_the_nearest_name(name: str, near: str | None) -> None:
    assert closest(name, ["rex", "mimi", "red-car"]) == near


def test_an_unknown_concept_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(UnknownConceptError, match=r"<mimy>.*Did you mean <mimi>\? Known concepts: <mimi>, <rex>\.$"):
        check_known(["mimy"], ["rex", "mimi"])
