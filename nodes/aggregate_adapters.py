"""Aggregate Adapters: give MODEL the concepts that a prompt needs, and show why."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui

from ..ccvd_core.aggregation import PARTICIPANTS, AggregationSettings, describe_relevance
from ..ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ..ccvd_core.concept_prompt import aggregate
from ..ccvd_core.prompt import check_known, named_concepts
from .patching import KEY, PromptState, with_concepts
from .pictures import heat_map
from .text_encoder import PromptReader
from .types import LibrarySelection, LibraryType


class AggregateAdapters(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_AggregateAdapters",
            display_name="Aggregate Adapters",
            category="CCVD",
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
    ) -> io.NodeOutput:
        settings = AggregationSettings(sharpness, top_k, participants, pinned)
        names = library.names()
        check_known(named_concepts(prompt), names)
        reader = PromptReader(clip)
        backbone = ComfyWanBackbone(model.model.diffusion_model, reader)
        concepts = [library.library.load(name) for name in names]
        result = aggregate(backbone, prompt, concepts, settings, library.strengths, own_words_only)
        used = [concept for index, concept in enumerate(concepts) if bool(result.prompt.weights[:, index].any())]
        patched = with_concepts(model, used) if used else model
        state = PromptState(result.prompt, names)
        conditioning = [[context, {**extra, KEY: state} if used else extra] for context, extra in reader.conditioning]
        picture = heat_map(result.weights, names, "Weight of each concept per layer")
        text = describe_relevance(result.weights, result.relevances, names)
        return io.NodeOutput(patched, conditioning, picture, text, ui=ui.PreviewImage(picture, cls=cls))
