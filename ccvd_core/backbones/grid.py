"""How a layer's video tokens lie in the clip, and how a model's layers line them up as rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

Rows = Literal["b (f h w)", "(b f) (h w)", "(b h w) f"]
"""How the rows [first axis, second axis] of a Linear's input lie: b clips, f frames, h x w tokens of a frame."""


@dataclass(frozen=True)
class TokenGrid:
    """How a layer's video tokens lie in the clip: frames x height x width, row-major.

    `fill` is the share of the grid's height and width that the picture fills; the rest pads it to whole tokens.
    `numbers` are the places of these frames in the clip, of `clip_length` token frames, when they are not just all of
    it (None); those below 0 show no part of the clip, such as reference pictures before it. A token frame covers
    `span` frames of the latents, of which each after the first covers `stride` frames of the clip. `before` and `after`
    count tokens around the grid that show no part of the clip either.
    """

    frames: int
    height: int
    width: int
    fill: tuple[float, float] = (1.0, 1.0)
    stride: int = 1
    numbers: tuple[int, ...] | None = None
    clip_length: int | None = None
    before: int = 0
    after: int = 0
    span: int = 1

    @property
    def tokens(self) -> int:
        """Tokens of the frames."""
        return self.frames * self.height * self.width


def as_rows(
    values: Float[Tensor, "batch tokens n"], rows: Rows, grid: TokenGrid | None, first: int
) -> Float[Tensor, "first_ rows_ n"]:
    """One value per video token, `b (f h w)`, for rows that lie otherwise; `first` is the length of their first axis.

    With a single token the value is the same for a whole clip, and the second axis stays 1.
    """
    if rows == "b (f h w)":
        return values
    if values.shape[1] == 1:
        return repeat(values, "b 1 n -> (b k) 1 n", k=first // len(values))
    if grid is None:
        raise ValueError(f"one value for each token needs the token grid to be laid out as {rows!r}")
    return rearrange(values, f"b (f h w) n -> {rows} n", f=grid.frames, h=grid.height, w=grid.width)
