"""LoRA-M: a LoRA per task, learned alone, merged into one by PEFT's `add_weighted_adapter`.

Every LoRA has weight n^-e, n the number of LoRAs on the same Linears: e = 0 adds them up, e = 1 takes the mean. Three
merges of the same training:

- `lora_m`: dW = sum_j w_j B_j A_j exactly (PEFT's `cat`).
- `lora_m_ties`: TIES (Yadav et al. 2023), on A and on B by themselves, as PEFT does it: the largest half of the entries
  is kept, the majority decides the sign, entries of that sign are averaged.
- `lora_m_dare`: DARE (Yu et al. 2023), PEFT's `dare_linear`, on A and on B: half of the entries are dropped at random,
  the rest doubled, and the LoRAs added.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from torch import nn
from training import Adapters, Model, Rival, TaskData, frozen

from ccvd_core.concepts.concept import LowRank
from ccvd_core.learning.step import LearningSettings

SEARCH = (0.0, 0.5, 1.0)
"""e; each of the three rows may take its own."""
EXPONENT = {"lora_m": 0.5, "lora_m_ties": 0.0, "lora_m_dare": 1.0}
COMBINATION = {"lora_m": "cat", "lora_m_ties": "ties", "lora_m_dare": "dare_linear"}
"""Row -> PEFT's name of the merge."""
DENSITY = 0.5
"""Share of the entries that TIES and DARE keep."""
MERGED = "merged"


class LoraM(Rival):
    """Learns every task alone. `strength` is e for all three rows; below 0 each row has its own."""

    def __init__(self, model: Model, strength: float) -> None:
        super().__init__(model, strength)
        self.learned: list[Adapters] = []
        self._merged: dict[str, Adapters] = {}
        """By row, until the next task is learned."""

    def start(self, fresh: Adapters) -> Adapters:
        return fresh

    def acting(self, live: Adapters) -> Sequence[Adapters]:
        return [live]

    def finish(self, live: Adapters, data: TaskData, settings: LearningSettings) -> None:
        self.learned.append(frozen(live))
        self._merged.clear()

    def adapters(self, method: str) -> Sequence[Adapters]:
        if method not in self._merged:
            self._merged[method] = self._merge(method)
        return [self._merged[method]]

    def _merge(self, method: str) -> Adapters:
        exponent = self.strength if self.strength >= 0 else EXPONENT[method]
        # Text adapters and motion adapters sit on different Linears and have different ranks: two merges.
        groups: dict[frozenset[str], list[Adapters]] = {}
        for adapters in self.learned:
            groups.setdefault(frozenset(adapters), []).append(adapters)
        merged = [merge(group, len(group) ** -exponent, COMBINATION[method]) for group in groups.values()]
        return {site: lora for part in merged for site, lora in part.items()}


def merge(loras: Sequence[Adapters], weight: float, combination: str, density: float = DENSITY) -> dict[str, LowRank]:
    """LoRAs on the same Linears, of one rank, merged at equal weight by PEFT; the random drop is repeatable."""
    first = loras[0]
    site_of = {site.replace(".", "_"): site for site in first}
    rank = next(iter(first.values())).rank
    names = [str(index) for index in range(len(loras))]
    linears = {
        name: nn.Linear(first[site].a.shape[1], first[site].b.shape[0], bias=False) for name, site in site_of.items()
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = PeftModel(nn.ModuleDict(linears), lora_config(rank, site_of), names[0])
        for name in names[1:]:
            model.add_adapter(name, lora_config(rank, site_of))
        layers: dict[str, Any] = {
            site: model.base_model.get_submodule(f"model.{name}") for name, site in site_of.items()
        }
        for name, adapters in zip(names, loras, strict=True):
            for site, layer in layers.items():
                layer.lora_A[name].weight.copy_(adapters[site].a)
                layer.lora_B[name].weight.copy_(adapters[site].b * adapters[site].scale)
        model.add_weighted_adapter(names, [weight] * len(names), MERGED, combination, density=density)  # type: ignore[operator]
    return {
        site: LowRank(layer.lora_A[MERGED].weight.detach().clone(), layer.lora_B[MERGED].weight.detach().clone())
        for site, layer in layers.items()
    }


def lora_config(rank: int, modules: Iterable[str]) -> LoraConfig:
    """PEFT's configuration of a LoRA of scale 1 on these modules."""
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=list(modules))
