"""Attaching concepts to a loaded model: forward hooks on Linears and blocks, nothing else, always removed.

Hooks leave modules, weights and other packs' patches alone: detaching gives the very same model back. The hooks read a
small mutable state that is set before each model call (`activate`), so that a changed prompt never touches a weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..adapter_bank import AdapterBank, gated_delta, stack_adapters
from ..concept import LowRank
from .active import ActivePrompts, RegionalAttention, prepare
from .base import AnyPrompt, Backbone, LinearSite, RegionalPrompt, Removable, TokenGrid

KEPT_SCENES = 16
"""Scenes whose masks and indices are kept between steps: a few, with a context window each."""


class Attachment:
    """Concepts attached to one backbone. Use as a context manager, or `attach` and `detach` in pairs."""

    def __init__(self, backbone: Backbone, adapters: Sequence[Mapping[str, LowRank]]) -> None:
        """`adapters[u]` maps Linear ids to concept u's LoRA there."""
        self._backbone = backbone
        self._handles: list[Removable] = []
        self._banks: dict[str, AdapterBank] = {}
        self._active: ActivePrompts | None = None
        self._rows: tuple[Tensor, Tensor] | None = None
        self._projected: Float[Tensor, "layers n hidden"] | None = None
        self._regions: Float[Tensor, "regions rows hidden"] | None = None
        self._joined: tuple[Tensor, Tensor] | None = None
        self._attention = RegionalAttention()
        self._scenes: dict[Any, tuple[list[AnyPrompt | None], ActivePrompts]] = {}
        self.set_adapters(adapters)

    def set_adapters(self, adapters: Sequence[Mapping[str, LowRank]]) -> None:
        """Replace the attached concepts' adapters (a training step does, to build a fresh graph)."""
        self._banks = {}
        for site in self._backbone.sites:
            bank = stack_adapters([concept.get(site.id) for concept in adapters])
            if bank is not None:
                self._banks[site.id] = bank

    def attach(self) -> None:
        """Install the hooks. Raises RuntimeError when they are already there."""
        if self._handles:
            raise RuntimeError("these concepts are attached already: detach them first")
        for site in self._backbone.sites:
            if site.id in self._banks:
                self._handles.append(site.module.register_forward_hook(self._linear_hook(site)))
        for layer, block in enumerate(self._backbone.blocks()):
            self._handles.append(block.register_forward_pre_hook(self._block_hook(layer), with_kwargs=True))
        self._handles += self._backbone.hook_text_attention(self._attention)

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
        self._active = self._rows = self._projected = self._regions = self._joined = None
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
            self._active = self._scene(prompts, device, text_rows, grid)
        else:
            self._active = prepare(prompts, device, text_rows, None)
        self._attention.use(self._active, measure)
        regions = self._active.region_contexts()
        self._regions = None if regions is None else self._project(regions.to(device))
        self._joined = None
        self._place(device)

    def _scene(
        self, prompts: Sequence[AnyPrompt | None], device: torch.device, text_rows: int | None, grid: TokenGrid | None
    ) -> ActivePrompts:
        """Masks and indices of a scene are made once and used in every step."""
        key = (tuple(map(id, prompts)), device, text_rows, grid)
        if key not in self._scenes:
            if len(self._scenes) >= KEPT_SCENES:
                self._scenes.pop(next(iter(self._scenes)))
            # The prompts are kept too, so that their ids stay theirs.
            self._scenes[key] = (list(prompts), prepare(prompts, device, text_rows, grid))
        return self._scenes[key][1]

    def _project(self, rows: Float[Tensor, "a b width"]) -> Float[Tensor, "a b hidden"]:
        flat = rows.to(self._backbone.dtype).flatten(0, 1)
        return self._backbone.project_text(flat).unflatten(0, rows.shape[:2])

    def _place(self, device: torch.device) -> None:
        """Project the context rows that differ between layers: c^l[pos] = c[pos] + y^l (DESIGN 2.1)."""
        assert self._active is not None
        batch_index: list[int] = []
        row_index: list[int] = []
        changed: list[Tensor] = []
        for entry, prompt in enumerate(self._active.entries):
            if prompt is None:
                continue
            own_rows = len(prompt.context)
            filled = self._active.text_rows if entry < self._active.batch else own_rows
            for tokens in prompt.placed:
                values = prompt.context[list(tokens.rows)] + tokens.values.to(prompt.context)
                for start in range(0, filled, own_rows):
                    batch_index += [entry] * len(tokens.rows)
                    row_index += [start + row for row in tokens.rows]
                    changed.append(values)
        if not batch_index:
            self._rows = self._projected = None
            return
        self._projected = self._project(torch.cat(changed, 1).to(device))
        self._rows = (torch.tensor(batch_index, device=device), torch.tensor(row_index, device=device))

    def _linear_hook(self, site: LinearSite) -> Any:
        def add_delta(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            active = self._active
            if active is None:
                return output
            x = args[0]
            bank = self._banks[site.id] = self._banks[site.id].to(x.device, x.dtype)
            gates = active.text_gates if site.acts_on == "text" else active.video_gates
            return output + gated_delta(x, bank, gates(site.layer, bank.owner))

        return add_delta

    def _block_hook(self, layer: int) -> Any:
        def own_context(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
            if self._active is None:
                return None
            self._active.check_tokens(args[0].shape[1])
            if self._rows is None and self._regions is None:
                return None
            if "context" in kwargs:
                return args, {**kwargs, "context": self._own_context(layer, kwargs["context"])}
            hidden, context, *rest = args
            return (hidden, self._own_context(layer, context), *rest), kwargs

        return own_context

    def _own_context(
        self, layer: int, context: Float[Tensor, "batch rows hidden"]
    ) -> Float[Tensor, "entries rows_ hidden"]:
        """A layer's context: the regions' rows behind the batch, the concepts' words replaced."""
        assert self._active is not None
        # Image rows of an image-to-video model stand in front of the text rows.
        offset = context.shape[1] - self._active.text_rows
        if self._regions is not None:
            context = self._with_regions(context, self._regions, offset)
        if self._rows is not None and self._projected is not None:
            entry_index, row_index = self._rows
            context = context.index_put((entry_index, row_index + offset), self._projected[layer].to(context))
        return context

    def _with_regions(
        self, context: Float[Tensor, "batch rows hidden"], regions: Float[Tensor, "regions _ hidden"], offset: int
    ) -> Float[Tensor, "entries rows_ hidden"]:
        """The regions' rows behind the batch. Made once per model call: all its layers are given the same context."""
        assert self._active is not None
        if self._joined is None or self._joined[0] is not context:
            padding = self._active.rows - self._active.text_rows
            entries = nn.functional.pad(regions.to(context), (0, 0, offset, 0))
            self._joined = (context, torch.cat([nn.functional.pad(context, (0, 0, 0, padding)), entries]))
        return self._joined[1]
