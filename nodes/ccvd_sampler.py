"""CCVD Sampler: KSampler with the settings for regions in it."""

from __future__ import annotations

import importlib
from typing import Any

import comfy.samplers
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..ccvd_core.regions.modes import RegionSettings
from .host.hints import hint
from .host.patching import with_region_settings
from .host.region_settings import region_setting_inputs, without_effect
from .host.search_words import SEARCH_WORDS


class CCVDSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_Sampler",
            display_name="CCVD Sampler",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_Sampler"],
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
                *region_setting_inputs(),
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
        **region_settings: Any,
    ) -> io.NodeOutput:
        settings = RegionSettings(**region_settings)
        if told := without_effect(settings, positive, denoise):
            hint(cls, told)
        model = with_region_settings(model, settings)
        # ComfyUI's nodes.py, by name: to tools that read this file `nodes` is our own package.
        stock: Any = importlib.import_module("nodes")
        return io.NodeOutput(
            *stock.common_ksampler(
                model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise
            )
        )
