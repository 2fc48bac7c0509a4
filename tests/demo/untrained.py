"""Concepts that change nothing, for tests of what is done with concepts."""

from __future__ import annotations

import torch
from bases import Base
from lessons import LessonPlan

from ccvd_core.concepts.concept import Concept, LowRank


def untrained(base: Base, plan: LessonPlan) -> Concept:
    """Adapters of zeros on one Linear, and tokens of zeros for each of the class words."""
    backbone = base.backbone
    keys, site = torch.ones(backbone.layers, backbone.text_width), backbone.sites[0]
    out, wide = site.module.weight.shape  # type: ignore[union-attr]
    adapters = {site.id: LowRank(torch.randn(2, wide), torch.zeros(out, 2))}
    tokens = keys.new_zeros(backbone.layers, len(plan.class_words.split()), backbone.text_width)
    return Concept(plan.name, plan.kind, plan.class_words, adapters, tokens, keys, keys, backbone.fingerprint)
