"""Demo Pictures: what comes with the pack to learn from, with captions. `scripts/make_demo_pictures.py` draws it."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui
from jaxtyping import Float
from torch import Tensor

from ..ccvd_core.concepts.concept import check_name
from ..ccvd_core.errors import CCVDError
from ..ccvd_core.sheet import spread
from .host.demo_world import FOLDER, demo_concepts, read_samples
from .host.lesson import written_name

MOMENTS = 3
"""Frames of a clip that the node shows."""


def shown(media: list[Tensor]) -> Float[Tensor, "pictures height width 3"]:
    """Every picture, and of every clip its beginning, middle and end."""
    return torch.cat([frames[spread(len(frames), MOMENTS)] for frames in media])


class DemoPictures(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_DemoPictures",
            display_name="Demo Pictures",
            category="CCVD",
            description=(
                "Pictures or clips that come with the pack, with captions: things that the demo model has never seen, "
                "to try Learn Concept with. For your own, use Load Image-Text (from Folder) in its place."
            ),
            search_aliases=["sample pictures", "example images", "dataset", "train"],
            inputs=[
                io.Combo.Input(
                    "what",
                    options=list(demo_concepts()),
                    tooltip="What they show: a subject, a motion or a style. This node's help says which is which, and "
                    "its class words.",
                ),
                io.String.Input(
                    "name",
                    default="rex",
                    tooltip="What the captions call it: <rex>. Write the same name in Learn Concept.",
                ),
            ],
            outputs=[
                io.Image.Output("images", is_output_list=True),
                io.String.Output("captions", is_output_list=True),
                io.String.Output("class_words"),
            ],
        )

    @classmethod
    def execute(cls, what: str, name: str) -> io.NodeOutput:
        if not (FOLDER / what).is_dir():
            raise CCVDError(
                f"The pack has no demo pictures of {what!r} (in demo/pictures). Choose one of: "
                f"{', '.join(demo_concepts())}. If it is one of them, install the pack again."
            )
        concept = check_name(written_name(name))
        media, captions = zip(*read_samples(what), strict=True)
        named = [caption.replace(f"<{what}>", f"<{concept}>") for caption in captions]
        preview = ui.PreviewImage(shown(list(media)), cls=cls)
        return io.NodeOutput(list(media), named, demo_concepts()[what]["class_words"], ui=preview)
