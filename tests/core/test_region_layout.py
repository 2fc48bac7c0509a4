import json
from pathlib import Path

import pytest

from ccvd_core.regions.layout import MAX_TEXT, RegionLayoutError, parse_layout

CASES = json.loads((Path(__file__).parents[1] / "data" / "region_layout_cases.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES["good"], ids=lambda case: case["name"])
def test_good_layouts_are_read(case: dict):
    layout = parse_layout(case["text"])
    assert len(layout.regions) == case["regions"] and [layout.width, layout.height] == case["size"]
    for expected in case.get("boxes", []):
        assert layout.regions[expected["region"]].box_at(expected["t"]) == pytest.approx(expected["box"], abs=1e-12)


@pytest.mark.parametrize("case", CASES["bad"], ids=lambda case: case["name"])
def test_bad_layouts_say_where_and_why(case: dict):
    with pytest.raises(RegionLayoutError) as caught:
        parse_layout(case["text"])
    assert case["says"] in str(caught.value)


def test_too_many_regions_and_too_much_text_are_refused():
    region = {"keyframes": [{"t": 0, "box": [0, 0, 1, 1]}]}
    many = json.dumps({"version": 1, "width": 64, "height": 64, "regions": [region] * 10_000})
    with pytest.raises(RegionLayoutError, match="at most 64; got 10000"):
        parse_layout(many)
    with pytest.raises(RegionLayoutError, match=f"at most {MAX_TEXT} characters"):
        parse_layout(" " * 50_000_000)
    with pytest.raises(RegionLayoutError, match="at most 100 brackets within brackets"):
        parse_layout("[" * 100_000)
