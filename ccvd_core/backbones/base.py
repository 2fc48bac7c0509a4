"""What the method needs from a video model. Every backbone implements it; nothing else in the core knows a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..concepts.concept import BaseFingerprint
from ..concepts.kinds import LAYERS, Kind, Layers, Part, PresetName, Role
from .grid import Rows, TokenGrid
from .noise_path import NoisePath
from .preset import Preset
from .video_form import VideoForm


@dataclass(frozen=True)
class LinearSite:
    """A Linear that adapters may sit on.

    `id` is canonical over backbones of a kind (`blocks.3.cross_attn.k`). `layer` is the token layer l whose weights and
    token grid are its own; `role` and `part` say what it does; `rows` says how the rows of its input lie: text rows
    (keys and values of cross-attention), or video tokens in one of their orders. `names` are those under which LoRA
    files know it.
    """

    id: str
    layer: int
    role: Role
    part: Part
    rows: Rows | Literal["b text"]
    module: nn.Module
    in_features: int
    out_features: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncodedText:
    """The text encoder's output: context [rows, width], and what each of its first rows spells.

    `pieces` are one for each row until the text ends, in one spelling whatever the encoder's own (`text_pieces.py`):
    a piece that begins a word starts with a space, and joined they are what the encoder reads. A row that stands for no
    part of the text, such as one that marks its beginning, is an empty piece.
    """

    context: Float[Tensor, "rows width"]
    pieces: tuple[str, ...]


EncodeWith = Callable[[str, Sequence[int], Float[Tensor, "layers n width"]], Float[Tensor, "layers rows width"]]
"""A text encoder that reads one text once per layer, with each layer's own values added to the word embeddings of `n`
rows. Gradients go back to the values; for zeros it gives what `encode` gives."""

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The model's attention: q [batch, tokens, hidden], k and v [batch, rows, hidden] -> [batch, tokens, hidden]."""


class TextAttention(Protocol):
    """What takes the place of the text cross-attention (see `Backbone.hook_text_attention`)."""

    @property
    def acts(self) -> bool:
        """False: the model's own attention answers."""
        ...

    @property
    def clips(self) -> int:
        """Clips of the model call in which concepts act; 0 when none does. A context that is repeated per frame is
        given once per clip then (see `TextInput`)."""
        ...

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int, kernel: Kernel) -> Tensor:
        """[batch, tokens, hidden]. k and v may have more entries than q: those of the regions, after the batch's."""
        ...


@dataclass(frozen=True)
class TextInput:
    """Where a token layer reads its text: the argument of a module's `forward` that is the context.

    `repeated`: the context comes once per frame, (b f) text; while concepts act it is given once per clip, and the
    layer's text attention spreads it.
    """

    module: nn.Module
    keyword: str
    position: int = 1
    rows: Rows = "b (f h w)"
    """How the rows of the module's first argument lie."""
    repeated: bool = False


class Removable(Protocol):
    """Something that was installed in a model and can be taken out again."""

    def remove(self) -> None: ...


class Backbone(ABC):
    """A frozen video model that concepts attach to."""

    layers: int
    text_width: int
    dtype: torch.dtype
    """What the model computes in."""
    sites: tuple[LinearSite, ...]
    fingerprint: BaseFingerprint
    video: VideoForm
    presets: Mapping[PresetName, Preset]
    noise_path: NoisePath
    encode_with: EncodeWith | None = None
    """For text encoders that are at hand and small enough to learn through; None: tokens are added to the output."""

    @abstractmethod
    def encode(self, text: str) -> EncodedText:
        """Read a plain prompt (class words already in place of `<name>`)."""

    @abstractmethod
    def grid(self, latent_shape: Sequence[int]) -> TokenGrid:
        """Token grid of latents [channels, frames, height, width]."""

    def layer_grids(self, grid: TokenGrid) -> Sequence[TokenGrid]:
        """The token grid of every token layer, of a model call whose latents have the token grid `grid`."""
        return (grid,) * self.layers

    @abstractmethod
    def predict(
        self,
        latents: Float[Tensor, "batch channels frames height width"],
        level: Float[Tensor, " batch"],
        contexts: Float[Tensor, "batch rows width"],
        shown: Mapping[str, Any] = MappingProxyType({}),
    ) -> Float[Tensor, "batch channels frames height width"]:
        """The model's prediction at noise levels of its `noise_path`.

        `shown` is what it sees beside the text, a start image for example: under its own names, batched.
        """

    @abstractmethod
    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        yield

    @abstractmethod
    def step_values(self, latent_shape: Sequence[int]) -> int:
        """Estimate: values that a learning step on one clip of this latent shape keeps, with `checkpointing`."""

    @abstractmethod
    def text_inputs(self) -> Sequence[TextInput]:
        """Where each token layer reads its text, in order; `Attachment` gives each its own context."""

    @abstractmethod
    def hook_text_attention(self, attentions: Sequence[TextAttention]) -> Sequence[Removable]:
        """Let `attentions` (one per token layer) take the place of the text cross-attentions, until each is removed.

        They get queries, `b (f h w)`, keys and values as the Linears and norms have made them, and the model's
        attention kernel, with whatever other packs have put around it.
        """

    @abstractmethod
    def project_text(self, rows: Float[Tensor, "n width"]) -> Float[Tensor, "n hidden"]:
        """The model's own projection of text rows, row by row."""

    def site_ids(self, kind: Kind, layers: Layers = "usual") -> tuple[str, ...]:
        """Ids of the Linears that a concept of this kind adapts: its usual ones, or another choice of layers."""
        choice = LAYERS[layers]
        return tuple(site.id for site in self.sites if choice.takes(kind, site.role, site.part))
