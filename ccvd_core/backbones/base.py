"""What the method needs from a video model. Every backbone implements it; nothing else in the core knows a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..concepts.concept import BaseFingerprint, Kind
from ..errors import CCVDError
from ..prompts.concept_tokens import PlacedTokens
from ..regions.region import RegionError, RegionSet

Role = Literal["subject", "motion"]
ActsOn = Literal["text", "video"]

ROLE_OF_KIND: dict[Kind, Role] = {"subject": "subject", "style": "subject", "motion": "motion"}
"""Which Linears a kind of concept adapts: text cross-attention, or self-attention and feed-forward (DESIGN 2.1)."""


@dataclass(frozen=True)
class LinearSite:
    """A Linear that adapters may sit on.

    `id` is canonical over backbones (`blocks.3.cross_attn.k`), `layer` the index l of its block, `acts_on` says whether
    its input rows are text rows (keys and values of cross-attention) or video tokens.
    """

    id: str
    layer: int
    role: Role
    acts_on: ActsOn
    module: nn.Module
    in_features: int
    out_features: int


@dataclass(frozen=True)
class EncodedText:
    """The text encoder's output: context [rows, width], and the tokenizer's pieces of the first rows."""

    context: Float[Tensor, "rows width"]
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class ConceptPrompt:
    """A prompt ready for a backbone: its context, where concepts stand in it, and how strongly each one acts.

    `weights` [layers, concepts] are aggregation weights times strength; `gates` [rows, concepts] say on which text rows
    a concept's key and value adapters act. Concepts are in the order in which they are attached. `shown` is what the
    model sees beside the text, a start image for example: under the backbone's own names, tensors with a batch of 1.
    """

    context: Float[Tensor, "rows width"]
    placed: tuple[PlacedTokens, ...]
    weights: Float[Tensor, "layers concepts"]
    gates: Float[Tensor, "rows concepts"]
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """True when no concept takes part: the base model alone answers it."""
        return not self.placed and not bool(self.weights.any())


@dataclass(frozen=True, eq=False)
class RegionalPrompt:
    """A scene: `prompts[0]` for the whole frame, `prompts[k]` inside region k of `regions` (from 1, back to front).

    `blend` in 0..1 softens the regions' edges and mixes where they overlap; at 0 every token belongs to one prompt.
    All prompts have the same concepts in the same order. Raises RegionError when prompts and regions do not match.
    """

    prompts: tuple[ConceptPrompt, ...]
    regions: RegionSet
    blend: float = 0.0

    def __post_init__(self) -> None:
        expected = len(self.regions.regions) + 1
        if len(self.prompts) != expected:
            raise RegionError(f"{expected - 1} regions need {expected} prompts; got {len(self.prompts)}.")
        if not 0 <= self.blend <= 1:
            raise RegionError(f"Blend must be between 0 (hard edges) and 1; got {self.blend:g}.")
        shapes = {prompt.weights.shape for prompt in self.prompts}
        if len(shapes) != 1:
            raise RegionError(
                f"The prompts of a scene must be aggregated over the same concepts; got {sorted(shapes)}."
            )

    @property
    def context(self) -> Float[Tensor, "rows width"]:
        """The whole frame's context: what the model itself is given."""
        return self.prompts[0].context

    @property
    def shown(self) -> Mapping[str, Any]:
        return self.prompts[0].shown

    @property
    def is_plain(self) -> bool:
        return len(self.prompts) == 1 and self.prompts[0].is_plain

    def only(self, region: int) -> RegionalPrompt:
        """The scene with one of its regions (from 1) and the surroundings."""
        kept = replace(self.regions, regions=(self.regions.regions[region - 1],))
        return replace(self, prompts=(self.prompts[0], self.prompts[region]), regions=kept)


AnyPrompt = ConceptPrompt | RegionalPrompt


def rows_of_one_length(prompts: Sequence[AnyPrompt]) -> list[list[int]]:
    """Batch rows that one model call can serve: those whose contexts have the same number of text rows.

    Contexts of other lengths are never padded to a common one: padding takes a part of the attention, so that a
    prompt's prediction would depend on what else is in the batch.
    """
    rows: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(len(prompt.context), []).append(row)
    return list(rows.values())


def stack_contexts(prompts: Sequence[AnyPrompt]) -> Float[Tensor, "batch rows width"]:
    """The prompts' contexts as one batch. Raises CCVDError for contexts of several lengths."""
    lengths = sorted({len(prompt.context) for prompt in prompts})
    if len(lengths) != 1:
        raise CCVDError(
            f"One model call takes prompts with one number of text rows; got {lengths}. Call once for each of "
            "rows_of_one_length."
        )
    return torch.stack([prompt.context for prompt in prompts])


