"""Aggregate Adapters: give MODEL the concepts that a prompt needs, and show why."""

from __future__ import annotations

import logging
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui

from ..ccvd_core.attaching.base_match import check_fits_base, sibling_notes
from ..ccvd_core.prompts.aggregation import PARTICIPANTS, AggregationSettings, describe_relevance
from ..ccvd_core.regions.library_scene import aggregate_library
from ..ccvd_core.regions.region import RegionSet
from ..ccvd_core.regions.scene import READINGS, scene_concepts
from .host.backbone import backbone_of, family_of
from .host.libraries import LibrarySelection, LibraryType, RegionsType
from .host.overview import Overview
from .host.patching import KEY, PromptState, with_concepts
from .host.pictures import heat_map
from .host.search_words import SEARCH_WORDS
from .host.text_encoder import PromptReader


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
        library.check_known(scene_concepts(prompt, regions))
        reader = PromptReader(clip, family_of(model).encoder)
        backbone = backbone_of(model, reader)
        regions, names = regions or RegionSet(1, 1, ()), library.names()
        used = aggregate_library(
            backbone,
            prompt,
            regions,
            library.library,
            names,
            settings,
            library.strengths,
            own_words_only,
            reading=region_prompts,
        )
        scene, concepts = used.scene, used.acting
        check_fits_base(concepts, backbone)
        notes = [*(f"Left out: {problem}" for problem in used.left_out.values()), *sibling_notes(concepts, backbone)]
        for note in notes:
            logging.warning("CCVD: %s", note)
        acts = bool(concepts or regions.regions)
        state = PromptState(scene.prompt, used.names)
        conditioning = [[context, {**extra, KEY: state} if acts else extra] for context, extra in reader.conditioning]
        if regions.regions and region_prompts == "together":
            # The encoder's output is the whole sentence; what lies outside the regions keeps a part of it.
            whole = scene.prompt.context.unsqueeze(0)
            conditioning = [[whole.to(context), extra] for context, extra in conditioning]
        overview = Overview.of(scene, used.names, names)
        picture = heat_map(overview.largest(), overview.names, overview.title)
        return io.NodeOutput(
            with_concepts(model, concepts) if acts else model,
            conditioning,
            picture,
            "\n".join([*notes, describe_scene(overview, regions)]),
            ui=ui.PreviewImage(picture, cls=cls),
        )


def describe_scene(overview: Overview, regions: RegionSet) -> str:
    """The relevance table of the prompt and, with regions, one of each region."""
    tables = [
        describe_relevance(weights, relevances, overview.names)
        for weights, relevances in zip(overview.weights, overview.relevances, strict=True)
    ]
    titles = [f"Region {number} ({region.prompt})" for number, region in enumerate(regions.regions, 1)]
    parts = [tables[0], *(f"{title}\n{table}" for title, table in zip(titles, tables[1:], strict=True))]
    return "\n\n".join([*parts, *overview.remarks])
