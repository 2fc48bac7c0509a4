"""From a prompt, regions and a set of concepts to a scene that a backbone can run (DESIGN 2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..backbones.base import Backbone
from ..concepts.concept import Concept
from ..prompts.aggregate import Aggregated, aggregate, read_prompt, weigh
from ..prompts.aggregation import AggregationSettings
from ..prompts.concept_tokens import read_tokens
from ..prompts.mentions import named_concepts, parse_prompt
from .region import RegionError, RegionSet
from .regional_prompt import RegionalPrompt
from .scene_text import join_scene, keep_rows, row_owners

Reading = Literal["together", "alone"]
READINGS: tuple[Reading, ...] = get_args(Reading)
"""How the text encoder reads a scene: as one sentence of which each region keeps its own words, or prompt by prompt."""


@dataclass(frozen=True)
class AggregatedScene:
    """A scene, and what was aggregated for the whole frame (`parts[0]`) and for each region."""

    prompt: RegionalPrompt
    parts: tuple[Aggregated, ...]


def check_region_prompts(regions: RegionSet, known: Iterable[str]) -> None:
    """Raise RegionError for a region without a prompt, or named after a concept that its prompt does not name.

    A region is named after a concept when its name is the concept's or is written `<name>`. The prompt is then almost
    surely missing it, and the artist would see a plain dog in the region called rex.
    """
    known = set(known)
    for number, region in enumerate(regions.regions, 1):
        label = f"Region {number} ({region.name})" if region.name.strip() else f"Region {number}"
        if not region.prompt.strip():
            raise RegionError(f"{label} has no prompt. Write what is to be seen in it, for example 'a <name>'.")
        name = region.name.strip()
        bare = name.strip("<>").lower()
        meant = name.startswith("<") and name.endswith(">")
        if (meant or bare in known) and bare not in named_concepts(region.prompt):
            raise RegionError(
                f"{label} is named after the concept <{bare}>, but its prompt {region.prompt!r} does not say <{bare}>. "
                f"Write <{bare}> where the concept is to be, or give the region another name."
            )


def scene_concepts(text: str, regions: RegionSet | None) -> tuple[str, ...]:
    """Names of the concepts that the prompt and the regions' prompts name, in order of first mention."""
    texts = [text, *(region.prompt for region in (regions.regions if regions else ()))]
    return tuple(dict.fromkeys(name for part in texts for name in named_concepts(part)))


def aggregate_scene(
    backbone: Backbone,
    text: str,
    regions: RegionSet,
    concepts: Sequence[Concept],
    settings: AggregationSettings | None = None,
    strengths: Mapping[str, float] | None = None,
    own_rows_only: bool = True,
    blend: float = 0.0,
    reading: Reading = "alone",
) -> AggregatedScene:
    """Aggregate `concepts` for the whole frame's prompt and, by the same settings, for every region's.

    `reading`: see `READINGS`. A region's strength multiplies the strength of every concept that its prompt names: of
    its adapters and its tokens. Raises what `aggregate` raises, and RegionError (see `check_region_prompts`).
    """
    check_region_prompts(regions, [concept.name for concept in concepts])
    strengths = strengths or {}
    if reading == "together" and regions.regions:
        parts = read_together(backbone, text, regions, concepts, settings, strengths, own_rows_only)
    else:
        parts = [aggregate(backbone, text, concepts, settings, strengths, own_rows_only)]
        for region in regions.regions:
            own = {concept.name: strengths.get(concept.name, 1.0) * region.strength for concept in concepts}
            parts.append(aggregate(backbone, region.prompt, concepts, settings, own, own_rows_only))
    return AggregatedScene(RegionalPrompt(tuple(part.prompt for part in parts), regions, blend), tuple(parts))


def read_together(
    backbone: Backbone,
    text: str,
    regions: RegionSet,
    concepts: Sequence[Concept],
    settings: AggregationSettings | None,
    strengths: Mapping[str, float],
    own_rows_only: bool,
) -> list[Aggregated]:
    """The scene read as one sentence. Concepts that `text` names, a style for example, act inside the regions too."""
    words = {concept.name: concept.class_words for concept in concepts}
    scene = join_scene(text, [region.prompt for region in regions.regions])
    read = read_prompt(backbone, scene.text, concepts, strengths)
    context = read.context
    owners = row_owners(read.pieces, [parse_prompt(part, words).text for part in scene.parts], scene.owners)
    # The row after the last piece ends the sentence for everybody.
    owners += [0] * min(1, len(context) - len(owners))
    stronger = {number: region.strength for number, region in enumerate(regions.regions, 1)}
    named = [
        replace(tokens, values=tokens.values * stronger.get(owners[tokens.rows[0]], 1.0)) for tokens in read.mentions
    ]
    placed = read_tokens(backbone, read.text, context, named)
    parts = []
    for number in range(len(regions.regions) + 1):
        kept = [row for row, owner in enumerate(owners) if owner in (0, number)]
        own_context, own_placed = keep_rows(context, placed, kept)
        inside = {tokens.concept for tokens in named if number and owners[tokens.rows[0]] == number}
        own = {n: strengths.get(n, 1.0) * (stronger[number] if n in inside else 1.0) for n in words}
        parts.append(weigh(backbone.layers, own_context, own_placed, concepts, settings, own, own_rows_only))
    return parts
