"""Demo Pictures: what comes with the pack to learn from, with captions. `scripts/make_demo_pictures.py` draws it."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.demo_world import demo_concepts, moments, read_named
from .host.libraries import concept_name
from .host.search_words import SEARCH_WORDS


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
            search_aliases=SEARCH_WORDS["CCVD_DemoPictures"],
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
        media, captions = read_named(what, concept_name(name))
        preview = ui.PreviewImage(moments(media), cls=cls)
        return io.NodeOutput(media, captions, demo_concepts()[what]["class_words"], ui=preview)
