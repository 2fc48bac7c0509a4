"""Edit in Regions: a video of which only what is inside regions will be made anew."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..ccvd_core.regions.region import RegionSet
from .host.editing import editable_video
from .host.hints import hint
from .host.libraries import RegionsType
from .host.search_words import SEARCH_WORDS


class EditRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_EditRegions",
            display_name="Edit in Regions",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_EditRegions"],
            description=(
                "Change what is inside regions of a video and keep everything else. Takes the place of VAE Encode "
                "before the sampler."
            ),
            inputs=[
                io.Image.Input("images", tooltip="The frames of the video, from Get Video Components."),
                io.Vae.Input("vae", tooltip="The VAE of the model that edits it."),
                RegionsType.Input(
                    "regions", tooltip="From Region Mask: drawn boxes, boxes that follow an object, painted masks."
                ),
                io.Int.Input(
                    "grow",
                    default=0,
                    min=0,
                    max=512,
                    tooltip="Pixels around each region that may change too. More leaves room for what is larger than "
                    "what was there.",
                ),
            ],
            outputs=[io.Latent.Output("latent"), io.Mask.Output("mask")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images: Tensor, vae: Any, regions: RegionSet, grow: int) -> io.NodeOutput:
        video = editable_video(images, vae, regions, grow)
        if video.note:
            hint(cls, video.note)
        return io.NodeOutput(video.latent, video.masks)
