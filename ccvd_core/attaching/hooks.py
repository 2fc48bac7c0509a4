"""The hooks that put concepts into a model's layers, and how compiled code is made to see them come and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..backbones.base import TextInput
from ..backbones.grid import Rows
from ..concepts.adapter_bank import AdapterBank, add_gated_delta, gated_delta, owns_its_memory
from .call import ActivePrompts, LayerWeights


class Joining:
    """The regions' contexts, put behind the batch's. All layers of a model call are given the same context."""

    def __init__(self, regions: Float[Tensor, "regions rows hidden"], padding: int) -> None:
        self._regions, self._padding = regions, padding
        self._joined: tuple[Tensor, Tensor] | None = None

    def behind(self, context: Float[Tensor, "batch rows hidden"], offset: int) -> Float[Tensor, "entries rows_ hidden"]:
        """Made once per model call. `offset` rows of `context` stand in front of its text."""
        if self._joined is None or self._joined[0] is not context:
            entries = nn.functional.pad(self._regions.to(context), (0, 0, offset, 0))
            self._joined = (context, torch.cat([nn.functional.pad(context, (0, 0, 0, self._padding)), entries]))
        return self._joined[1]


@dataclass(frozen=True, eq=False)
class LayerCall:
    """What acts on one layer during a model call."""

    active: ActivePrompts
    weights: LayerWeights
    places: tuple[Int[Tensor, " words"], Int[Tensor, " words"]] | None = None
    """Entry and text row of every concept word."""
    words: Float[Tensor, "words hidden"] | None = None
    """This layer's own contexts of those words."""
    joining: Joining | None = None
    grid: int = 0
    """The layer's token grid, among those of the active prompts."""


@dataclass(eq=False)
class Layer:
    """What the hooks of one layer read: its part of the model call, None between calls.

    One object per layer, and no numbers of layers in the hooks: a block that is compiled by itself then serves all.
    """

    call: LayerCall | None = None


@dataclass(eq=False)
class LinearHook:
    """Adds to a Linear's output what its adapters say."""

    module: nn.Module
    rows: Rows | Literal["b text"]
    layer: Layer
    bank: AdapterBank | None = None

    def install(self) -> Any:
        return self.module.register_forward_hook(self.add_delta)

    def add_delta(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        call = self.layer.call
        if call is None or self.bank is None:
            return output
        x = args[0]
        bank = self.bank.to(x.device, x.dtype)
        if self.rows == "b text":
            gate = call.weights.text_gates(bank.owner)
        else:
            gate = call.weights.row_gates(bank.owner, self.rows, x.shape)
        if torch.compiler.is_compiling() or not (is_alone(module) and output.dtype == x.dtype):
            return output + gated_delta(x, bank, gate)
        if not owns_its_memory(output, args):
            return output + gated_delta(x, bank, gate)
        return add_gated_delta(output, x, bank, gate)


@dataclass(eq=False)
class BlockHook:
    """Gives a block its own context: the regions' rows behind the batch, the concepts' words replaced."""

    text: TextInput
    layer: Layer

    def install(self) -> Any:
        return self.text.module.register_forward_pre_hook(self.own_context, with_kwargs=True)

    def own_context(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        call = self.layer.call
        if call is None:
            return None
        call.weights.check_tokens(self.text.rows, args[0].shape)
        if call.words is None and call.joining is None and not self.text.repeated:
            return None
        at, keyword = self.text.position, self.text.keyword
        if keyword in kwargs:
            return args, {**kwargs, keyword: self._changed(call, kwargs[keyword])}
        return (*args[:at], self._changed(call, args[at]), *args[at + 1 :]), kwargs

    def _changed(self, call: LayerCall, context: Tensor) -> Tensor:
        if self.text.repeated:
            context = context[:: len(context) // call.active.batch]
        return changed_context(call, context)


def changed_context(
    call: LayerCall, context: Float[Tensor, "batch rows hidden"]
) -> Float[Tensor, "entries rows_ hidden"]:
    # Image rows of an image-to-video model stand in front of the text rows.
    offset = context.shape[1] - call.active.text_rows
    if call.joining is not None:
        context = call.joining.behind(context, offset)
    if call.words is not None and call.places is not None:
        entries, rows = call.places
        context = context.index_put((entries, rows + offset), call.words.to(context))
    return context


def is_alone(module: nn.Module) -> bool:
    """Whether nobody but its own class and one hook has a hand in a module's output: others may keep it."""
    own = getattr(module.forward, "__func__", None) is getattr(type(module), "forward", None)
    return own and len(module._forward_hooks) == 1 and not nn.modules.module._global_forward_hooks


class ForwardMark:
    """A module's `forward`, set on the module itself, for as long as it has hooks of ours.

    It does what it did before. But code that was compiled when the module had no hooks does not look for any when it
    runs again (PyTorch leaves those guards out), and the concepts would be dropped without a word. It does look whether
    `forward` is still the class's, so that with the mark set it is compiled anew, once, and both versions are kept.
    A module whose `forward` another pack has replaced is left alone: its neighbours' marks are seen.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._mark = None if "forward" in vars(module) else module.forward
        if self._mark is not None:
            module.forward = self._mark

    def remove(self) -> None:
        if self._mark is not None and vars(self._module).get("forward") is self._mark:
            del self._module.forward
        self._mark = None
