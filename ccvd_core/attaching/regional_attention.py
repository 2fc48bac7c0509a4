"""Region attention in a model's layers: in the place of each text cross-attention while regions act (DESIGN 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.base import Kernel
from ..regions.attention import TokenPlan, attention_mass, region_attention
from .call import ActivePrompts, Run
from .hooks import Layer


@dataclass(eq=False)
class RegionalAttention:
    """What the text cross-attentions of all layers do while prompts with regions are active."""

    active: ActivePrompts | None = None
    measures: bool = False
    masses: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    """Sums over layers, by run and region."""
    layers: int = 0
    """Cross-attentions measured so far."""

    @property
    def acts(self) -> bool:
        return self.active is not None and bool(self.active.runs)

    def use(self, active: ActivePrompts | None, measures: bool = False) -> None:
        self.active, self.measures, self.masses, self.layers = active, measures, {}, 0

    def attend(self, grid: int, q: Tensor, k: Tensor, v: Tensor, heads: int, kernel: Kernel) -> Tensor:
        """In a layer whose token grid is number `grid` of the active ones."""
        active = self.active
        assert active is not None
        parts = []
        for number, run in enumerate(active.runs):
            rows, text_rows = slice(run.start, run.stop), active.text_rows
            queries, own_k, own_v = q[rows], k[rows, :text_rows], v[rows, :text_rows]
            if not run.plans:
                parts.append(kernel(queries, own_k, own_v))
                continue
            plan = run.plans[grid]
            keys, values = (
                [own, *(shared(t, entry, length, run.stop - run.start) for entry, length in run.regions())]
                for own, t in ((own_k, k), (own_v, v))
            )
            parts.append(region_attention(queries, keys, values, plan, kernel))
            if self.measures:
                self._measure(number, run, plan, queries, keys, heads, kernel)
        self.layers += 1
        return torch.cat(parts)

    def _measure(
        self, number: int, run: Run, plan: TokenPlan, q: Tensor, keys: Sequence[Tensor], heads: int, kernel: Kernel
    ) -> None:
        for region, words in enumerate(run.words, 1):
            tokens = plan.masks[region].nonzero()[:, 0]
            if len(words) and len(tokens):
                share = plan.masks[region, tokens]
                mass = attention_mass(q.index_select(1, tokens), keys[region], words, share, heads, kernel)
                self.masses[number, region] = self.masses.get((number, region), 0.0) + mass

    def attention_masses(self) -> list[Float[Tensor, " regions"] | None]:
        """a_k of every batch row's regions, mean over layers; NaN where a region has no concept or no token.

        None for rows without regions.
        """
        assert self.active is not None
        found: list[Tensor | None] = []
        for number, run in enumerate(self.active.runs):
            count = run.stop - run.start
            if not run.plans:
                found += [None] * count
                continue
            unknown = torch.full((count,), torch.nan)
            sums = [self.masses.get((number, region), unknown) for region in range(1, len(run.entries) + 1)]
            found += list(torch.stack([s.cpu() / max(1, self.layers) for s in sums], 1)) if sums else [None] * count
        return found


def shared(tensor: Tensor, entry: int, length: int, count: int) -> Tensor:
    """An entry's rows, for each of `count` batch rows."""
    rows = tensor[entry : entry + 1, :length]
    return rows if count == 1 else rows.expand(count, -1, -1).contiguous()


@dataclass(frozen=True, eq=False)
class LayerAttention:
    """`RegionalAttention` in one layer, as the backbone hooks it in (`TextAttention`)."""

    shared: RegionalAttention
    layer: Layer

    @property
    def acts(self) -> bool:
        return self.shared.acts

    @property
    def clips(self) -> int:
        call = self.layer.call
        return 0 if call is None else call.active.batch

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int, kernel: Kernel) -> Tensor:
        call = self.layer.call
        assert call is not None
        return self.shared.attend(call.grid, q, k, v, heads, kernel)
