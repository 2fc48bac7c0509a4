"""The headless sampler with regions, in every mode, on every backbone. In float64."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from ccvd_core.errors import CCVDError
from ccvd_core.regions.modes import RegionSettings
from ccvd_core.regions.regional_prompt import AnyPrompt, predict_prompts
from ccvd_core.regions.row_merging import RowMerging
from ccvd_core.sampling import Source, sample
from tests.backbones.scenes import LEFT, RIGHT, region, scene, two_concepts
from tests.reference import regions as reference

CPU = torch.device("cpu")
MODES = [
    None,
    RegionSettings(),
    RegionSettings("paper", region_steps=1.0),
    RegionSettings("paper + bootstrap", region_steps=1.0, bootstrap_steps=0.5),
    RegionSettings("one at a time", region_steps=1.0),
]


@pytest.mark.parametrize("settings", MODES[:3], ids=lambda s: s.mode if s else "default")
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_sampling_identical_regions_is_plain_sampling(double, case, one, make_prompt, settings, cfg: float):
    negative = make_prompt("", (0.0, 0.0), rows=())
    noise = case.latents.double()
    regional = scene([one, one, one], LEFT, region(0.1, 0.2, 0.6, 0.6))
    with two_concepts(double) as attachment:
        plain = sample(double, attachment, [one, one], negative, noise, steps=2, cfg=cfg)
        ours = sample(double, attachment, [regional, regional], negative, noise, steps=2, cfg=cfg, regions=settings)
    torch.testing.assert_close(ours, plain, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("settings", MODES, ids=lambda s: s.mode if s else "default")
def test_a_scene_without_regions_is_its_prompt(double, case, one, make_prompt, settings):
    negative = make_prompt("", (0.0, 0.0), rows=())
    noise = case.latents.double()
    with two_concepts(double) as attachment:
        plain = sample(double, attachment, [one, one], negative, noise, steps=2)
        empty = sample(double, attachment, [scene([one])] * 2, negative, noise, steps=2, regions=settings)
    torch.testing.assert_close(empty, plain, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("settings", MODES[1:], ids=lambda s: s.mode)
def test_each_clip_of_a_batch_is_sampled_as_alone(double, case, one, other, make_prompt, settings):
    negative = make_prompt("", (0.0, 0.0), rows=())
    noise = case.latents.double()
    prompts = [scene([one, other, one], LEFT, RIGHT), other]
    with two_concepts(double) as attachment:
        both = sample(double, attachment, prompts, negative, noise, steps=2, regions=settings)
        first = sample(double, attachment, prompts[:1], negative, noise[:1], steps=2, regions=settings)
        second = sample(double, attachment, prompts[1:], negative, noise[1:], steps=2, regions=settings)
    torch.testing.assert_close(both, torch.cat([first, second]), atol=1e-9, rtol=1e-9)


def test_contrast_guides_away_from_the_scene_without_its_regions(double, case, one, other, make_prompt):
    """In the first of two steps the whole frame's prompt stands where the negative prompt stands in the second."""
    noise, cfg = case.latents[:1].double(), 3.0
    regional, negative = scene([one, other, one], LEFT, RIGHT), make_prompt("", (0.0, 0.0), rows=())
    with two_concepts(double) as attachment:
        ours = sample(
            double, attachment, [regional], negative, noise, 2, cfg, regions=RegionSettings(contrast_steps=0.5)
        )
        path, grid = double.noise_path, double.grid(noise.shape[1:])
        times = path.times(2).double()
        latents = path.start(noise, times[0])
        for t, next_t, against in zip(times, times[1:], (one, negative), strict=False):
            parts = []
            for prompt in (regional, against):
                with attachment.activate([prompt], CPU, grid=grid):
                    parts.append(predict_prompts(double, latents, t[None], [prompt]))
            latents = path.step(latents, parts[1] + cfg * (parts[0] - parts[1]), t, next_t)
    # Times are embedded in float32.
    torch.testing.assert_close(ours, latents, atol=1e-6, rtol=1e-5)


