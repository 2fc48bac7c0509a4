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
from torch.utils.hooks import RemovableHandle

from ..adapter_bank import AdapterBank, low_rank_delta, stack_adapters
from ..concept import LowRank
from .base import Backbone, ConceptPrompt, LinearSite


class Attachment:
    """Concepts attached to one backbone. Use as a context manager, or `attach` and `detach` in pairs."""

    def __init__(self, backbone: Backbone, adapters: Sequence[Mapping[str, LowRank]]) -> None:
        """`adapters[u]` maps Linear ids to concept u's LoRA there."""
        self._backbone = backbone
        self._handles: list[RemovableHandle] = []
        self._banks: dict[str, AdapterBank] = {}
        self._weights: Float[Tensor, "batch layers concepts"] | None = None
        self._gates: Float[Tensor, "batch rows concepts"] | None = None
        self._rows: tuple[Tensor, Tensor] | None = None
        self._projected: Float[Tensor, "layers n hidden"] | None = None
        self._text_rows = 0
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

    @property
    def is_attached(self) -> bool:
        return bool(self._handles)

    def detach(self) -> None:
        """Remove every hook; the model is what it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.deactivate()

    def __enter__(self) -> Attachment:
        self.attach()
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    @contextmanager
    def activate(
        self, prompts: Sequence[ConceptPrompt | None], device: torch.device, text_rows: int | None = None
    ) -> Iterator[None]:
        """Let the prompts (one per batch row, None = plain) act on the model calls inside, which run on `device`.

        `text_rows` is the context's length in those calls, where it is not the prompts' own: ComfyUI repeats contexts
        to a common length when it batches prompts of different lengths.
        """
        self._activate(prompts, device, text_rows)
        try:
            yield
        finally:
            self.deactivate()

    def deactivate(self) -> None:
        self._weights = self._gates = self._rows = self._projected = None

    def _activate(self, prompts: Sequence[ConceptPrompt | None], device: torch.device, text_rows: int | None) -> None:
        taking_part = [prompt for prompt in prompts if prompt is not None and not prompt.is_plain]
        if not taking_part:
            self.deactivate()
            return
        example = taking_part[0]
        rows = self._text_rows = text_rows or len(example.context)
        no_weights = torch.zeros_like(example.weights)
        no_gates = example.gates.new_zeros(rows, example.gates.shape[1])
        self._weights = torch.stack([no_weights if p is None else p.weights for p in prompts]).to(device)
        self._gates = torch.stack(
            [no_gates if p is None else p.gates.repeat(rows // len(p.gates), 1) for p in prompts]
        ).to(device)
        self._place(prompts, device)

    def _place(self, prompts: Sequence[ConceptPrompt | None], device: torch.device) -> None:
        """Project the context rows that differ between layers: c^l[pos] = c[pos] + y^l (DESIGN 2.1)."""
        batch_index: list[int] = []
        row_index: list[int] = []
        changed: list[Tensor] = []
        for batch_row, prompt in enumerate(prompts):
            for tokens in () if prompt is None else prompt.placed:
                own_rows = len(prompt.context)  # type: ignore[union-attr]
                values = prompt.context[list(tokens.rows)] + tokens.values.to(prompt.context)  # type: ignore[union-attr]
                for start in range(0, self._text_rows, own_rows):
                    batch_index += [batch_row] * len(tokens.rows)
                    row_index += [start + row for row in tokens.rows]
                    changed.append(values)
        if not batch_index:
            self._rows = self._projected = None
            return
        rows = torch.cat(changed, 1).to(device, self._backbone.dtype)
        self._projected = self._backbone.project_text(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        self._rows = (torch.tensor(batch_index, device=device), torch.tensor(row_index, device=device))

    def _linear_hook(self, site: LinearSite) -> Any:
        def add_delta(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if self._weights is None or self._gates is None:
                return output
            x = args[0]
            bank = self._banks[site.id] = self._banks[site.id].to(x.device, x.dtype)
            weight = self._weights[:, site.layer, None]
            if site.acts_on == "text":
                weight = weight * self._gates
            return output + low_rank_delta(x, bank, weight)

        return add_delta

    def _block_hook(self, layer: int) -> Any:
        def own_context(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
            if self._rows is None or self._projected is None:
                return None
            batch_index, row_index = self._rows

            def replaced(context: Tensor) -> Tensor:
                # Image rows of an image-to-video model stand in front of the text rows.
                offset = context.shape[1] - self._text_rows
                values = self._projected[layer].to(context)  # type: ignore[index]
                return context.index_put((batch_index, row_index + offset), values)

            if "context" in kwargs:
                return args, {**kwargs, "context": replaced(kwargs["context"])}
            hidden, context, *rest = args
            return (hidden, replaced(context), *rest), kwargs

        return own_context
