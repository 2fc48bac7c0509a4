"""A schedule split over several samplers or models is sampled as the whole one is, by ComfyUI's own samplers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ccvd_core.backbones.base import Backbone
from ccvd_core.regions.modes import RegionSettings
from tests.backbones.pack import from_pack
from tests.backbones.region_studio import MODES, REGIONS, SHAPE, STEPS, Studio, label

ROUNDING = {"atol": 1e-4, "rtol": 1e-4}
"""Latents leave the model's space and come back between two samplers, in float32."""


@pytest.fixture(scope="module")
def studio(backbones: dict[str, Backbone]) -> Iterator[Studio]:
    import comfy.model_management

    yield Studio()
    comfy.model_management.unload_all_models()


@pytest.fixture(autouse=True)
def forgotten(backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with no sampler before it."""
    monkeypatch.setattr(
        from_pack("nodes.host.region_merging"), "STAGES", from_pack("nodes.host.region_stages").Stages()
    )


@pytest.mark.parametrize("settings", MODES, ids=label)
def test_a_split_is_the_whole_schedule(studio: Studio, settings: RegionSettings):
    model, other = studio.patched(settings), studio.patched(settings, number=1)
    whole = studio.sample(model)
    torch.testing.assert_close(studio.split([model, model], 5), whole, **ROUNDING)
    torch.testing.assert_close(studio.split([model, other], 4), whole, **ROUNDING)
    torch.testing.assert_close(studio.split([model, other, model], 2, 6), whole, **ROUNDING)


@pytest.mark.parametrize("settings", MODES[2:], ids=label)
@pytest.mark.parametrize("changes", [{"sampler_name": "heun"}, {"scheduler": "beta"}], ids=str)
def test_a_split_with_another_sampler_or_schedule(studio: Studio, settings: RegionSettings, changes: dict[str, Any]):
    models = [studio.patched(settings), studio.patched(settings, number=1)]
    changes = {"steps": 6, **changes}
    first = studio.sample(models[0], start_step=0, last_step=3, **changes)
    none = torch.zeros_like(first)
    second = studio.sample(models[1], noise=none, latents=first, start_step=3, **changes)
    torch.testing.assert_close(second, studio.sample(models[0], **changes), **ROUNDING)


def test_what_a_second_sampler_needs_is_of_the_latents_that_it_goes_on_from(studio: Studio):
    """Not of the last sampler that ran: ComfyUI keeps the first one's result while the second one is tried again."""
    model = studio.patched(MODES[3])
    whole = studio.sample(model)
    first = studio.sample(model, start_step=0, last_step=5)
    other = torch.randn(SHAPE, generator=torch.Generator().manual_seed(6))
    studio.sample(model, noise=other, start_step=0, last_step=5)
    none = torch.zeros_like(other)
    again = [studio.sample(model, noise=none, latents=first, start_step=5) for _ in range(2)]
    torch.testing.assert_close(again[0], whole, **ROUNDING)
    assert torch.equal(*again)
    # From latents that nobody left, the surroundings are predicted from what is there.
    elsewhere = studio.sample(model, noise=none, latents=first * 1.5, start_step=5)
    assert bool(elsewhere.isfinite().all())


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The noise levels at which predictions were merged."""
    kind = from_pack("nodes.host.region_merging").RegionMerging
    found: list[float] = []
    merged = kind.merged

    def spied(self: Any, plan: Any, executor: Any, model: Any, conds: Any, x: Any, timestep: Tensor, *args: Any) -> Any:
        found.append(float(timestep.max()))
        return merged(self, plan, executor, model, conds, x, timestep, *args)

    monkeypatch.setattr(kind, "merged", spied)
    return found


def test_the_steps_of_comfyuis_usual_schedule_are_counted_as_they_are(studio: Studio):
    """Schedules of whole runs, in numbers of steps that round to ComfyUI's thousand levels and that do not."""
    from comfy.samplers import simple_scheduler

    modes = from_pack("ccvd_core.regions.modes")
    for shift in (1.0, 3.0, 8.0):
        sampling = from_pack("nodes.host.demo_base").shifted_sampling(studio.models[0], shift)
        for share in range(21):
            decide = modes.region_schedule(modes.RegionSettings(contrast_steps=share / 20), sampling.percent_to_sigma)
            for count in (*range(1, 50), 100):
                begun = simple_scheduler(sampling, count)[:-1].tolist()
                taken = [decide.plan(level, begun).contrast for level in begun]
                assert taken == [step < math.ceil(share / 20 * count - 1e-9) for step in range(count)], (share, count)


def test_shares_are_of_the_whole_schedule_with_denoise_below_1(studio: Studio, levels: list[float]):
    """Half of the noise is half of the schedule: of its steps, a twice as long run merges the same."""
    settings = RegionSettings("paper", region_steps=0.7)
    model, video = studio.patched(settings), torch.randn(SHAPE, generator=torch.Generator().manual_seed(8))
    studio.sample(model, latents=video, denoise=0.5)
    half = levels.copy()
    levels.clear()
    studio.sample(model, steps=2 * STEPS)
    assert len(levels) == 14 and half == levels[10:]
    levels.clear()
    studio.sample(model, latents=video, denoise=0.25)
    assert not levels


def test_without_leftover_noise_a_second_sampler_begins_anew(studio: Studio, levels: list[float]):
    """The first one finishes the clip, the second adds noise of its own: steps merge where the whole run's do."""
    model = studio.patched(RegionSettings("one at a time", region_steps=0.7))
    first = studio.sample(model, start_step=0, last_step=5, force_full_denoise=True)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(9))
    second = studio.sample(model, noise=noise, latents=first, start_step=5)
    split = levels.copy()
    levels.clear()
    studio.sample(model)
    assert split == levels and len(levels) == 7
    assert bool(second.isfinite().all())


