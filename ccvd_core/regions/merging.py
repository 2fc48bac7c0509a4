"""Attention-guided noise estimation: one prediction per region, merged where the regions are (DESIGN 2.3).

Outside all regions E_global; inside region k  (1 - b_k) E_global + b_k E_k  with  b_k = clip((1 - alpha) w_k, 0, 1)
and w_k ~ 1 / a_k, mean 1: a region whose concept got less attention a_k than the others' is helped more. (CIDM, eq. 5;
as printed there everything outside the boxes is scaled by alpha, which ours does not do.)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def neglect(masses: Float[Tensor, "*batch regions"]) -> Float[Tensor, "*batch regions"]:
    """w_k ~ 1 / a_k with mean 1 over the regions whose a_k is known; 1 where it is not (NaN: no concept there)."""
    known = masses.isfinite()
    inverse = torch.where(known, 1 / masses.clamp_min(1e-6), 0)
    mean = inverse.sum(-1, keepdim=True) / known.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(known, inverse / mean, 1.0)


def merge_strengths(masses: Float[Tensor, "*batch regions"], alpha: float) -> Float[Tensor, "*batch regions"]:
    """b_k = clip((1 - alpha) w_k, 0, 1)."""
    return ((1 - alpha) * neglect(masses)).clamp(0, 1)


def merge_noise(
    whole: Float[Tensor, "channels frames height width"],
    own: Float[Tensor, "regions channels frames height width"],
    masks: Float[Tensor, "regions frames height width"],
    strengths: Float[Tensor, " regions"],
) -> Float[Tensor, "channels frames height width"]:
    """E = E_global + sum_k m_k b_k (E_k - E_global) for one clip, masks m_k of the latents' own size.

    Linear in the predictions, so it merges noise, velocity or denoised latents alike.
    """
    shares = strengths.to(whole).view(-1, 1, 1, 1) * masks.to(whole)
    return whole + (shares.unsqueeze(1) * (own - whole)).sum(0)


def own_input(
    noisy: Float[Tensor, "*batch channels frames height width"],
    background: Float[Tensor, "*batch channels frames height width"],
    mask: Float[Tensor, "frames height width"],
) -> Float[Tensor, "*batch channels frames height width"]:
    """What a region's own prediction is made from: the noisy latents inside, `background`, as noisy, outside."""
    return torch.lerp(background, noisy, mask.to(noisy))


def noisy_surroundings(
    clean: Float[Tensor, "*batch channels frames height width"],
    first: Float[Tensor, "*batch channels frames height width"],
    remaining: float | Float[Tensor, ""],
) -> Float[Tensor, "*batch channels frames height width"]:
    """The scene without its regions, later in sampling: on the straight line from `first` to `clean`.

    `clean` is what the first step, guided, predicts the empty scene to be, from the latents `first` at its noise level;
    of that level the share `remaining` is left. What a sampler's latents are made of (noise, a video to change) stays.
    """
    return clean + remaining * (first - clean)


def plain_colour(
    like: Float[Tensor, "batch channels frames height width"], colour: Float[Tensor, " channels"] | None = None
) -> Float[Tensor, "batch channels frames height width"]:
    """Latents of one constant colour c in latent space (None: the mean of all latents, 0)."""
    base = like.new_zeros(like.shape[1]) if colour is None else colour.to(like)
    return base.view(1, -1, 1, 1, 1).expand_as(like)


def guided(positive: Tensor, negative: Tensor, cfg: float) -> Tensor:
    """Classifier-free guidance: E = E_neg + cfg (E_pos - E_neg)."""
    return negative + cfg * (positive - negative)
