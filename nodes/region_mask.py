"""Region Mask: who is where, and when; drawn on a canvas, painted, or from boxes."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..ccvd_core.regions.layout import RegionLayoutError, parse_layout
from ..ccvd_core.regions.pixels import first_masks
from .host.following import editor_frames, save_frames
from .host.hints import hint
from .host.libraries import RegionsType
from .host.region_inputs import PER_FRAME, gathered_regions, notes_on, pixel_boxes
from .host.region_pictures import check_background, preview
from .host.search_words import SEARCH_WORDS

BACKGROUND = "ccvd_background"
"""Under this name the editor gets the background's frames after a run."""


class RegionMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_RegionMask",
            display_name="Region Mask",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_RegionMask"],
            description=(
                "Draw who is where in the scene, and when: a box for each concept, moving if you like. Each region has "
                "its own prompt; where regions overlap, the later one is in front."
            ),
            inputs=[
                io.String.Input(
                    "layout",
                    default="{}",
                    socketless=True,
                    extra_dict={"widgetType": "CCVD_REGION_EDITOR"},
                    tooltip="Drag on the canvas to draw a region, then pick its concept and write its prompt. Drag the "
                    "time to another moment and move the box: it is then there at that time.",
                ),
                io.Int.Input(
                    "width",
                    default=832,
                    min=16,
                    max=16384,
                    step=16,
                    tooltip="Width of the video in pixels; the same as in the empty latent.",
                ),
                io.Int.Input(
                    "height",
                    default=480,
                    min=16,
                    max=16384,
                    step=16,
                    tooltip="Height of the video in pixels; the same as in the empty latent.",
                ),
                io.Int.Input(
                    "length",
                    default=81,
                    min=1,
                    max=10000,
                    tooltip="Frames of the video; the same as in the empty latent.",
                ),
                io.Combo.Input(
                    "mask_batch",
                    options=["regions", PER_FRAME],
                    default="regions",
                    tooltip="What several painted masks are. regions: each is a region of its own. frames: one region, "
                    "with a mask for each frame of the video; another number of masks is spread over it.",
                    advanced=True,
                ),
                io.String.Input(
                    "mask_prompts",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Prompts of the regions that are not drawn here, one per line: first the painted masks, "
                    "then the connected boxes.",
                    advanced=True,
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Painted regions, white on black. They are added in front of the drawn ones.",
                ),
                io.BoundingBox.Input(
                    "boxes",
                    optional=True,
                    socketless=False,
                    force_input=True,
                    tooltip="Regions as ComfyUI's bounding boxes, in pixels; several frames make them move. They are "
                    "added in front of all others.",
                ),
                io.Image.Input(
                    "background",
                    optional=True,
                    tooltip="A picture or the frames of a video, shown under the regions; boxes can follow what moves "
                    "in it. It changes nothing else.",
                ),
            ],
            outputs=[
                RegionsType.Output("regions"),
                io.Mask.Output("masks"),
                io.BoundingBox.Output("boxes_out", display_name="boxes"),
                io.Image.Output("preview"),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, layout: str | None) -> bool | str:
        """Say before the queue starts, not after an hour of learning, that the layout cannot be used.

        What comes from another node is not known yet, and None.
        """
        if layout is None:
            return True
        try:
            parse_layout(layout)
        except RegionLayoutError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        layout: str,
        width: int,
        height: int,
        length: int,
        mask_batch: str,
        mask_prompts: str = "",
        mask: Tensor | None = None,
        boxes: Any = None,
        background: Tensor | None = None,
    ) -> io.NodeOutput:
        regions = gathered_regions(layout, width, height, mask_batch, mask_prompts.splitlines(), mask, boxes)
        check_background(background)
        if note := notes_on(regions, mask, mask_batch, length):
            hint(cls, note)
        under = [] if background is None else save_frames(editor_frames(background))
        return io.NodeOutput(
            regions,
            first_masks(regions),
            pixel_boxes(regions, length),
            preview(regions, background),
            ui={BACKGROUND: under},
        )
