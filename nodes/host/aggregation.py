"""MODEL, CLIP and a library -> a MODEL with the concepts that a scene needs, its CONDITIONING, and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...ccvd_core.backbones.base_match import check_fits_base, sibling_notes
from ...ccvd_core.prompts.aggregation import AggregationSettings, describe_relevance
from ...ccvd_core.regions.library_scene import aggregate_library
from ...ccvd_core.regions.region import RegionSet
from ...ccvd_core.regions.scene import Reading, scene_concepts
from .backbone import backbone_of, family_of
from .libraries import LibrarySelection
from .overview import Overview
from .patching import KEY, PromptState, with_concepts
from .pictures import heat_map
from .text_encoder import PromptReader


@dataclass(frozen=True, eq=False)
class Aggregated:
    """What Aggregate Adapters gives."""

    model: ModelPatcher
    conditioning: list[Any]
    picture: Tensor
    text: str


def aggregate_model(
    model: ModelPatcher,
    clip: Any,
    selection: LibrarySelection,
    prompt: str,
    regions: RegionSet,
    settings: AggregationSettings,
    own_words_only: bool,
    reading: Reading,
) -> Aggregated:
    """Read the prompts, weigh the concepts, and put those that act on a clone of MODEL. Raises CCVDError."""
    selection.check_known(scene_concepts(prompt, regions))
    reader = PromptReader(clip, family_of(model).encoder)
    backbone = backbone_of(model, reader, reader.encode_with)
    names = selection.names()
    used = aggregate_library(
        backbone,
        prompt,
        regions,
        selection.library,
        names,
        settings,
        selection.adjusted.strengths,
        own_words_only,
        reading=reading,
    )
    scene, concepts = used.scene, used.acting
    check_fits_base(concepts, backbone)
    notes = [*(f"Left out: {problem}" for problem in used.left_out.values()), *sibling_notes(concepts, backbone)]
    for note in notes:
        logging.warning("CCVD: %s", note)
    acts = bool(concepts or regions.regions)
    state = PromptState(scene.prompt, used.names, selection.adjusted.ranges)
    conditioning = [[context, {**extra, KEY: state} if acts else extra] for context, extra in reader.conditioning]
    if regions.regions and reading == "together":
        # The encoder's output is the whole sentence; what lies outside the regions keeps a part of it.
        whole = scene.prompt.context.unsqueeze(0)
        conditioning = [[whole.to(context), extra] for context, extra in conditioning]
    overview = Overview.of(scene, used.names, names)
    return Aggregated(
        with_concepts(model, concepts) if acts else model,
        conditioning,
        heat_map(overview.largest(), overview.names, overview.title),
        "\n".join([*notes, describe_scene(overview, regions)]),
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
