"""Videos from prompts that name concepts of a library, and videos changed inside their regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ..attaching.attachment import Attachment
from ..backbones.base_match import check_fits_base
from ..backbones.whole_model import WholeModel
from ..concepts.adjustments import NO_ADJUSTMENTS, Adjustments
from ..concepts.library import ConceptLibrary
from ..prompts.aggregation import AggregationSettings
from ..prompts.concept_prompt import ConceptPrompt
from ..regions.edit_masks import frame_masks, latent_mask
from ..regions.library_scene import aggregate_library
from ..regions.modes import RegionSettings
from ..regions.noise_limits import NoiseLimits
from ..regions.region import RegionSet
from ..regions.scene import Reading
from ..sampling import Source, sample

NO_REGIONS = RegionSet(16, 16, ())


@dataclass(frozen=True)
class DrawSettings:
    """How a video is sampled, and how concepts are used."""

    steps: int = 30
    cfg: float = 5.0
    seed: int = 0
    negative: str = ""
    mode: RegionSettings = field(default_factory=RegionSettings)
    reading: Reading = "alone"
    aggregation: AggregationSettings = field(default_factory=AggregationSettings)
    adjusted: Adjustments = NO_ADJUSTMENTS
    own_words_only: bool = True
    """Adapters of keys and values act on their concept's own words alone."""


def draw_video(
    model: WholeModel,
    library: ConceptLibrary,
    prompt: str,
    shape: Sequence[int],
    settings: DrawSettings,
    regions: RegionSet = NO_REGIONS,
    on_step: Callable[[], None] = lambda: None,
) -> Float[Tensor, "frames height width 3"]:
    """A video in 0..1 whose latents have `shape` (see `WholeModel.latent_shape`). Raises CCVDError."""
    noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(settings.seed))
    return sampled(model, library, prompt, noise, settings, regions, None, on_step)


def edit_video(
    model: WholeModel,
    library: ConceptLibrary,
    prompt: str,
    video: Float[Tensor, "frames height width 3"],
    settings: DrawSettings,
    regions: RegionSet = NO_REGIONS,
    denoise: float = 1.0,
    grow: int = 0,
    on_step: Callable[[], None] = lambda: None,
) -> Float[Tensor, "frames height width 3"]:
    """A video (0..1) changed: inside its regions, or, where there are none, all of it. Raises CCVDError.

    Outside the regions every pixel stays the video's own.
    """
    frames, height, width, _ = video.shape
    model.latent_shape(frames, height, width)
    latents = model.to_latents(video.permute(3, 0, 1, 2)[None])[None].to(model.device)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(settings.seed))
    if not regions.regions:
        return sampled(model, library, prompt, noise, settings, regions, Source(latents, denoise), on_step)
    masks = frame_masks(regions, frames, height, width, grow)
    mask = latent_mask(masks, latents.shape, model.backbone.video.frame_step).to(model.device)
    made = sampled(model, library, prompt, noise, settings, regions, Source(latents, denoise, mask), on_step)
    return torch.lerp(video, made, masks[..., None])


def sampled(
    model: WholeModel,
    library: ConceptLibrary,
    prompt: str,
    noise: Float[Tensor, "1 channels latents rows columns"],
    settings: DrawSettings,
    regions: RegionSet,
    source: Source | None,
    on_step: Callable[[], None],
) -> Float[Tensor, "frames height width 3"]:
    """The frames of one clip."""
    backbone = model.backbone
    used = aggregate_library(
        backbone,
        prompt,
        regions,
        library,
        [name for name in library.names() if name not in settings.adjusted.off],
        settings.aggregation,
        settings.adjusted.strengths,
        settings.own_words_only,
        settings.reading,
    )
    check_fits_base(used.acting, backbone)
    adapters = {concept.name: concept.adapters for concept in used.acting}
    scene = used.scene.prompt if regions.regions else used.scene.prompt.prompts[0]
    context, columns = backbone.encode(settings.negative).context.float(), len(used.names)
    nothing = torch.zeros(backbone.layers, columns), torch.zeros(len(context), columns)
    with Attachment(backbone, [adapters.get(name, {}) for name in used.names]) as attachment:
        latents = sample(
            backbone,
            attachment,
            [scene],
            ConceptPrompt(context, (), *nothing),
            noise.to(model.device),
            settings.steps,
            settings.cfg,
            on_step,
            settings.mode if regions.regions else None,
            source=source,
            limits=NoiseLimits(used.names, settings.adjusted.ranges),
        )
    return model.to_frames(latents)[0]
