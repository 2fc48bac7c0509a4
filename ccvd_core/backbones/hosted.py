"""What ComfyUI's side needs from a model beyond the method: how its samplers call it, and how it learns there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import MediaError
from .base import Backbone
from .grid import TokenGrid


class HostedBackbone(Backbone):
    """A backbone over the `diffusion_model` of a MODEL."""

    @abstractmethod
    def reference_frames(self, conditions: Iterable[Mapping[str, Any]]) -> int:
        """How many of a clip's first latent frames are reference pictures, from the conditionings' `model_conds`."""

    @abstractmethod
    def call_grid(
        self,
        x: Tensor,
        options: Mapping[str, Any],
        time_dim_concat: Tensor | None,
        extras: Mapping[str, Any],
        references: int = 0,
    ) -> TokenGrid:
        """Token grid of one call of the model on latents `x`, with the tokens that the host puts around the clip's own.

        `options` are the transformer_options: a context window in them says which frames of the latents these are, of
        which the first `references` show no part of the clip. `extras` are the call's further arguments.
        """

    @abstractmethod
    def recomputed(self) -> Sequence[nn.Module]:
        """What `checkpointing` recomputes, one at a time: a backward pass keeps the weights of one of these."""


class LessonConditions(ABC):
    """What a MODEL expects of media and conditions while it learns.

    Made from ComfyUI's BaseModel, its VAE and what reads pictures (CLIP Vision), if that is connected. Raises
    LearningError for a model that cannot learn here, MediaError for a VAE of another model: before anything is encoded.
    """

    multiple: int
    """Sides of pictures must be multiples of this."""
    clip_vision: Any
    """What reads the first frame, where the model was trained with it; else None."""
    notes: Sequence[str]
    """Lines that the artist should read."""

    @abstractmethod
    def __init__(self, model: Any, vae: Any, clip_vision: Any = None) -> None: ...

    @abstractmethod
    def check_frames(self, frames: int) -> None:
        """Raise LearningError for media of so many frames where they teach nothing."""

    @abstractmethod
    def shown(self, pixels: Tensor, latents: Tensor) -> dict[str, Any]:
        """Conditions for a clip [1, 3, frames, height, width] with model latents [channels, frames, height, width].

        Keys and values are those of the model's call; tensors have a batch of 1.
        """


def window_frames(options: Mapping[str, Any]) -> tuple[tuple[int, ...], int] | None:
    """Which latent frames of the clip a model call sees, in their order, and how many the clip has; None: all of them.

    Before a window that does not begin with the clip, the host puts the frame before it, as an anchor that is dropped
    afterwards.
    """
    window = options.get("context_window")
    if window is None:
        return None
    anchor = getattr(window, "causal_anchor_index", None)
    first = [anchor] if anchor is not None and anchor >= 0 else []
    return (*first, *window.index_list), window.total_frames


def check_vae(latent_format: Any, vae: Any, known: Mapping[tuple[int, int], str]) -> None:
    """Raise MediaError unless the VAE makes latents that the model reads; `known` names VAEs by channels and scale."""
    wanted = (latent_format.latent_channels, latent_format.spacial_downscale_ratio)
    found = (getattr(vae, "latent_channels", wanted[0]), scale_of(vae, wanted[1]))
    if wanted != found:
        raise MediaError(
            f"The VAE belongs to another model: this model reads latents of {wanted[0]} channels at 1/{wanted[1]} of "
            f"the size, and the VAE makes {found[0]} channels at 1/{found[1]}. Load the VAE of this model: "
            f"{known.get(wanted, 'the one it was published with')}."
        )


def scale_of(vae: Any, usual: int) -> int:
    """How many pixels of height one latent stands for."""
    ask = getattr(vae, "spacial_compression_encode", None)
    return usual if ask is None else int(ask())
