"""Concepts that act at some noise only: outside it they are not there, to the last bit, here and in ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.adjustments import NoiseRange
from ccvd_core.regions.modes import RegionSettings
from ccvd_core.regions.noise_limits import NoiseLimits
from ccvd_core.sampling import predict_rows, sample
from tests.backbones.region_studio import MODES, Studio, label
from tests.backbones.scenes import LEFT, RIGHT, scene, two_concepts

NAMES = ("c0", "c1")


@pytest.mark.parametrize("time", [0.2, 0.5, 0.8])
def test_outside_its_range_a_concept_is_not_there_and_inside_it_is_as_without(double, case, one, other, time: float):
    latents = case.latents[:1].double()
    level = double.noise_path.level(torch.tensor([time], dtype=torch.float64))[0]
    limits = NoiseLimits(NAMES, {"c0": (0.4, 0.6)})
    with two_concepts(double) as attachment:

        def predicted(prompt, limited: NoiseLimits | None) -> Tensor:
            return predict_rows(double, attachment, [prompt], latents, level, limits=limited)[0]

        for prompt in (one, other, scene([one, other, one], LEFT, RIGHT)):
            never = NoiseLimits(NAMES, {"c0": (0.999, 1.0)})
            expected = predicted(prompt, None if 0.4 <= time <= 0.6 else never)
            assert torch.equal(predicted(prompt, limits), expected)
    whole = predicted_alone(double, latents, level, one)
    with two_concepts(double) as attachment:
        nothing = NoiseLimits(NAMES, dict.fromkeys(NAMES, (0.999, 1.0)))
        assert torch.equal(predict_rows(double, attachment, [one], latents, level, limits=nothing)[0], whole)


def predicted_alone(backbone: Backbone, latents: Tensor, level: Tensor, prompt) -> Tensor:
    """What the base says of the same words."""
    plain = replace(prompt, placed=(), weights=torch.zeros_like(prompt.weights), gates=torch.zeros_like(prompt.gates))
    with two_concepts(backbone) as attachment:
        return predict_rows(backbone, attachment, [plain], latents, level)[0]


def test_without_ranges_and_for_the_same_time_the_prompt_is_the_same_object(one):
    assert NoiseLimits(NAMES, {}).at(one, 0.5) is one
    limits = NoiseLimits(NAMES, {"c0": (0.0, 0.5)})
    assert limits.at(one, 0.5) is one
    assert limits.at(one, 0.6) is limits.at(one, 0.9) is not one


def test_a_clip_is_sampled_with_a_concept_in_its_steps_alone(double, case, one, make_prompt):
    negative, noise = make_prompt("", (0.0, 0.0), rows=()), case.latents[:1].double()
    with two_concepts(double) as attachment:

        def drawn(ranges: dict[str, NoiseRange]) -> Tensor:
            limits = NoiseLimits(NAMES, ranges)
            return sample(double, attachment, [one], negative, noise, steps=4, cfg=2.0, limits=limits)

        whole, early, late = drawn({}), drawn({"c0": (0.85, 1.0)}), drawn({"c0": (0.0, 0.85)})
        assert torch.equal(drawn({"c0": (0.0, 1.0)}), whole)
    assert not torch.allclose(early, whole) and not torch.allclose(late, whole) and not torch.allclose(early, late)


@pytest.fixture(scope="module")
def studio(backbones: dict[str, Backbone]) -> Iterator[Studio]:
    import comfy.model_management

    yield Studio()
    comfy.model_management.unload_all_models()


@pytest.mark.parametrize("settings", [RegionSettings(), *MODES[1:]], ids=label)
def test_in_comfyui_a_concept_acts_at_its_noise_in_every_mode(studio: Studio, settings: RegionSettings):
    """A range that no step has is a library without the concept; one that all have is no range."""
    none, every = studio.limited(settings, {"rex": (0.0, 1e-6)}), studio.limited(settings, {"rex": (0.0, 1.0)})
    some = studio.limited(settings, {"rex": (0.7, 1.0)})
    whole = studio.sample(studio.patched(settings))
    assert torch.equal(every, whole)
    assert not torch.allclose(none, whole) and not torch.allclose(some, whole) and not torch.allclose(some, none)
