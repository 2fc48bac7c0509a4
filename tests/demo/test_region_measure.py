"""The measure of the region benchmark, on clips that the world draws itself."""

from __future__ import annotations

import torch
from layouts import PLANS, Case, random_cases
from measure import placements
from torch import Tensor
from world.backgrounds import SIZE
from world.scenes import Actor, Scene
from world.subjects import held_out_subject

from ccvd_core.regions.region import Keyframe, Region, RegionSet

REX, CAB = PLANS[:2]
LEFT, RIGHT = (0.03, 0.25, 0.44, 0.5), (0.53, 0.25, 0.44, 0.5)


def case() -> Case:
    boxes = ((REX, LEFT), (CAB, RIGHT))
    regions = tuple(Region(p.name, f"a <{p.name}>", "#4fc3f7", 1.0, (Keyframe(0.0, box),)) for p, box in boxes)
    return Case((REX, CAB), ("still", "still"), RegionSet(SIZE, SIZE, regions), "blue sky", False)


def drawn(*actors: tuple[str, float]) -> Tensor:
    """A clip with sprites at these fractions of the width."""
    cast = tuple(Actor(held_out_subject(subject), "still", 46.0, (x * SIZE, 0.5 * SIZE)) for subject, x in actors)
    return torch.from_numpy(Scene(cast, "blue sky").render()).float() / 255


def test_each_in_its_own_box_is_placed():
    assert [(p.placed, p.leaked) for p in placements(drawn(("fox", 0.25), ("taxi", 0.75)), case())] == [
        (True, False),
        (True, False),
    ]


def test_exchanged_ones_have_leaked():
    assert [(p.placed, p.leaked) for p in placements(drawn(("taxi", 0.25), ("fox", 0.75)), case())] == [
        (False, True),
        (False, True),
    ]


def test_a_second_copy_elsewhere_is_not_placed():
    judged = placements(drawn(("fox", 0.25), ("fox", 0.75)), case())
    assert [(p.placed, p.leaked) for p in judged] == [(False, False), (False, True)]


def test_an_empty_box_is_neither():
    judged = placements(drawn(("fox", 0.25)), case())
    assert [(p.placed, p.leaked) for p in judged] == [(True, False), (False, False)]


def test_layouts_are_repeatable_do_not_overlap_and_stay_in_the_frame():
    for count in (2, 3, 4):
        cases = random_cases(20, count, seed=5)
        assert cases == random_cases(20, count, seed=5)
        assert sum(case.moving for case in cases) == 10
        for some in cases:
            for t in (0.0, 0.5, 1.0):
                boxes = [region.box_at(t) for region in some.regions.regions]  # type: ignore[union-attr]
                assert all(x >= 0 and y >= 0 and x + w <= 1 + 1e-9 and y + h <= 1 + 1e-9 for x, y, w, h in boxes)
                for index, (x, y, w, h) in enumerate(boxes):
                    for other_x, other_y, other_w, other_h in boxes[:index]:
                        apart_x = x + w <= other_x + 1e-9 or other_x + other_w <= x + 1e-9
                        assert apart_x or y + h <= other_y + 1e-9 or other_y + other_h <= y + 1e-9
