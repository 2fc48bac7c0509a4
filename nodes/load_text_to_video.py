"""Load Text-to-Video Folder: a text-to-video model in diffusers' layout as MODEL, CLIP and VAE."""

from __future__ import annotations

from comfy_api.latest import io

from .host.search_words import SEARCH_WORDS
from .host.text_to_video import find_folder, folder_names, load_clip, load_model, load_vae


class LoadTextToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_LoadTextToVideo",
            display_name="Load Text-to-Video Folder",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_LoadTextToVideo"],
            description=(
                "Load ModelScope text-to-video, ZeroScope or another model of their kind: a whole folder of diffusers "
                "in ComfyUI/models/diffusers, with weights as safetensors. Make its empty video with Empty "
                "Text-to-Video Latent."
            ),
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=folder_names(),
                    tooltip="A folder in ComfyUI/models/diffusers, with unet, vae, text_encoder, tokenizer and "
                    "scheduler in it. Press r after you have put one there. The demo is tiny, to try the nodes with.",
                )
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, folder: str) -> io.NodeOutput:
        found = find_folder(folder)
        return io.NodeOutput(load_model(found), load_clip(found), load_vae(found))
