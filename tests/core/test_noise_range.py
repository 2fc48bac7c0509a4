"""The range of noise in which a concept is learned: the shifted distribution restricted to it, never clamped."""

from __future__ import annotations

import math

import pytest
import torch

from ccvd_core.errors import CCVDError
from ccvd_core.learning.step import LearningSettings, draw_step, training_times

COUNT = 20_000
NORMAL = torch.randn(COUNT, generator=torch.Generator().manual_seed(17))
RANGES = [(0.875, 1.0), (0.0, 0.875), (0.9, 1.0), (0.3, 0.31), (0.0, 0.02), (0.99, 1.0), (0.2, 0.8)]
SHAPES = [(0.0, 3.0), (1.0, 3.0), (0.7, 5.0), (0.0, 1.0), (-1.0, 0.5)]


def shifted(mean: float, shift: float, noise_from: float = 0.0, noise_to: float = 1.0) -> LearningSettings:
    return LearningSettings(time_mean=mean, time_shift=shift, noise_from=noise_from, noise_to=noise_to)


@pytest.mark.parametrize(("mean", "shift"), SHAPES)
def test_the_whole_range_is_the_shifted_distribution_itself(mean: float, shift: float):
    t = torch.sigmoid(mean + NORMAL.double())
    expected = shift * t / (1 + (shift - 1) * t)
    torch.testing.assert_close(training_times(NORMAL, shifted(mean, shift)).double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("mean", "shift"), SHAPES)
@pytest.mark.parametrize("limits", RANGES)
def test_draws_are_distributed_as_those_of_the_whole_range_that_fall_into_it(
    mean: float, shift: float, limits: tuple[float, float]
):
    """Kolmogorov-Smirnov against the distribution function, worked out by hand from the normal's.

    P(t <= x) = P(z <= logit(x) - log(shift) - mean), since the shift multiplies the odds x / (1 - x) by its number.
    """
    noise_from, noise_to = limits
    drawn = training_times(NORMAL, shifted(mean, shift, noise_from, noise_to)).double().sort().values
    assert noise_from - 1e-7 <= float(drawn[0]) and float(drawn[-1]) <= noise_to + 1e-7

    def below(x: float) -> float:
        if x in (0.0, 1.0):
            return x
        z = math.log(x / (1 - x)) - math.log(shift) - mean
        return math.erfc(-z / math.sqrt(2)) / 2

    def above(x: float) -> float:
        return (
            1 - below(x)
            if x in (0.0, 1.0)
            else math.erfc((math.log(x / (1 - x)) - math.log(shift) - mean) / 2**0.5) / 2
        )

    inside = below(noise_to) - below(noise_from) if below(noise_from) < 0.5 else above(noise_from) - above(noise_to)
    picked = drawn[:: COUNT // 200]
    for place, x in enumerate(picked.tolist()):
        x = min(max(x, noise_from), noise_to)
        share = (
            (below(x) - below(noise_from)) / inside
            if below(noise_from) < 0.5
            else (above(noise_from) - above(x)) / inside
        )
        # 1.95 / sqrt(n) is the test's bound at one in a thousand
        assert abs(share - place * (COUNT // 200) / COUNT) < 1.95 / math.sqrt(COUNT) + 1 / COUNT


@pytest.mark.parametrize(("mean", "shift"), SHAPES)
def test_nothing_gathers_at_the_ends(mean: float, shift: float):
    """Clamping would give the ends a mass of their own."""
    drawn = training_times(NORMAL, shifted(mean, shift, 0.3, 0.7))
    assert (drawn == 0.3).sum() + (drawn == 0.7).sum() <= 4
    assert len(drawn.unique()) > 0.95 * COUNT


def test_far_ranges_keep_their_digits():
    """Beyond what 1 - P resolves: eleven standard deviations out."""
    settings = LearningSettings(time_mean=-6.0, time_shift=0.5, noise_from=0.99, noise_to=1.0)
    drawn = training_times(NORMAL, settings)
    assert bool(drawn.isfinite().all()) and 0.99 <= float(drawn.min()) < 0.9901
    assert len(drawn.unique()) > 1000


def test_a_step_draws_inside_the_range():
    settings = LearningSettings(batch=64, noise_from=0.875)
    for step in range(20):
        times = draw_step([(4, 1, 2, 2)], settings, step).times
        assert bool((times >= 0.875).all()) and bool((times < 1).all())
    assert float(draw_step([(4, 1, 2, 2)], LearningSettings(batch=64), 0).times.min()) < 0.875


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((0.9, 0.9), r"noise_from below noise_to.*0\.9 to 0\.9"),
        ((0.9, 0.5), r"noise_from below noise_to"),
        ((0.5, 0.505), r"at least 0\.01 wide"),
        ((-0.1, 1.0), r"noise_from must be between 0 and 1"),
        ((0.0, 1.5), r"noise_to must be between 0 and 1"),
        ((float("nan"), 1.0), r"noise_from"),
    ],
)
def test_ranges_that_are_none_are_refused(limits: tuple[float, float], message: str):
    with pytest.raises(CCVDError, match=message):
        LearningSettings(noise_from=limits[0], noise_to=limits[1])


def test_a_concept_says_in_which_range_it_was_learned():
    from dataclasses import asdict

    assert asdict(LearningSettings(noise_from=0.875))["noise_from"] == 0.875


def test_a_wide_normal_draws_all_times_about_equally_often():
    settings = LearningSettings(time_spread=1.7, time_shift=1.0)
    times = training_times(torch.randn(40_000, generator=torch.Generator().manual_seed(0)), settings)
    shares = torch.histc(times, 10, 0, 1) / len(times)
    assert (shares - 0.1).abs().max() < 0.015
