"""Groups of ComfyUI's conditionings with another prompt in a scene's place: what is asked of the model beside them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...ccvd_core.regions.regional_prompt import AnyPrompt, RegionalPrompt

Place = tuple[int, int]
"""The number of a group of conditionings, and of a scene in it."""


@dataclass(frozen=True, eq=False)
class OwnPrediction:
    """One more group to compute: the group at `place` with prompt `region` (from 0) instead of its scene `scene`."""

    place: Place
    scene: uuid.UUID
    region: int
    conds: list[dict[str, Any]]

    @property
    def group(self) -> int:
        return self.place[0]


def away_from_empty(
    conds: Sequence[Any], scenes: Mapping[uuid.UUID, RegionalPrompt], prompts: MutableMapping[uuid.UUID, AnyPrompt]
) -> Sequence[Any]:
    """The groups [positive, negative] with the scenes' own surroundings in the negative prompt's place.

    Only where the positive is all scenes: whatever stands beside them would be guided away from itself.
    """
    if len(conds) != 2 or not conds[1] or not all(cond["uuid"] in scenes for cond in conds[0]):
        return conds
    return [conds[0], [with_prompt(cond, scenes[cond["uuid"]].empty, prompts) for cond in conds[0]]]


def further_groups(
    groups: Sequence[Any],
    scenes: Mapping[uuid.UUID, RegionalPrompt],
    prompts: MutableMapping[uuid.UUID, AnyPrompt],
    instead: Callable[[Place, RegionalPrompt], Sequence[AnyPrompt]],
) -> list[OwnPrediction]:
    """Every group once more for each prompt that is to stand `instead` of a scene in it, the others as they are.

    What stands beside the scene (masks, areas, hooks) counts as before. `prompts` learns whose they are.
    """
    found = []
    for number, group in enumerate(groups):
        places = (at for at, cond in enumerate(group or ()) if cond["uuid"] in scenes)
        for count, at in enumerate(places):
            cond, place = group[at], (number, count)
            for region, prompt in enumerate(instead(place, scenes[cond["uuid"]])):
                around = [*group[:at], with_prompt(cond, prompt, prompts), *group[at + 1 :]]
                found.append(OwnPrediction(place, cond["uuid"], region, around))
    return found


def with_prompt(
    cond: dict[str, Any], prompt: AnyPrompt, prompts: MutableMapping[uuid.UUID, AnyPrompt]
) -> dict[str, Any]:
    """The conditioning with this prompt's text in it, as one of its own; `prompts` learns whose it is."""
    text = cond["model_conds"]["c_crossattn"]
    context = text._copy_with(prompt.context.unsqueeze(0).to(text.cond))
    replaced = {**cond, "uuid": uuid.uuid4(), "model_conds": {**cond["model_conds"], "c_crossattn": context}}
    prompts[replaced["uuid"]] = prompt
    return replaced
