"""A scene from a library: only the concepts that take part are read, and damage to others stops nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..backbones.base import Backbone
from ..concepts.concept import Concept
from ..concepts.library import ConceptLibrary
from ..prompts.aggregation import AggregationSettings
from .region import RegionSet
from .scene import AggregatedScene, Reading, aggregate_scene, check_region_prompts, scene_concepts


@dataclass(frozen=True)
class LibraryScene:
    """A scene over the concepts that take part, in learning order.

    `acting` are those with some weight somewhere, with their adapters. `left_out` says of concepts that would have
    taken part why their files cannot be used.
    """

    scene: AggregatedScene
    names: tuple[str, ...]
    acting: tuple[Concept, ...]
    left_out: Mapping[str, str]


def aggregate_library(
    backbone: Backbone,
    text: str,
    regions: RegionSet,
    library: ConceptLibrary,
    names: Sequence[str],
    settings: AggregationSettings,
    strengths: Mapping[str, float],
    own_rows_only: bool = True,
    reading: Reading = "alone",
) -> LibraryScene:
    """`aggregate_scene` of the concepts `names` of a library, of which those that the prompts name must be usable.

    Raises what `aggregate_scene` raises, and ConceptFileError for a named concept whose file is damaged.
    """
    check_region_prompts(regions, names)
    named = scene_concepts(text, regions)
    wanted = names if settings.participants == "all" else [name for name in names if name in named]
    outlines, left_out = library.usable_outlines(wanted, named)
    while True:
        scene = aggregate_scene(backbone, text, regions, outlines, settings, strengths, own_rows_only, reading=reading)
        taking_part = tuple(outline.name for outline in outlines)
        # Adapters are large: only those that act are read. Damage to them shows only now, and shifts the weights.
        concepts, broken = library.load_usable(acting(scene, taking_part), named)
        left_out |= broken
        if not broken:
            return LibraryScene(scene, taking_part, tuple(concepts), left_out)
        outlines = [outline for outline in outlines if outline.name not in broken]


def acting(scene: AggregatedScene, names: Sequence[str]) -> list[str]:
    """Names of the concepts with some weight somewhere."""
    return [name for column, name in enumerate(names) if any(p.weights[:, column].any() for p in scene.prompt.prompts)]
