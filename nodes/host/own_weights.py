"""Weights that a backward pass can rely on, whatever ComfyUI's loaders did and do with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as memory
import comfy.utils
import torch
from torch import Tensor, nn


@contextmanager
def own_weights(model: nn.Module) -> Iterator[None]:
    """While learning, give every layer weights of its own instead of a loan.

    A weight that is not on the device is copied there for each use: into one of two buffers that all layers use in
    turn, or into memory that the dynamic loader takes back afterwards. Autograd keeps what it was given until the
    backward pass, when other layers' weights are there by then. So each loan is copied, which costs the weights of one
    block, since blocks are recomputed one at a time.
    """
    handles = []
    for module in model.modules():
        if not hasattr(module, "comfy_cast_weights"):
            continue
        loan = Loan()
        handles.append(module.register_forward_pre_hook(loan.begin))
        handles.append(module.register_forward_hook(loan.end, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Loan:
    """One layer's use of a weight that is not its own. ComfyUI calls `weight_function` on what it has copied."""

    NAMES = ("weight_function", "bias_function")

    def __init__(self) -> None:
        self._before: dict[str, Any] | None = None

    def begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        device = args[0].device if args and isinstance(args[0], Tensor) else None
        if torch.is_grad_enabled() and is_borrowed(module, device):
            self._before = {name: vars(module)[name] for name in self.NAMES if name in vars(module)}
            for name in self.NAMES:
                setattr(module, name, [*getattr(module, name, ()), copied])

    def end(self, module: nn.Module, *_: Any) -> None:
        if self._before is None:
            return
        for name in self.NAMES:
            delattr(module, name)
            if name in self._before:
                setattr(module, name, self._before[name])
        self._before = None


def copied(weight: Tensor) -> Tensor:
    # Not one of the kinds of tensor that are only valid in inference mode, either.
    return weight.clone()


def is_borrowed(module: Any, device: torch.device | None) -> bool:
    """Whether a layer's weight may be elsewhere than on `device`, or in the hands of the dynamic loader (`_v`)."""
    parts = (getattr(module, "weight", None), getattr(module, "bias", None))
    return hasattr(module, "_v") or not all(part is None or is_on(part, device) for part in parts)


def is_on(tensor: Tensor, device: torch.device | None) -> bool:
    if device is None or tensor.device == device:
        return device is not None
    # "mps" and "cuda" without a number are the current one.
    return device.type != "cpu" and tensor.device.type == device.type and None in (tensor.device.index, device.index)


def forget_inference_buffers() -> None:
    """Drop the classic loader's buffers that were made while sampling: nobody may write into them outside that mode."""
    if any(buffer.is_inference() for buffer in memory.STREAM_CAST_BUFFERS.values()):
        memory.synchronize()
        memory.STREAM_CAST_BUFFERS.clear()
        memory.LARGEST_CASTED_WEIGHT = (None, 0)


def leave_inference_mode(model: nn.Module, device: torch.device) -> None:
    """Replace inference tensors by equal normal ones, one at a time: autograd refuses to save the former for backward.

    Weights that are borrowed for each use are left where they are: what is used is a copy.
    """
    for path, module in model.named_modules():
        if hasattr(module, "comfy_cast_weights") and is_borrowed(module, device):
            continue
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_inference():
                comfy.utils.set_attr_param(model, f"{path}.{name}".strip("."), normal_copy(parameter))
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_inference():
                comfy.utils.set_attr_buffer(model, f"{path}.{name}".strip("."), normal_copy(buffer))


def normal_copy(tensor: Tensor) -> Tensor:
    """A bit-identical copy that is no inference tensor."""
    copy = tensor.detach().clone()
    if copy.is_inference():
        # GGUF's quantised tensors answer `clone` with themselves. Their kind and shape are attributes.
        with torch._C.DisableTorchFunctionSubclass():
            copy = Tensor.clone(tensor).as_subclass(type(tensor))
        vars(copy).update(vars(tensor))
    return copy