def has_regions(prompt: AnyPrompt) -> TypeGuard[RegionalPrompt]:
    """Whether a prompt is a scene with at least one region."""
    return isinstance(prompt, RegionalPrompt) and len(prompt.prompts) > 1


@dataclass(frozen=True)
class TokenGrid:
    """How a layer's video tokens lie in the clip: frames x height x width, row-major.

    `fill` is the share of the grid's height and width that the picture fills; the rest pads it to whole tokens.
    `numbers` are the places of these frames in the clip, of `clip_length` token frames, when they are not just all of
    it (None); those below 0 show no part of the clip, such as reference pictures before it. Each token frame after the
    first covers `stride` frames of the clip. `before` and `after` count tokens around the grid that show no part of the
    clip either.
    """

    frames: int
    height: int
    width: int
    fill: tuple[float, float] = (1.0, 1.0)
    stride: int = 4
    numbers: tuple[int, ...] | None = None
    clip_length: int | None = None
    before: int = 0
    after: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of the frames."""
        return self.frames * self.height * self.width


@dataclass(frozen=True)
class VideoForm:
    """What a base model makes and was trained on: frames a second, and what suits learning on it."""

    rate: float
    length: int
    """Frames of a clip to learn from."""
    area: int
    """Pixels of a frame to learn at."""


def stack_shown(prompts: Sequence[AnyPrompt], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What the prompts of a batch are shown, tensors batched; all are shown the same kinds of things."""
    return {
        key: torch.cat([prompt.shown[key] for prompt in prompts]).to(device, dtype) if torch.is_tensor(value) else value
        for key, value in prompts[0].shown.items()
    }


Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The model's attention: q [batch, tokens, hidden], k and v [batch, rows, hidden] -> [batch, tokens, hidden]."""


class TextAttention(Protocol):
    """What takes the place of the text cross-attention (see `Backbone.hook_text_attention`)."""

    @property
    def acts(self) -> bool:
        """False: the model's own attention answers."""
        ...

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int, kernel: Kernel) -> Tensor:
        """[batch, tokens, hidden]. k and v may have more entries than q: those of the regions, after the batch's."""
        ...


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

    @abstractmethod
    def encode(self, text: str) -> EncodedText:
        """Read a plain prompt (class words already in place of `<name>`)."""

    @abstractmethod
    def grid(self, latent_shape: Sequence[int]) -> TokenGrid:
        """Token grid of latents [channels, frames, height, width]."""

    @abstractmethod
    def predict(
        self,
        latents: Float[Tensor, "batch channels frames height width"],
        t: Float[Tensor, " batch"],
        prompts: Sequence[AnyPrompt],
    ) -> Float[Tensor, "batch channels frames height width"]:
        """The model's prediction at times t in 0..1 (1 = noise), one prompt per batch row, all with the same number of
        text rows (see `rows_of_one_length`).

        Concepts take part only inside `attach` (see `Attachment`); outside, prompts must be plain.
        """

    @abstractmethod
    def training_target(self, clean: Tensor, noise: Tensor, t: Float[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
        """(noisy latents, target of the prediction) for learning."""

    @abstractmethod
    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        yield

    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, in order; `Attachment` gives each its own context."""

    @abstractmethod
    def hook_text_attention(self, attention: TextAttention) -> Sequence[Removable]:
        """Let `attention` take the place of every block's text cross-attention, until each result is removed.

        It gets queries, keys and values as the Linears and norms have made them, and the model's attention kernel,
        with whatever other packs have put around it.
        """

    @abstractmethod
    def project_text(self, rows: Float[Tensor, "n width"]) -> Float[Tensor, "n hidden"]:
        """The model's own projection of text rows, row by row."""

    def site_ids(self, kind: Kind) -> tuple[str, ...]:
        """Ids of the Linears that a concept of this kind adapts."""
        return tuple(site.id for site in self.sites if site.role == ROLE_OF_KIND[kind])


def flow_matching_pair(clean: Tensor, noise: Tensor, t: Float[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
    """(x_t = (1 - t) x + t n, velocity n - x): rectified flow, as Wan is trained."""
    mixing = t.view(-1, *[1] * (clean.ndim - 1))
    return torch.lerp(clean, noise, mixing), noise - clean