def test_a_guider_that_asks_twice_keeps_the_surroundings_of_its_first_call(studio: Studio, levels: list[float]):
    """As Skip Layer Guidance does after every step: here with so little of it that the clip is the same."""
    import comfy.model_patcher
    import comfy.samplers

    model = studio.patched(MODES[3])
    expected = studio.sample(model)
    once = levels.copy()
    levels.clear()

    def skip(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        return args

    def post_cfg(args: dict[str, Any]) -> Tensor:
        options = comfy.model_patcher.set_model_options_patch_replace(
            args["model_options"].copy(), skip, "dit", "double_block", 1
        )
        (skipped,) = comfy.samplers.calc_cond_batch(
            args["model"], [args["cond"]], args["input"], args["sigma"], options
        )
        assert (skipped - args["cond_denoised"]).abs().max() > 1e-3
        return args["denoised"] + (args["cond_denoised"] - skipped) * 1e-6

    guided = model.clone()
    guided.set_model_sampler_post_cfg_function(post_cfg)
    torch.testing.assert_close(studio.sample(guided), expected, **ROUNDING)
    assert levels == [level for level in once for _ in range(2)]


def test_one_at_a_time_measures_no_attention(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    """Its strengths do not depend on it; in the paper's modes they do."""
    measured: list[int] = []
    attention = from_pack("ccvd_core.attaching.regional_attention").RegionalAttention
    monkeypatch.setattr(attention, "_measure", lambda self, number, *args: measured.append(number))
    studio.sample(studio.patched(MODES[3]), steps=2)
    assert not measured
    studio.sample(studio.patched(MODES[1]), steps=2)
    assert measured


@pytest.mark.parametrize("mode", ["paper", "one at a time"])
def test_with_region_every_2_half_as_many_own_predictions_are_made(studio: Studio, mode: str):
    """Counted in rows that the model is given; what comes out is another clip, near the exact one."""
    rows: list[int] = []
    hook = studio.models[0].model.diffusion_model.register_forward_pre_hook(
        lambda module, args: rows.append(len(args[0]))
    )
    counts, made = {}, {}
    try:
        for every in (1, 2, 20):
            rows.clear()
            settings = RegionSettings(mode, region_steps=1.0, region_every=every)
            made[every] = studio.sample(studio.patched(settings))
            counts[every] = sum(rows)
    finally:
        hook.remove()
    plain = counts[1] - REGIONS * STEPS
    assert counts[2] - plain == REGIONS * STEPS // 2 and counts[20] - plain == REGIONS
    exact, near, far = made[1], made[2], made[20]
    assert 0 < (near - exact).norm() < (far - exact).norm()
