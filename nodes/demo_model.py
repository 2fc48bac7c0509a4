"""CCVD Demo Model: the embedded demo base as native MODEL, CLIP and VAE."""

from __future__ import annotations

from comfy_api.latest import io

from .host.demo_base import load_demo_base
from .host.search_words import SEARCH_WORDS


class DemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_DemoModel",
            display_name="CCVD Demo Model",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_DemoModel"],
            description=(
                "A tiny text-to-video model in Wan 2.1's layout that comes with the pack: emoji that move over plain "
                "backgrounds, 128 x 128, 9 frames. Try the whole method on it in minutes, without a download or a GPU."
            ),
            inputs=[
                io.Float.Input(
                    "shift",
                    default=3.0,
                    min=0.1,
                    max=20.0,
                    step=0.1,
                    tooltip="Flow shift: higher spends more steps on the layout and motion, lower on detail.",
                )
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, shift: float) -> io.NodeOutput:
        return io.NodeOutput(*load_demo_base(shift))
