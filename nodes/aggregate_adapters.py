"""Aggregate Adapters: give MODEL the concepts that a prompt needs, and show why."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui

from ..ccvd_core.prompts.aggregation import PARTICIPANTS, AggregationSettings
from ..ccvd_core.regions.region import RegionSet
from ..ccvd_core.regions.scene import READINGS
from .host.aggregation import aggregate_model
from .host.libraries import LibrarySelection, LibraryType, RegionsType
from .host.search_words import SEARCH_WORDS


class AggregateAdapters(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_AggregateAdapters",
            display_name="Aggregate Adapters",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_AggregateAdapters"],
            description=(
                "Write a prompt that names concepts as <name>. Every layer of the model then uses the adapters that "
                "the prompt needs. A prompt without <...> gives exactly the base model's video."
            ),
            inputs=[
                io.Model.Input("model", tooltip="A Wan 2.1/2.2 model, or the CCVD Demo Model."),
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                LibraryType.Input("library", tooltip="From Concept Library or Learn Concept."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="a <name> moving right on green grass",
                    tooltip="Name a concept as <name>; the model reads its class words there.",
                ),
                io.Float.Input(
                    "sharpness",
                    default=4.0,
                    min=0.1,
                    max=64.0,
                    step=0.1,
                    tooltip="How strongly the most relevant concept wins over the others (the papers use 2).",
                ),
                io.Int.Input(
                    "top_k",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Use only the k most relevant concepts per layer; 0 = all.",
                ),
                io.Combo.Input(
                    "participants",
                    options=list(PARTICIPANTS),
                    default="named",
                    tooltip="named: only concepts that the prompt names act. all: every concept of the library may act "
                    "where it is relevant, as in the papers.",
                ),
                io.Boolean.Input(
                    "pinned",
                    default=True,
                    tooltip="Concepts named in the prompt act with full strength; the others cannot dilute them.",
                ),
                io.Boolean.Input(
                    "own_words_only",
                    default=True,
                    tooltip="A named concept's key and value adapters act only on its own words, so it cannot bleed "
                    "into the rest of the prompt.",
                    advanced=True,
                ),
                RegionsType.Input(
                    "regions",
                    optional=True,
                    tooltip="From Region Mask: what is where. The prompt above is then for all that lies outside the "
                    "regions.",
                ),
                io.Combo.Input(
                    "region_prompts",
                    options=list(READINGS),
                    default="alone",
                    optional=True,
                    tooltip="together: the text encoder reads the regions' prompts and the prompt above as one "
                    "sentence, of which each region keeps its own words. alone: each region's prompt is read by "
                    "itself, and says everything about its region.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Model.Output("model_out", display_name="model"),
                io.Conditioning.Output("conditioning"),
                io.Image.Output("relevance"),
                io.String.Output("relevance_text"),
            ],
            is_output_node=False,
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        clip: Any,
        library: LibrarySelection,
        prompt: str,
        sharpness: float,
        top_k: int,
        participants: Any,
        pinned: bool,
        own_words_only: bool,
        regions: RegionSet | None = None,
        region_prompts: Any = "alone",
    ) -> io.NodeOutput:
        settings = AggregationSettings(sharpness, top_k, participants, pinned)
        scene = regions or RegionSet(1, 1, ())
        used = aggregate_model(model, clip, library, prompt, scene, settings, own_words_only, region_prompts)
        preview = ui.PreviewImage(used.picture, cls=cls)
        return io.NodeOutput(used.model, used.conditioning, used.picture, used.text, ui=preview)
