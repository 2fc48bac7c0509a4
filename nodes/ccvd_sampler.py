"""CCVD Sampler: KSampler with the settings for regions in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..ccvd_core.backbones.base import RegionalPrompt
from ..ccvd_core.noise_merge import MODES, RegionSettings
from .patching import KEY, with_region_settings


class CCVDSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_Sampler",
            display_name="CCVD Sampler",
            category="CCVD",
            description=(
                "KSampler for scenes with regions: several concepts in one video, each in its place. Connect the model "
                "and the conditioning of Aggregate Adapters."
            ),
            inputs=[
                io.Model.Input("model", tooltip="From Aggregate Adapters."),
                io.Conditioning.Input("positive", tooltip="From Aggregate Adapters: the prompt and its regions."),
                io.Conditioning.Input("negative", tooltip="What the video should not show, from CLIP Text Encode."),
                io.Latent.Input(
                    "latent_image", tooltip="The empty latent, or a video to change. Its noise mask counts."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Which noise the video starts from.",
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Steps from noise to video."),
                io.Float.Input(
                    "cfg",
                    default=5.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="How closely the video follows the prompts. 1 leaves the negative prompt out and is twice "
                    "as fast.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.SAMPLER_NAMES,
                    default="euler",
                    tooltip="The sampling algorithm, as in KSampler.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.SCHEDULER_NAMES,
                    default="simple",
                    tooltip="How the noise levels are spread over the steps, as in KSampler.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1 keeps that much less of the noise and more of the given video.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="attention",
                    tooltip="attention: every region attends to its own prompt; as fast as without regions. paper: in "
                    "the first steps each region is also predicted on its own, one more pass per region. paper + "
                    "bootstrap: those passes see a plain colour around the region, so that its subject forms inside.",
                ),
                io.Float.Input(
                    "region_steps",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of the steps in which regions are predicted on their own (paper modes). More keeps "
                    "subjects apart; less gives one coherent scene, and is faster.",
                ),
                io.Float.Input(
                    "alpha",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much of the whole scene's prediction stays inside a region (paper modes). The paper "
                    "uses 0.1; 1 changes nothing.",
                ),
                io.Float.Input(
                    "blend",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Softness of the regions' edges, and how much overlapping regions mix. 0: hard edges, and "
                    "the front region wins.",
                ),
                io.Float.Input(
                    "bootstrap_steps",
                    default=0.2,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of the steps with a plain colour around each region (paper + bootstrap), at most "
                    "region_steps. It takes two steps or more: the first sees only noise.",
                    advanced=True,
                ),
            ],
            outputs=[io.Latent.Output("latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        mode: Any,
        region_steps: float,
        alpha: float,
        blend: float,
        bootstrap_steps: float,
    ) -> io.NodeOutput:
        settings = RegionSettings(mode, region_steps, alpha, blend, bootstrap_steps)
        if mode != "attention" and not has_regions(positive):
            cls.hint(f"No regions in the positive conditioning: {mode!r} changes nothing. Connect Region Mask.")
        model = with_region_settings(model, settings)
        return io.NodeOutput(
            sampled(model, positive, negative, latent_image, seed, steps, cfg, sampler_name, scheduler, denoise)
        )

    @classmethod
    def hint(cls, text: str) -> None:
        """Show a line under the node."""
        from server import PromptServer

        PromptServer.instance.send_progress_text(text, cls.hidden.unique_id)


def has_regions(conditioning: Sequence[Any]) -> bool:
    """Whether some prompt of a conditioning has regions."""
    states = [extra[KEY] for _, extra in conditioning if KEY in extra]
    return any(isinstance(state.prompt, RegionalPrompt) and len(state.prompt.prompts) > 1 for state in states)


def sampled(
    model: ModelPatcher,
    positive: Any,
    negative: Any,
    latent: dict[str, Any],
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    denoise: float,
) -> dict[str, Any]:
    """What KSampler makes of the same inputs: its noise, previews, progress, Cancel and noise mask."""
    import latent_preview

    samples = comfy.sample.fix_empty_latent_channels(
        model,
        latent["samples"],
        latent.get("downscale_ratio_spacial"),
        latent.get("downscale_ratio_temporal"),
    )
    samples = comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(samples, seed, latent.get("batch_index")),
        steps,
        cfg,
        sampler_name,
        scheduler,
        positive,
        negative,
        samples,
        denoise=denoise,
        noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio_")}
    return {**kept, "samples": samples}