def test_paper_merges_by_the_formula(double, case, one, other, make_prompt):
    """One step, cfg 1: the result is the clean latents that the merged prediction means."""
    noise, alpha = case.latents[:1].double(), 0.4
    regional = scene([one, other, one], LEFT, RIGHT)
    negative = make_prompt("", (0.0, 0.0), rows=())
    settings = RegionSettings("paper", region_steps=1.0, alpha=alpha)
    path, grid = double.noise_path, double.grid(noise.shape[1:])
    t = path.times(1).double()[:1]
    first = path.start(noise, t)
    with two_concepts(double) as attachment:
        ours = sample(double, attachment, [regional], negative, noise, steps=1, cfg=1.0, regions=settings)
        with attachment.activate([regional], CPU, grid=grid, measure=True):
            whole = predict_prompts(double, first, t, [regional])[0]
            masses = attachment.attention_masses()[0]
        own = []
        for prompt in (other, one):
            with attachment.activate([prompt], CPU, grid=grid):
                own.append(predict_prompts(double, first, t, [prompt])[0])
    assert masses is not None
    prediction = reference.merge(whole, torch.stack(own), halves(noise), [float(a) for a in masses], alpha)
    # The masses are float32.
    torch.testing.assert_close(ours, path.clean(first, prediction[None], t), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["paper", "one at a time"])
def test_between_its_own_predictions_a_region_stays_what_it_was_last_predicted_to_be(
    double, case, one, other, make_prompt, monkeypatch: pytest.MonkeyPatch, mode: str
):
    """With a region over all of the frame and alpha 0, what was predicted last is all that counts, guidance aside."""
    noise = case.latents[:1].double()
    regional, negative = scene([one, other], region(0.0, 0.0, 1.0, 1.0)), make_prompt("", (0.0, 0.0), rows=())
    asked: list[float] = []
    predicted = RowMerging._predict_own  # type: ignore[attr-defined]

    def spied(self, asked_for, latents, plan, t):
        asked.append(float(t))
        return predicted(self, asked_for, latents, plan, t)

    monkeypatch.setattr(RowMerging, "_predict_own", spied)
    settings = RegionSettings(mode, region_steps=1.0, alpha=0.0, region_every=2)
    with two_concepts(double) as attachment:
        ours = sample(double, attachment, [regional], negative, noise, steps=4, cfg=1.0, regions=settings)
        levels, path = double.noise_path.times(4).double(), double.noise_path
        latents = path.start(noise, levels[0])
        for step, (t, next_t) in enumerate(pairwise(levels)):
            if step % 2 == 0:
                with attachment.activate([other], CPU, grid=double.grid(noise.shape[1:])):
                    clean = path.clean(latents, predict_prompts(double, latents, t[None], [other]), t)
            latents = path.step(latents, path.towards(latents, clean, t), t, next_t)
    assert asked == [float(level) for level in levels[:-1:2]]
    if mode == "paper":
        torch.testing.assert_close(ours, latents, atol=1e-6, rtol=1e-5)


def test_one_at_a_time_shows_a_region_the_scene_without_the_others(double, case, one, other, make_prompt):
    """Two steps: outside its region an own prediction sees what the first step, guided, says of the surroundings."""
    noise, alpha, cfg = case.latents[:1].double(), 0.4, 3.0
    regional = scene([one, other, one], LEFT, RIGHT)
    negative = make_prompt("", (0.0, 0.0), rows=())
    settings = RegionSettings("one at a time", region_steps=1.0, alpha=alpha)
    alone = scene([one, other], LEFT), scene([one, one], RIGHT)
    with two_concepts(double) as attachment:

        def predict(latents: torch.Tensor, t: torch.Tensor, prompt: AnyPrompt) -> torch.Tensor:
            with attachment.activate([prompt], CPU, grid=double.grid(noise.shape[1:])):
                return predict_prompts(double, latents, t[None], [prompt])

        def guided(velocity: torch.Tensor, away: torch.Tensor) -> torch.Tensor:
            return away + cfg * (velocity - away)

        ours = sample(double, attachment, [regional], negative, noise, steps=2, cfg=cfg, regions=settings)
        path = double.noise_path
        times = path.times(2).double()
        start, full = path.start(noise, times[0]), times[0]
        clean = path.clean(start, guided(predict(start, full, one), predict(start, full, negative)), full)
        latents = start
        for t, next_t in pairwise(times):
            around, velocity = clean + (t / full) * (start - clean), predict(latents, t, regional)
            whole = velocity
            for mask, prompt in zip(halves(noise), alone, strict=True):
                own = predict(torch.where(mask > 0, latents, around), t, prompt)
                velocity = velocity + mask * (1 - alpha) * (own - whole)
            latents = path.step(latents, guided(velocity, predict(latents, t, negative)), t, next_t)
    # Times are embedded in float32.
    torch.testing.assert_close(ours, latents, atol=1e-6, rtol=1e-5)


