"""Attaching concepts to a loaded model: forward hooks on Linears and blocks, nothing else, always removed.

Hooks leave modules, weights and other packs' patches alone: detaching gives the very same model back. The hooks read a
small mutable state that is set before each model call (`activate`), so that a changed prompt never touches a weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..backbones.base import Backbone, Removable
from ..backbones.grid import TokenGrid
from ..concepts.adapter_bank import AdapterBank, BankModule, stack_banks
from ..concepts.concept import LowRank
from ..regions.regional_prompt import AnyPrompt, RegionalPrompt
from .call import ActivePrompts, prepare
from .hooks import BlockHook, ForwardMark, Joining, Layer, LayerCall, LinearHook
from .regional_attention import LayerAttention, RegionalAttention

KEPT_SCENES = 16
"""Scenes whose masks and indices are kept between steps: a few, with a context window each."""


class Attachment:
    """Concepts attached to one backbone. Use as a context manager, or `attach` and `detach` in pairs."""

    def __init__(self, backbone: Backbone, adapters: Sequence[Mapping[str, LowRank]] | BankModule) -> None:
        """`adapters[u]` maps Linear ids to concept u's LoRA there; or all of them in a module that a host moves."""
        self._backbone = backbone
        self._handles: list[Removable] = []
        self._stored: BankModule | None = None
        self._banks: dict[str, AdapterBank] = {}
        self._layers = [Layer() for _ in range(backbone.layers)]
        self._hooks = {site.id: LinearHook(site.module, site.rows, self._layers[site.layer]) for site in backbone.sites}
        self._active: ActivePrompts | None = None
        self._attention = RegionalAttention()
        self._scenes: dict[Any, tuple[list[AnyPrompt | None], ActivePrompts]] = {}
        if isinstance(adapters, BankModule):
            self._stored = adapters
        else:
            self.set_adapters(adapters)

    def set_adapters(self, adapters: Sequence[Mapping[str, LowRank]]) -> None:
        """Replace the attached concepts' adapters (a training step does, to build a fresh graph)."""
        self._banks, self._stored = stack_banks(adapters), None

    def attach(self) -> None:
        """Install the hooks. Raises RuntimeError when they are already there."""
        if self._handles:
            raise RuntimeError("these concepts are attached already: detach them first")
        inputs = self._backbone.text_inputs()
        blocks = [BlockHook(text, layer) for text, layer in zip(inputs, self._layers, strict=True)]
        # On every Linear, with adapters or without: what is compiled for one concept then serves for others.
        self._handles += [hook.install() for hook in (*self._hooks.values(), *blocks)]
        # More than those with hooks: other packs replace the `forward` of Linears.
        marked = [hook.module for hook in self._hooks.values()]
        marked += [module for hook in blocks for module in (hook.text.module, *hook.text.module.children())]
        self._handles += map(ForwardMark, marked)
        attentions = [LayerAttention(self._attention, layer) for layer in self._layers]
        self._handles += self._backbone.hook_text_attention(attentions)

    @property
    def is_attached(self) -> bool:
        return bool(self._handles)

    def detach(self) -> None:
        """Remove every hook; the model is what it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.forget_scenes()
        self.deactivate()

    def __enter__(self) -> Attachment:
        self.attach()
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    @contextmanager
    def activate(
        self,
        prompts: Sequence[AnyPrompt | None],
        device: torch.device,
        text_rows: int | None = None,
        grid: TokenGrid | None = None,
        measure: bool = False,
    ) -> Iterator[None]:
        """Let the prompts (one per batch row, None = plain) act on the model calls inside, which run on `device`.

        `text_rows` is the context's length in those calls, where it is not the prompts' own: ComfyUI repeats contexts
        to a common length when it batches prompts of different lengths. Prompts with regions need the token `grid` of
        the latents. With `measure`, `attention_masses` answers inside the block, after the model call.
        """
        self._activate(prompts, device, text_rows, grid, measure)
        try:
            yield
        finally:
            self.deactivate()

    def forget_scenes(self) -> None:
        """Let go of the masks and indices that were kept for the next step, and of their prompts."""
        self._scenes = {}

    def deactivate(self) -> None:
        self._active = None
        for layer in self._layers:
            layer.call = None
        for hook in self._hooks.values():
            hook.bank = None
        self._attention.use(None)

    def attention_masses(self) -> list[Float[Tensor, " regions"] | None]:
        """What the last model call inside `activate(..., measure=True)` measured, per batch row: how much attention the
        tokens of each region paid to the region's concepts, mean over layers, heads and tokens; NaN for a region
        without a concept. None for rows without regions."""
        return self._attention.attention_masses()

    def _activate(
        self,
        prompts: Sequence[AnyPrompt | None],
        device: torch.device,
        text_rows: int | None,
        grid: TokenGrid | None,
        measure: bool,
    ) -> None:
        if not any(prompt is not None and not prompt.is_plain for prompt in prompts):
            self.deactivate()
            return
        if any(isinstance(prompt, RegionalPrompt) for prompt in prompts):
            active = self._scene(prompts, device, text_rows, grid)
        else:
            active = prepare(prompts, device, text_rows, None)
        self._active = active
        self._attention.use(active, measure)
        regions = active.region_contexts()
        joining = None
        if regions is not None:
            joining = Joining(self._project(regions.to(device)), active.rows - active.text_rows)
        places, words = self._place(active, device)
        for number, layer in enumerate(self._layers):
            own = None if words is None else words[number]
            at = active.grid_of[number] if active.grid_of else 0
            layer.call = LayerCall(active, active.layer_weights[number], places, own, joining, at)
        banks = self._banks if self._stored is None else self._stored.banks()
        for site, hook in self._hooks.items():
            bank = banks.get(site)
            hook.bank = None if bank is None else bank.to(device, self._backbone.dtype)

    def _scene(
        self, prompts: Sequence[AnyPrompt | None], device: torch.device, text_rows: int | None, grid: TokenGrid | None
    ) -> ActivePrompts:
        """Masks and indices of a scene are made once and used in every step."""
        key = (tuple(map(id, prompts)), device, text_rows, grid)
        if key not in self._scenes:
            if len(self._scenes) >= KEPT_SCENES:
                self._scenes.pop(next(iter(self._scenes)))
            # The prompts are kept too, so that their ids stay theirs.
            grids = None if grid is None else self._backbone.layer_grids(grid)
            self._scenes[key] = (list(prompts), prepare(prompts, device, text_rows, grids))
        return self._scenes[key][1]

    def _project(self, rows: Float[Tensor, "a b width"]) -> Float[Tensor, "a b hidden"]:
        flat = rows.to(self._backbone.dtype).flatten(0, 1)
        return self._backbone.project_text(flat).unflatten(0, rows.shape[:2])

    def _place(
        self, active: ActivePrompts, device: torch.device
    ) -> tuple[tuple[Int[Tensor, " n"], Int[Tensor, " n"]] | None, Float[Tensor, "layers n hidden"] | None]:
        """Project the context rows that differ between layers, c^l[pos] (DESIGN 2.1)."""
        batch_index: list[int] = []
        row_index: list[int] = []
        changed: list[Tensor] = []
        for entry, prompt in enumerate(active.entries):
            if prompt is None:
                continue
            own_rows = len(prompt.context)
            filled = active.text_rows if entry < active.batch else own_rows
            for tokens in prompt.placed:
                values = prompt.context[list(tokens.rows)] + tokens.values.to(prompt.context)
                for start in range(0, filled, own_rows):
                    batch_index += [entry] * len(tokens.rows)
                    row_index += [start + row for row in tokens.rows]
                    changed.append(values)
        if not batch_index:
            return None, None
        places = (torch.tensor(batch_index, device=device), torch.tensor(row_index, device=device))
        return places, self._project(torch.cat(changed, 1).to(device))
