"""Empty Text-to-Video Latent: an empty clip for models that have a latent for every frame."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from .host.search_words import SEARCH_WORDS


class EmptyTextToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_EmptyTextToVideo",
            display_name="Empty Text-to-Video Latent",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_EmptyTextToVideo"],
            description="An empty video for the models of Load Text-to-Video Folder: every frame has its own latent.",
            inputs=[
                io.Int.Input(
                    "width", default=256, min=64, max=4096, step=8, tooltip="Pixels; the models were trained at 256."
                ),
                io.Int.Input(
                    "height", default=256, min=64, max=4096, step=8, tooltip="Pixels; the models were trained at 256."
                ),
                io.Int.Input(
                    "length",
                    default=16,
                    min=1,
                    max=1024,
                    tooltip="Frames; the models were trained on 16, at 8 a second.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="How many videos at once."),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, width: int, height: int, length: int, batch_size: int) -> io.NodeOutput:
        device = comfy.model_management.intermediate_device()
        samples = torch.zeros(batch_size, 4, length, height // 8, width // 8, device=device)
        return io.NodeOutput({"samples": samples})
