"""Region Layout Video: regions for models that are shown where things go."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..ccvd_core.regions.layout_video import layout_frames, middle_paths
from ..ccvd_core.regions.region import RegionError, RegionSet
from .host.libraries import RegionsType
from .host.search_words import SEARCH_WORDS


class RegionLayoutVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_RegionLayoutVideo",
            display_name="Region Layout Video",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_RegionLayoutVideo"],
            description=(
                "The regions of Region Mask for models that are shown where things go: a video of their outlines for "
                "VACE, and tracks for nodes that follow paths."
            ),
            inputs=[
                RegionsType.Input("regions", tooltip="From Region Mask."),
                io.Int.Input(
                    "length",
                    default=81,
                    min=1,
                    max=10000,
                    tooltip="Frames of the video; the same as in the empty latent.",
                ),
            ],
            outputs=[io.Image.Output("images"), io.Tracks.Output("tracks")],
        )

    @classmethod
    def execute(cls, regions: RegionSet, length: int) -> io.NodeOutput:
        if not regions.regions:
            raise RegionError("There are no regions. Draw one in Region Mask.")
        paths = middle_paths(regions, length)
        visible = torch.ones(paths.shape[:2], dtype=torch.bool)
        return io.NodeOutput(layout_frames(regions, length), {"track_path": paths, "track_visibility": visible})
