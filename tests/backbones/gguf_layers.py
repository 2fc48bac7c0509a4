"""The classes of the pack ComfyUI-GGUF, played by what others can see of them.

A tensor of packed bytes that calls itself by the shape of what is packed and answers `clone` and `detach` with itself,
and layers that unpack it for each use.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SCALE_BYTES = 4


class Packed(torch.Tensor):
    """`tensor_type` None: floats as they are. Else 8-bit rows, each with its scale behind it."""

    tensor_type: str | None
    tensor_shape: torch.Size

    def __new__(cls, data: Tensor, *, tensor_type: str | None, tensor_shape: torch.Size) -> Packed:
        return super().__new__(cls, data)  # type: ignore[call-arg]

    def __init__(self, data: Tensor, *, tensor_type: str | None, tensor_shape: torch.Size) -> None:
        super().__init__()
        self.tensor_type, self.tensor_shape = tensor_type, tensor_shape

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        moved: Any = super().to(*args, **kwargs)
        moved.tensor_type = getattr(self, "tensor_type", None)
        moved.tensor_shape = getattr(self, "tensor_shape", moved.data.shape)
        return moved

    def clone(self, *_: Any, **__: Any) -> Tensor:
        return self

    def detach(self, *_: Any, **__: Any) -> Tensor:
        return self

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return getattr(self, "tensor_shape", self.size())


def packed(weight: Tensor, eight_bits: bool) -> Packed:
    if not eight_bits:
        return Packed(weight.clone(), tensor_type=None, tensor_shape=weight.shape)
    scale = weight.abs().amax(1, keepdim=True) / 127
    rows = torch.cat([(weight / scale).round().to(torch.int8).view(torch.uint8), scale.view(torch.uint8)], 1)
    return Packed(rows, tensor_type="8 bits", tensor_shape=weight.shape)


def unpacked(tensor: Tensor) -> Tensor:
    if getattr(tensor, "tensor_type", None) is not None:
        rows = tensor.as_subclass(torch.Tensor)
        scale = rows[:, -SCALE_BYTES:].contiguous().view(torch.float32)
        return rows[:, :-SCALE_BYTES].contiguous().view(torch.int8).float() * scale
    return tensor.as_subclass(torch.Tensor)


def layers_of_packed() -> Any:
    """Layer classes for ComfyUI's models, over its own `manual_cast`."""
    import comfy.ops

    class Layer:
        comfy_cast_weights = True

        def forward_comfy_cast_weights(self: Any, input: Tensor) -> Tensor:
            if self.weight.tensor_type is None:
                out = super().forward_comfy_cast_weights(input)  # type: ignore[misc]
                return out.as_subclass(torch.Tensor)
            bias = None if self.bias is None else unpacked(self.bias.to(input.device)).to(input.dtype)
            return nn.functional.linear(input, unpacked(self.weight.to(input.device)).to(input.dtype), bias)

    class Ops(comfy.ops.manual_cast):
        class Linear(Layer, comfy.ops.manual_cast.Linear):
            def __init__(self, in_features: int, out_features: int, bias: bool = True, device=None, dtype=None) -> None:
                nn.Module.__init__(self)
                self.in_features, self.out_features = in_features, out_features
                self.weight = self.bias = None  # type: ignore[assignment]

            def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
                for name in ("weight", "bias"):
                    if prefix + name in state_dict:
                        setattr(self, name, nn.Parameter(state_dict[prefix + name], requires_grad=False))

    return Ops
