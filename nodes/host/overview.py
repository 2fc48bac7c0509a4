"""What Aggregate Adapters shows of a scene: a few dozen concepts at most, however large the library is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ...ccvd_core.regions.scene import AggregatedScene

MOST_CONCEPTS = 24


@dataclass(frozen=True)
class Overview:
    """Weights and relevances of the whole frame and of each region, for the concepts that are shown.

    Concepts that did not take part have weight 0 and no relevance (NaN): their files were not read.
    """

    names: tuple[str, ...]
    weights: tuple[Float[Tensor, "layers concepts"], ...]
    relevances: tuple[Float[Tensor, "layers concepts"], ...]
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, scene: AggregatedScene, taking_part: Sequence[str], names: Sequence[str]) -> Overview:
        """Of a library with these `names`: those with the largest weights, in learning order."""
        columns = {name: column for column, name in enumerate(taking_part)}
        largest = torch.stack([part.weights for part in scene.parts]).amax(0).amax(0).tolist()
        ranked = sorted(
            names, key=lambda name: (name not in columns, -largest[columns[name]] if name in columns else 0)
        )
        kept = set(ranked[:MOST_CONCEPTS])
        shown = tuple(name for name in names if name in kept)
        remarks = (f"Shown are {len(shown)} of {len(names)} concepts: the others have no larger weight.",)
        return cls(
            shown,
            tuple(chosen(part.weights, columns, shown, 0.0) for part in scene.parts),
            tuple(chosen(part.relevances, columns, shown, torch.nan) for part in scene.parts),
            remarks if len(shown) < len(names) else (),
        )

    @property
    def title(self) -> str:
        return "Weight of each concept per layer" + (" (the largest)" if self.remarks else "")

    def largest(self) -> Float[Tensor, "layers concepts"]:
        """Each concept's weight where it is largest: in the whole frame's prompt or in some region."""
        return torch.stack(self.weights).amax(0)


def chosen(values: Tensor, columns: dict[str, int], names: Sequence[str], missing: float) -> Tensor:
    """The columns of these names; `missing` for those that there are none of."""
    result = values.new_full((values.shape[0], len(names)), missing)
    for place, name in enumerate(names):
        if name in columns:
            result[:, place] = values[:, columns[name]]
    return result
