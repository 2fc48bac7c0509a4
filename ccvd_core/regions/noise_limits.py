"""At which noise concepts act while sampling: a motion early only, for example, so that the base draws the detail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ..concepts.adjustments import NoiseRange
from ..prompts.concept_prompt import ConceptPrompt
from .regional_prompt import AnyPrompt, RegionalPrompt


class NoiseLimits:
    """What prompts are at a training time. `names` are the concepts of their columns; those without a range act always.

    A prompt without the concepts whose range does not hold the time is the same object in every step.
    """

    def __init__(self, names: Sequence[str], ranges: Mapping[str, NoiseRange]) -> None:
        self._names, self.ranges = tuple(names), dict(ranges)
        self._known: dict[tuple[int, frozenset[str]], tuple[AnyPrompt, AnyPrompt]] = {}

    def at(self, prompt: AnyPrompt, time: float) -> AnyPrompt:
        """The prompt at a training time in 0..1 (1 = noise)."""
        off = frozenset(name for name, (low, high) in self.ranges.items() if not low <= time <= high)
        if not off:
            return prompt
        key = (id(prompt), off)
        if key not in self._known:
            # The prompt is kept too: its number would otherwise be given to another one.
            self._known[key] = (prompt, self._without(prompt, off))
        return self._known[key][1]

    def _without(self, prompt: AnyPrompt, off: frozenset[str]) -> AnyPrompt:
        if isinstance(prompt, RegionalPrompt):
            return replace(prompt, prompts=tuple(self._plain(part, off) for part in prompt.prompts))
        return self._plain(prompt, off)

    def _plain(self, prompt: ConceptPrompt, off: frozenset[str]) -> ConceptPrompt:
        acts = torch.tensor([name not in off for name in self._names], device=prompt.weights.device)
        return replace(
            prompt,
            placed=tuple(tokens for tokens in prompt.placed if tokens.concept not in off),
            weights=prompt.weights * acts,
            gates=prompt.gates * acts.to(prompt.gates.device),
        )
