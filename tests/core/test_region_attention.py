"""Region attention, attention mass and the noise merge against loops over single tokens, in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ccvd_core.backbones.noise_path import FlowPath
from ccvd_core.errors import CCVDError
from ccvd_core.regions.attention import attention_mass, plan_tokens, region_attention
from ccvd_core.regions.merging import (
    merge_noise,
    merge_strengths,
    neglect,
    noisy_surroundings,
    own_input,
    plain_colour,
)
from ccvd_core.regions.modes import RegionSettings
from tests.reference import regions as reference

HEADS, HIDDEN, TOKENS = 2, 8, 10
GENERATOR = torch.Generator().manual_seed(3)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)


def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    parts = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("soft", [False, True])
def test_region_attention_is_the_sum_over_single_tokens(soft: bool):
    q, rows = random(2, TOKENS, HIDDEN), (4, 3, 6)
    keys, values = ([random(2, count, HIDDEN) for count in rows] for _ in range(2))
    masks = torch.zeros(3, TOKENS, dtype=torch.float64)
    if soft:
        masks = torch.rand(3, TOKENS, dtype=torch.float64, generator=GENERATOR) * (masks.uniform_() > 0.4)
        masks[0] += 0.1
        masks /= masks.sum(0)
    else:
        masks[torch.tensor([0, 2, 2, 1, 0, 1, 1, 2, 0, 2]), torch.arange(TOKENS)] = 1
    plan = plan_tokens(masks)
    assert (plan.inverse is None) == soft
    ours = region_attention(q, keys, values, plan, kernel)
    for clip in range(2):
        expected = reference.region_attention(q[clip], [k[clip] for k in keys], [v[clip] for v in values], masks, HEADS)
        torch.testing.assert_close(ours[clip], expected, atol=1e-12, rtol=1e-12)


def test_prompts_without_tokens_are_never_asked():
    masks = torch.zeros(3, TOKENS)
    masks[1] = 1
    asked = []

    def counting(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        asked.append(k.shape[1])
        return kernel(q, k, v)

    keys = [random(1, count, HIDDEN) for count in (4, 3, 6)]
    ours = region_attention(random(1, TOKENS, HIDDEN), keys, keys, plan_tokens(masks), counting)
    assert asked == [3] and ours.shape == (1, TOKENS, HIDDEN)


def test_each_token_meets_the_rows_of_one_prompt_only():
    """The work is N x R whatever the number of regions, not N x (K + 1) R."""
    masks = F.one_hot(torch.arange(TOKENS) % 5, 5).T.double()
    work = 0

    def counting(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        nonlocal work
        work += q.shape[1] * k.shape[1]
        return kernel(q, k, v)

    keys = [random(1, 6, HIDDEN) for _ in range(5)]
    region_attention(random(1, TOKENS, HIDDEN), keys, keys, plan_tokens(masks), counting)
    assert work == TOKENS * 6


def test_attention_mass_is_what_falls_on_the_words():
    q, k = random(2, TOKENS, HIDDEN), random(2, 7, HIDDEN)
    share = torch.rand(TOKENS, dtype=torch.float64, generator=GENERATOR)
    ours = attention_mass(q, k, torch.tensor([1, 4, 5]), share, HEADS, kernel)
    expected = [reference.attention_mass(q[clip], k[clip], [1, 4, 5], share, HEADS) for clip in range(2)]
    # The mass is returned in float32.
    torch.testing.assert_close(ours.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("masses", [[0.1, 0.3], [0.2, math.nan], [math.nan, math.nan], [1e-9, 0.5]])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_merge_formula(masses: list[float], alpha: float):
    whole, own = random(2, 2, 3, 2), random(2, 2, 2, 3, 2)
    masks = torch.rand(3, 2, 3, 2, dtype=torch.float64, generator=GENERATOR)
    masks = (masks / masks.sum(0))[1:]
    strengths = merge_strengths(torch.tensor(masses, dtype=torch.float64), alpha)
    floored = [a if math.isnan(a) else max(a, 1e-6) for a in masses]
    expected = reference.merge(whole, own, masks, floored, alpha)
    torch.testing.assert_close(merge_noise(whole, own, masks, strengths), expected, atol=1e-12, rtol=1e-12)


def test_a_neglected_region_is_helped_more_and_the_mean_is_one():
    balance = neglect(torch.tensor([[0.1, 0.2, 0.4], [0.3, 0.3, 0.3]]))
    assert balance[0, 0] > balance[0, 1] > balance[0, 2]
    torch.testing.assert_close(balance.mean(1), torch.ones(2))
    assert merge_strengths(torch.tensor([0.1, 0.9]), 0.1).tolist() == pytest.approx([1.0, 0.18])


def test_the_merge_leaves_the_rest_alone_and_alpha_1_changes_nothing():
    whole, own = random(2, 1, 2, 2), random(1, 2, 1, 2, 2)
    masks = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    result = merge_noise(whole, own, masks, torch.tensor([1.0]))
    torch.testing.assert_close(result[:, 0, 0, 0], own[0, :, 0, 0, 0])
    assert torch.equal(result[:, 0, 1], whole[:, 0, 1])
    assert torch.equal(merge_noise(whole, own, masks, merge_strengths(torch.tensor([0.3]), 1.0)), whole)


def test_one_at_a_time_takes_a_regions_own_prediction_whatever_attention_it_got():
    masses = torch.tensor([0.1, 0.9, torch.nan])
    assert RegionSettings("one at a time", alpha=0.25).strengths(masses).tolist() == [0.75, 0.75, 0.75]
    paper = RegionSettings("paper", alpha=0.25)
    assert torch.equal(paper.strengths(masses), merge_strengths(masses, 0.25))


def test_surroundings_lie_between_what_sampling_began_with_and_what_it_predicts():
    first, clean = torch.randn(2, 2, 4, 3, 6, 5, dtype=torch.float64)
    assert torch.equal(noisy_surroundings(clean, first, 0.0), clean)
    torch.testing.assert_close(noisy_surroundings(clean, first, 1.0), first, atol=1e-12, rtol=1e-12)
    # Flow, begun at t = 0.8: the same noise n in x = (1 - t) clean + t n at every t.
    noise = (first - 0.2 * clean) / 0.8
    half = noisy_surroundings(clean, first, 0.4 / 0.8)
    torch.testing.assert_close(half, 0.6 * clean + 0.4 * noise, atol=1e-12, rtol=1e-12)


def test_bootstrap_shows_a_colour_as_noisy_as_the_latents():
    clean, noise, t = random(1, 2, 1, 2, 2), random(1, 2, 1, 2, 2), torch.tensor(0.7, dtype=torch.float64)
    noisy = torch.lerp(clean, noise, t)
    colour = torch.tensor([0.5, -1.0], dtype=torch.float64)
    mask = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    seen = own_input(noisy, FlowPath().mix(plain_colour(noise, colour), noise, t), mask)
    assert torch.equal(seen[..., 0, 0], noisy[..., 0, 0])
    torch.testing.assert_close(seen[0, :, 0, 0, 1], 0.3 * colour + 0.7 * noise[0, :, 0, 0, 1])
    assert torch.equal(FlowPath().mix(plain_colour(noise), noise, torch.tensor(1.0)), noise)


def test_settings_refuse_nonsense():
    with pytest.raises(CCVDError, match=r"mode must be one of attention, one at a time, paper, paper \+ bootstrap"):
        RegionSettings("fast")
    with pytest.raises(CCVDError, match="alpha must be between 0 and 1"):
        RegionSettings(alpha=1.5)
