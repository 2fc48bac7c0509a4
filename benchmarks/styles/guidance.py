"""Ways of guiding a clip in a learned style: what is predicted, and how the predictions become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from bases import Base
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.concepts.concept import Concept
from ccvd_core.number_types import fast_autocast
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.regional_prompt import predict_prompts

STEPS, CFG = 20, 3.0

Predictions = Mapping[str, Tensor]
"""What each sentence of `SENTENCES` that a way asks for is predicted to be."""


@dataclass(frozen=True)
class Way:
    """`asks`: the sentences that are predicted in each step. `guide`: their predictions and the noise level (1 to 0) to
    one. `strength`: of the style's adapters and tokens."""

    asks: tuple[str, ...] = ("styled", "empty")
    guide: Callable[[Predictions, float], Tensor] = lambda found, t: guided(found["styled"], found["empty"])
    strength: float = 1.0


def guided(positive: Tensor, negative: Tensor, cfg: float = CFG) -> Tensor:
    """Classifier-free guidance."""
    return negative + cfg * (positive - negative)


def after_guidance(style: float) -> Callable[[Predictions, float], Tensor]:
    """neg + cfg (plain - neg) + s (styled - plain), after PureCC (2603.07561): cfg does not multiply the style."""
    return lambda found, t: guided(found["plain"], found["empty"]) + style * (found["styled"] - found["plain"])


def rescaled(share: float) -> Callable[[Predictions, float], Tensor]:
    """Guidance whose standard deviation is brought back towards the positive prediction's (arXiv 2305.08891)."""

    def guide(found: Predictions, t: float) -> Tensor:
        whole = guided(found["styled"], found["empty"])
        dims = tuple(range(1, whole.ndim))
        size = found["styled"].std(dims, keepdim=True) / whole.std(dims, keepdim=True)
        return torch.lerp(whole, whole * size, share)

    return guide


def projected(parallel: float) -> Callable[[Predictions, float], Tensor]:
    """Guidance with less of what only makes the prediction longer (APG, arXiv 2410.02416)."""

    def guide(found: Predictions, t: float) -> Tensor:
        positive, change = found["styled"], found["styled"] - found["empty"]
        dims = tuple(range(1, change.ndim))
        along = (change * positive).sum(dims, keepdim=True) / positive.square().sum(dims, keepdim=True) * positive
        return positive + (CFG - 1) * (change - (1 - parallel) * along)

    return guide


def within(low: float, high: float) -> Callable[[Predictions, float], Tensor]:
    """Guidance between two noise levels only (arXiv 2404.07724)."""
    return lambda found, t: guided(found["styled"], found["empty"], CFG if low < t <= high else 1.0)


WAYS = {
    "guided": Way(),
    "half_strength": Way(strength=0.5),
    "no_guidance": Way(("styled",), lambda found, t: found["styled"]),
    "style_in_negative": Way(("styled", "style_alone"), lambda found, t: guided(found["styled"], found["style_alone"])),
    "after_guidance_1": Way(("styled", "plain", "empty"), after_guidance(1.0)),
    "after_guidance_1.5": Way(("styled", "plain", "empty"), after_guidance(1.5)),
    "after_guidance_2": Way(("styled", "plain", "empty"), after_guidance(2.0)),
    "rescaled": Way(guide=rescaled(0.7)),
    "projected": Way(guide=projected(0.0)),
    "guided_late": Way(guide=within(0.0, 0.9)),
    "guided_early": Way(guide=within(0.5, 1.0)),
}


def sentences(base: Base, concept: Concept, text: str, plain: str, strength: float) -> dict[str, ConceptPrompt]:
    """The prompts that ways ask for: the styled one, the same in the base's words, the style alone, and nothing."""
    told = {"styled": text, "plain": plain, "style_alone": f"in <{concept.name}> style", "empty": ""}
    strengths = {concept.name: strength}
    found = {name: aggregate(base.backbone, said, [concept], strengths=strengths).prompt for name, said in told.items()}
    # What does not name the style is the base alone.
    for name in ("plain", "empty"):
        found[name] = off(found[name])
    return found


def off(prompt: ConceptPrompt) -> ConceptPrompt:
    """The prompt with no concept acting."""
    return type(prompt)(prompt.context, prompt.placed, torch.zeros_like(prompt.weights), torch.zeros_like(prompt.gates))


@torch.no_grad()
def draw(
    base: Base, way: Way, concept: Concept, texts: Sequence[str], plain: Sequence[str], seeds: Sequence[int]
) -> Tensor:
    """Clips [n, frames, height, width, 3] in 0..1; a seed decides a clip's noise."""
    rows = [sentences(base, concept, *pair, way.strength) for pair in zip(texts, plain, strict=True)]
    latents, path = base.noise(seeds), base.backbone.noise_path
    with Attachment(base.backbone, [concept.adapters]) as attachment, fast_autocast():
        for t, next_t in pairwise(path.times(STEPS).to(latents)):
            found = {}
            for name in way.asks:
                prompts = [row[name] for row in rows]
                with attachment.activate(prompts, latents.device):
                    at = t.expand(len(latents))
                    found[name] = predict_prompts(base.backbone, latents, at, prompts).to(latents)
            latents = path.step(latents, way.guide(found, float(t)), t, next_t)
        return base.to_clips(latents)
