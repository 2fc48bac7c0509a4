"""Ways of using a set of learned concepts: the rows that benchmarks compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from bases import Base
from drawing import draw_prompts
from torch import Tensor

from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.concept import Concept
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.aggregation import PAPER_SETTINGS, AggregationSettings
from ccvd_core.prompts.concept_prompt import ConceptPrompt


@dataclass(frozen=True)
class Method:
    """How a set of learned concepts is used."""

    name: str
    settings: AggregationSettings = field(default_factory=AggregationSettings)
    own_rows_only: bool = True
    always_on: bool = False
    """Every concept at full weight on every prompt, as LoRAs that are simply loaded."""

    def prompt(self, backbone: Backbone, text: str, concepts: Sequence[Concept]) -> ConceptPrompt:
        prompt = aggregate(backbone, text, concepts, self.settings, own_rows_only=self.own_rows_only).prompt
        if not self.always_on:
            return prompt
        return replace(prompt, weights=torch.ones_like(prompt.weights), gates=torch.ones_like(prompt.gates))


CCVD = Method("ccvd")
PAPER = Method("paper", PAPER_SETTINGS, own_rows_only=False)
PLAIN = Method("plain_lora", always_on=True)
OWN = replace(CCVD, name="own_adapter")
BASE = replace(CCVD, name="base")


def draw(
    base: Base, method: Method, concepts: Sequence[Concept], captions: Sequence[str], seeds: Sequence[int]
) -> Tensor:
    """Clips [n, frames, height, width, 3] of captions; a seed decides a clip's noise."""
    prompts = [method.prompt(base.backbone, caption, concepts) for caption in captions]
    negative = method.prompt(base.backbone, "", concepts)
    if not method.always_on:
        negative = replace(negative, weights=torch.zeros_like(negative.weights))
    return draw_prompts(base, [concept.adapters for concept in concepts], prompts, negative, seeds)
