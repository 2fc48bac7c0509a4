"""Scenes on the demo model in ComfyUI's own sampling, by the code under the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from base import DemoBase
from torch import Tensor

from ccvd_core.concepts.adjustments import NoiseRange
from ccvd_core.concepts.concept import Concept, LowRank
from ccvd_core.regions.region import Keyframe, Region
from tests.backbones.pack import from_pack

MOVING = Region(
    "", "a <rex>", "#ffffff", 1.0, (Keyframe(0.0, (0.0, 0.1, 0.4, 0.6)), Keyframe(1.0, (0.6, 0.1, 0.4, 0.6)))
)
STILL = Region("", "a <kit> on blue sky", "#ffffff", 0.7, (Keyframe(0.0, (0.3, 0.4, 0.6, 0.5)),))


def load_model() -> Any:
    """The demo model as MODEL, by the code under CCVD Demo Model."""
    import comfy.sd

    demo = from_pack("nodes.host.demo_base")
    model = comfy.sd.load_diffusion_model(str(demo.MODEL_FILE))
    model.add_object_patch("model_sampling", demo.shifted_sampling(model, 3.0))
    return model


def random_concepts(base: DemoBase) -> list[Concept]:
    """<rex>, a subject, and <kit>, a motion."""
    backbone = base.backbone()

    def concept(name: str, kind: Any, words: str, seed: int) -> Concept:
        generator = torch.Generator().manual_seed(seed)
        adapters = {
            site.id: LowRank(
                torch.randn(4, site.in_features, generator=generator) / site.in_features**0.5,
                torch.randn(site.out_features, 4, generator=generator) * 0.1,
            )
            for site in backbone.sites
            if site.id in backbone.site_ids(kind)
        }
        rows = len(base.encode_text(words).pieces)
        tokens = torch.randn(backbone.layers, rows, backbone.text_width, generator=generator) * 0.3
        keys = torch.nn.functional.normalize(tokens.mean(1), dim=-1)
        return Concept(name, kind, words, adapters, tokens, keys, keys, backbone.fingerprint)

    return [concept("rex", "subject", "dog", 1), concept("kit", "motion", "cat", 2)]


def conditioning(scene: Any, names: tuple[str, ...], ranges: Mapping[str, NoiseRange] | None = None) -> list[Any]:
    """CONDITIONING as Aggregate Adapters gives it."""
    patching = from_pack("nodes.host.patching")
    # The pack under ComfyUI has its own classes: what travels in a conditioning must be theirs.
    return [[scene.context.unsqueeze(0), {patching.KEY: patching.PromptState(theirs(scene), names, ranges or {})}]]


def in_comfyui(
    model: Any,
    scene: Any,
    negative: Any,
    noise: Tensor,
    latents: Tensor | None = None,
    ranges: Mapping[str, NoiseRange] | None = None,
    **changes: Any,
) -> Tensor:
    """KSampler's and KSampler (Advanced)'s call with these conditionings, on concepts `rex` and `kit`; a LATENT."""
    import comfy.sample

    usual = {"steps": 4, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple", "disable_pbar": True, "seed": 1}
    return comfy.sample.sample(
        model,
        noise,
        positive=conditioning(scene, ("rex", "kit"), ranges),
        negative=[[negative.context.unsqueeze(0), {}]],
        latent_image=torch.zeros_like(noise) if latents is None else latents,
        **{**usual, **changes},
    )


def theirs(value: Any) -> Any:
    """A dataclass of `ccvd_core` as the same one of the pack under ComfyUI."""
    if isinstance(value, tuple | list):
        return type(value)(theirs(item) for item in value)
    module = type(value).__module__
    if not module.startswith("ccvd_core."):
        return value
    kind = getattr(from_pack(module), type(value).__name__)
    fields = {name: theirs(getattr(value, name)) for name in value.__dataclass_fields__}
    return kind(**fields)
