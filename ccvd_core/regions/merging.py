"""Attention-guided noise estimation: one prediction per region, merged where the regions are (DESIGN 2.3).

Outside all regions E_global; inside region k  (1 - b_k) E_global + b_k E_k  with  b_k = clip((1 - alpha) w_k, 0, 1)
and w_k ~ 1 / a_k, mean 1: a region whose concept got less attention a_k than the others' is helped more. (CIDM, eq. 5;
as printed there everything outside the boxes is scaled by alpha, which ours does not do.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import CCVDError

Mode = Literal["attention", "one at a time", "paper", "paper + bootstrap"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class RegionSettings:
    """How regions are sampled. Shares of the steps are shares of the model's whole schedule (see `region_steps`).

    `attention`: region attention alone, one model call per step. `paper`: for the first `region_steps` share of the
    steps also one prediction per region, of its prompt over the whole frame, merged by attention and `alpha`.
    `paper + bootstrap`: in the first `bootstrap_steps` share (of all steps, at most `region_steps`) those predictions
    see one plain colour outside their region, so that its subject forms inside (MultiDiffusion).
    `one at a time`: those predictions are of the scene with that region alone, by region attention, and outside the
    region they see the scene without any region, as noisy as the latents: no other subject is there to compete.
    `blend` softens the regions' edges, 0..1. In the first `contrast_steps` share, in any mode, the whole frame's prompt
    takes the negative prompt's place: the guidance then points from the empty scene to the scene with its subjects.
    """

    mode: Mode = "attention"
    region_steps: float = 0.6
    alpha: float = 0.1
    blend: float = 0.0
    bootstrap_steps: float = 0.2
    contrast_steps: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise CCVDError(f"The mode must be one of {', '.join(MODES)}; got {self.mode!r}.")
        for name in ("region_steps", "alpha", "blend", "bootstrap_steps", "contrast_steps"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise CCVDError(f"The region setting {name} must be between 0 and 1; got {value}.")

    @property
    def merged_share(self) -> float:
        """Share of the steps that merge predictions."""
        return 0.0 if self.mode == "attention" else self.region_steps

    @property
    def bootstrapped_share(self) -> float:
        """Share of the steps that hide what is outside a region from its own prediction."""
        return min(self.region_steps, self.bootstrap_steps) if self.mode == "paper + bootstrap" else 0.0

    def unreached(self, begun: float) -> str:
        """The settings, separated by commas, whose share is over when sampling begins after the share `begun`."""
        shares = {
            "region_steps": self.merged_share,
            "bootstrap_steps": self.bootstrapped_share,
            "contrast_steps": self.contrast_steps,
        }
        return ", ".join(f"{name} {share:g}" for name, share in shares.items() if 0 < share <= begun)

    @property
    def measures(self) -> bool:
        """Whether the attention that a region got decides how much of it is its own prediction."""
        return self.mode in ("paper", "paper + bootstrap")

    def strengths(self, masses: Float[Tensor, "*batch regions"]) -> Float[Tensor, "*batch regions"]:
        """How much of a region is its own prediction: b_k, or 1 - alpha where nothing competes for attention."""
        if self.measures:
            return merge_strengths(masses, self.alpha)
        return torch.full_like(masses, 1 - self.alpha)


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


def bootstrap_input(
    noisy: Float[Tensor, "*batch channels frames height width"],
    background: Float[Tensor, "*batch channels frames height width"],
    mask: Float[Tensor, "frames height width"],
) -> Float[Tensor, "*batch channels frames height width"]:
    """A region's own input: the noisy latents inside, `background` (a plain colour, as noisy as they are) outside."""
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