def halves(latents: torch.Tensor) -> torch.Tensor:
    """The masks of LEFT and RIGHT over six latents: centres at 1/12, 3/12, ... of the width."""
    masks = torch.zeros(2, *latents.shape[2:], dtype=torch.float64)
    masks[0, :, :, :2] = 1
    masks[1, :, :, 4:] = 1
    return masks


def test_bootstrap_hides_the_surroundings(double, case, one, other, make_prompt):
    """From the second step on: the first sees noise, of which a colour is no part yet."""
    noise = case.latents[:1].double()
    regional = scene([one, other], region(0, 0, 0.5, 0.5))
    negative = make_prompt("", (0.0, 0.0), rows=())
    with two_concepts(double) as attachment:
        off, none, on = (
            sample(double, attachment, [regional], negative, noise, steps=3, regions=settings)
            for settings in (
                RegionSettings("paper", region_steps=0.6),
                RegionSettings("paper + bootstrap", region_steps=0.6, bootstrap_steps=0.3),
                RegionSettings("paper + bootstrap", region_steps=0.6, bootstrap_steps=0.6),
            )
        )
    torch.testing.assert_close(off, none, atol=1e-10, rtol=1e-10)
    assert (on - off).abs().max() > 1e-4


@pytest.mark.parametrize("settings", MODES[:1] + MODES[3:], ids=lambda s: s.mode if s else "default")
def test_what_is_masked_off_stays_to_the_last_bit(double, case, one, other, make_prompt, settings):
    noise, negative = case.latents.double(), make_prompt("", (0.0, 0.0), rows=())
    clip = torch.randn(noise.shape, dtype=noise.dtype, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(1, 1, *noise.shape[2:], dtype=noise.dtype)
    mask[..., : noise.shape[-1] // 2] = 1
    prompts = [scene([one, other], LEFT)] * 2
    with two_concepts(double) as attachment:
        ours, all_of_it = (
            sample(double, attachment, prompts, negative, noise, 2, regions=settings, source=Source(clip, 0.7, part))
            for part in (mask, None)
        )
    outside = (mask == 0).expand_as(clip)
    assert torch.equal(ours[outside], clip[outside])
    assert (ours - clip).abs()[~outside].mean() > 1e-2
    assert (all_of_it - clip).abs()[outside].mean() > 1e-2


def test_the_less_is_drawn_anew_the_nearer_a_clip_stays(double, case, one, make_prompt):
    noise, negative = case.latents.double(), make_prompt("", (0.0, 0.0), rows=())
    clip = torch.randn(noise.shape, dtype=noise.dtype, generator=torch.Generator().manual_seed(3))
    with two_concepts(double) as attachment:
        drawn = [
            sample(double, attachment, [one] * 2, negative, noise, 3, source=Source(clip, share))
            for share in (0.05, 0.3, 1.0)
        ]
    changes = [float((found - clip).square().mean()) for found in drawn]
    assert changes == sorted(changes) and changes[0] < 0.1 * changes[-1]


def test_a_source_that_cannot_be_is_refused():
    clip = torch.zeros(1, 4, 2, 4, 4)
    for denoise in (0.0, 1.5):
        with pytest.raises(CCVDError, match="Denoise must be above 0 and at most 1"):
            Source(clip, denoise)
    with pytest.raises(CCVDError, match=r"must have that size; got \[2, 4, 5\]"):
        Source(clip, 1.0, torch.ones(1, 1, 2, 4, 5))
