"""Region Sampling: how a MODEL samples regions, for graphs with their own sampler."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..ccvd_core.regions.modes import RegionSettings
from .host.patching import with_region_settings
from .host.region_settings import region_setting_inputs
from .host.search_words import SEARCH_WORDS


class RegionSampling(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_RegionSampling",
            display_name="Region Sampling",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_RegionSampling"],
            description=(
                "How regions are sampled, for KSampler, SamplerCustomAdvanced and any other sampler. CCVD Sampler has "
                "the same settings in it. Changes nothing for prompts without regions."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model, before or after Aggregate Adapters."),
                *region_setting_inputs(),
            ],
            outputs=[io.Model.Output("model_out", display_name="model")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        **region_settings: Any,
    ) -> io.NodeOutput:
        return io.NodeOutput(with_region_settings(model, RegionSettings(**region_settings)))
