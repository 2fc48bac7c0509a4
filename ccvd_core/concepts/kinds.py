"""The kinds of concept: one row for each, with everything in which they differ. Plain data, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["subject", "motion", "style"]
"""What can be learned."""
AnyKind = Kind | Literal["lora"]
"""What a library may hold. A `lora` was made elsewhere and imported: it may adapt any Linear, and has no tokens."""
Role = Literal["subject", "motion"]
"""What a model's Linears do: text cross-attention (`subject`), or self-attention and feed-forward (`motion`)."""
Part = Literal["q", "k", "v", "o", "ffn"]
"""What a Linear is in its attention: queries, keys, values or output; or that it belongs to a feed-forward."""
Layers = Literal["usual", "text attention", "all", "queries and keys"]
"""Which of a model's Linears a lesson may be told to train."""
Loss = Literal["error", "changes"]
"""What learning makes small: the error of the video, or above all of its changes from frame to frame."""
PresetName = Literal["appearance", "motion"]
Medium = Literal["pictures", "clips"]


@dataclass(frozen=True)
class ConceptKind:
    """One kind: `role` says which Linears it adapts, `preset` which of a backbone's presets suits it (DESIGN 2.1)."""

    name: Kind
    role: Role
    loss: Loss
    preset: PresetName
    least_latent_frames: int
    """The fewest latent frames that show it: 1 of a look, which pictures show too, 2 of a motion."""

    def __post_init__(self) -> None:
        if self.least_latent_frames < 1:
            raise ValueError(f"{self.name}: 1 latent frame or more shows it, not {self.least_latent_frames}")

    @property
    def moves(self) -> bool:
        """Only clips show it; pictures that come together are the frames of one."""
        return self.least_latent_frames > 1

    @property
    def medium(self) -> Medium:
        """What artists bring to teach it."""
        return "clips" if self.moves else "pictures"


@dataclass(frozen=True)
class LayerChoice:
    """One choice of Linears: those with one of these roles (none: the kind's own) that are one of these parts."""

    name: Layers
    roles: tuple[Role, ...] = ()
    parts: tuple[Part, ...] = get_args(Part)

    def takes(self, kind: Kind, role: Role, part: Part) -> bool:
        """Whether a lesson of this kind trains a Linear of this role and part."""
        return role in (self.roles or (KINDS[kind].role,)) and part in self.parts


ROWS = (
    ConceptKind("subject", "subject", "error", "appearance", 1),
    ConceptKind("motion", "motion", "changes", "motion", 2),
    ConceptKind("style", "subject", "error", "appearance", 1),
)

KINDS: Mapping[Kind, ConceptKind] = {row.name: row for row in ROWS}
"""By name, in the order in which they are offered."""
LAYERS: Mapping[Layers, LayerChoice] = {
    row.name: row
    for row in (
        LayerChoice("usual"),
        LayerChoice("text attention", ("subject",)),
        LayerChoice("all", ("subject", "motion")),
        LayerChoice("queries and keys", parts=("q", "k")),
    )
}
"""By name, in the order in which they are offered."""
ANY_KIND: tuple[AnyKind, ...] = (*KINDS, "lora")

if tuple(KINDS) != get_args(Kind):
    raise ValueError(f"the table of kinds has the rows {', '.join(KINDS)}, the type Kind {', '.join(get_args(Kind))}")
if tuple(LAYERS) != get_args(Layers):
    raise ValueError(f"the table of layers has the rows {', '.join(LAYERS)}, the type {', '.join(get_args(Layers))}")
