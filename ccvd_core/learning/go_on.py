"""Going on: a concept is taught further, with more pictures, as a new version of it. The earlier one stays as it is.

The lesson begins with the adapters and tokens of the earlier version instead of fresh ones; optimizer and schedule
begin anew. Retention keeps the new version apart from other concepts only: not from those it goes on from, nor from
other versions of them, which it is meant to resemble.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backbones.base import Backbone
from ..backbones.base_match import check_fits_base
from ..concepts.concept import Concept, LowRank
from ..concepts.kinds import LAYERS, Kind
from ..concepts.library import ConceptLibrary
from ..errors import LearningError
from .trained import Learned

WENT_ON_FROM = "went_on_from"
"""Among a concept's settings: the names of the versions before it, the last first."""


def lineage(concept: Concept | None) -> list[str]:
    """Its name and those of the versions before it, as its file says; files may come from anywhere."""
    if concept is None:
        return []
    before = concept.settings.get(WENT_ON_FROM)
    known = before if isinstance(before, list) else []
    return [concept.name, *(name for name in known if isinstance(name, str))]


def strangers(earlier: Iterable[Concept], start: Concept | None) -> list[Concept]:
    """Those that are no versions of what a lesson goes on from."""
    family = set(lineage(start))
    return [concept for concept in earlier if not family & set(lineage(concept))]


def load_start(
    library: ConceptLibrary, name: str, kind: Kind, class_words: str, rank: int, backbone: Backbone
) -> Concept | None:
    """The concept that a lesson goes on from; none without a name.

    Raises CCVDError when it is not there, and where the lesson differs from it; `rank` 0 is any.
    """
    if not name:
        return None
    start = library.load(name)
    check_fits_base([start], backbone)
    differ = {
        "kind": (start.kind, kind),
        "class_words": (start.class_words, class_words),
        "rank": (start.rank, rank or start.rank),
    }
    if not start.tokens.shape[1]:
        raise LearningError(
            f"<{name}> was made by another tool and imported: there are no concept tokens to go on with. Learn it "
            "afresh, or go on from a concept that was learned here."
        )
    for what, (expected, got) in differ.items():
        if got != expected:
            raise LearningError(
                f"Going on from <{name}> keeps its {what}: expected {expected!r}; got {got!r}. Set `{what}` so, or "
                "learn a new concept instead."
            )
    return start


def start_settings(start: Concept | None) -> dict[str, Any]:
    """What a lesson takes over from the concept it goes on from, if any, unless it is told otherwise."""
    if start is None:
        return {}
    layers = start.settings.get("layers")
    known = {"layers": layers} if layers in LAYERS else {}
    return {"rank": start.rank, "token_injection": start.token_injection, **known}


def started(fresh: Learned, start: Concept | None) -> Learned:
    """Fresh adapters and tokens with those of `start`, if any, in their place; other Linears stay fresh.

    Raises LearningError when `start` has more Linears than the lesson, or tokens of another text encoder.
    """
    if start is None:
        return fresh
    if start.adapters.keys() - fresh.adapters.keys():
        raise LearningError(
            f"<{start.name}> was learned on more layers than are chosen now. Set `layers` of Training Options to "
            f"{start.settings.get('layers', 'all')} or more."
        )
    if start.tokens.shape != fresh.tokens.shape:
        raise LearningError(
            f"<{start.name}> has tokens for {start.tokens.shape[1]} text rows of its class words, but this text "
            f"encoder gives {fresh.tokens.shape[1]}: it was learned with another one."
        )
    own = {site: LowRank(lora.a.clone(), lora.b * lora.scale) for site, lora in start.adapters.items()}
    return Learned({site: own.get(site, lora) for site, lora in fresh.adapters.items()}, start.tokens.clone())
