"""Pictures and masks brought to another size, with OpenCV."""

from __future__ import annotations

import cv2
import torch
from jaxtyping import Float
from torch import Tensor

SMOOTH, PLAIN = cv2.INTER_CUBIC, cv2.INTER_LINEAR
"""How to enlarge: pictures, and what must not overshoot."""


def resized(
    pixels: Float[Tensor, "rows columns *channels"], size: tuple[int, int], enlarge: int = SMOOTH
) -> Float[Tensor, "height width *channels"]:
    """Float pixels at `size` (height, width), on the CPU; of that size already, they are returned as they are.

    A side that becomes smaller is averaged over the area that each new pixel covers: nothing overshoots, and no fine
    pattern turns into a coarse one. A side that becomes larger is interpolated, afterwards.
    """
    if pixels.shape[:2] == size:
        return pixels
    array = pixels.detach().float().cpu().contiguous().numpy()
    smaller = min(size[0], pixels.shape[0]), min(size[1], pixels.shape[1])
    for height, width, how in ((*smaller, cv2.INTER_AREA), (*size, enlarge)):
        if array.shape[:2] != (height, width):
            array = cv2.resize(array, (width, height), interpolation=how)
    return torch.from_numpy(array).reshape(*size, *pixels.shape[2:])
