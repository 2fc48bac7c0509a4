"""Prompts made ready for one kind of model call: who is on which batch row, weights and gates as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..backbones.grid import Rows, TokenGrid, as_rows
from ..errors import CCVDError
from ..prompts.concept_prompt import ConceptPrompt
from ..prompts.concept_tokens import own_rows
from ..regions.attention import TokenPlan, plan_tokens
from ..regions.masks import region_masks
from ..regions.regional_prompt import AnyPrompt, RegionalPrompt


@dataclass(frozen=True, eq=False)
class Run:
    """Neighbouring batch rows with one and the same prompt.

    For a regional prompt, `entries` are the regions' places in the text batch, `lengths` their text rows and `words`
    the rows of their concepts; `plans`, one per token grid, say which tokens are whose.
    """

    start: int
    stop: int
    plans: tuple[TokenPlan, ...] = ()
    entries: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    words: tuple[Int[Tensor, " words"], ...] = ()

    def regions(self) -> list[tuple[int, int]]:
        """(entry, length) of every region."""
        return list(zip(self.entries, self.lengths, strict=True))


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """How strongly each concept acts in one layer."""

    text: Float[Tensor, "entries concepts"]
    gates: Float[Tensor, "entries rows concepts"]
    prompts: Float[Tensor, "batch prompts concepts"]
    shares: Float[Tensor, "batch tokens prompts"] | None
    grid: TokenGrid | None

    def check_tokens(self, rows: Rows, shape: Sequence[int]) -> None:
        """Raise CCVDError when regions were laid out on another number of video tokens than such rows of this shape."""
        if self.shares is None:
            return
        tokens = shape[1] if rows == "b (f h w)" else shape[0] * shape[1] // len(self.shares)
        if self.shares.shape[1] != tokens:
            raise CCVDError(
                f"Regions were laid out on {self.shares.shape[1]} video tokens, but this model works on {tokens}: it "
                "adds tokens that CCVD does not know. Use a text-to-video or image-to-video model, or remove the "
                "regions."
            )

    def text_gates(self, owner: Int[Tensor, " ranks"]) -> Float[Tensor, "entries rows ranks"]:
        """Weight of each rank, of the concept `owner`, at each text row."""
        return (self.text[:, None] * self.gates)[..., owner]

    def video_gates(self, owner: Int[Tensor, " ranks"]) -> Float[Tensor, "batch _ ranks"]:
        """Weight of each rank, of the concept `owner`, at each video token: sum_k m_k(token) w_k."""
        weights = self.prompts[..., owner]
        return weights if self.shares is None else self.shares @ weights

    def row_gates(
        self, owner: Int[Tensor, " ranks"], rows: Rows, shape: Sequence[int]
    ) -> Float[Tensor, "_ rows_ ranks"]:
        """`video_gates` for the rows of a Linear's input of this shape."""
        if rows != "b (f h w)":
            self.check_tokens(rows, shape)
        return as_rows(self.video_gates(owner), rows, self.grid, shape[0])


@dataclass(frozen=True, eq=False)
class ActivePrompts:
    """All that the hooks read during a model call.

    The text batch has one entry per batch row and, after those, one per region of each run. Rows beyond an entry's own
    length are padding that nobody attends to.
    """

    entries: tuple[ConceptPrompt | None, ...]
    batch: int
    text_rows: int
    """Rows of the context that the model is given."""
    rows: int
    """Rows of the longest entry."""
    text_weights: Float[Tensor, "entries layers concepts"]
    gates: Float[Tensor, "entries rows concepts"]
    prompt_weights: Float[Tensor, "batch prompts layers concepts"]
    grids: tuple[TokenGrid, ...] = ()
    """The layers' token grids, each once; none without regions."""
    grid_of: tuple[int, ...] = ()
    """Each layer's grid, by its place in `grids`."""
    shares: tuple[Float[Tensor, "batch tokens prompts"], ...] = ()
    """How much each prompt counts at each token, by grid."""
    runs: tuple[Run, ...] = ()

    @cached_property
    def layer_weights(self) -> tuple[LayerWeights, ...]:
        """One per layer."""
        found = []
        for layer in range(self.text_weights.shape[1]):
            weights = self.text_weights[:, layer], self.gates, self.prompt_weights[:, :, layer]
            at = self.grid_of[layer] if self.grid_of else None
            laid = (None, None) if at is None else (self.shares[at], self.grids[at])
            found.append(LayerWeights(*weights, *laid))
        return tuple(found)

    def region_contexts(self) -> Float[Tensor, "regions rows width"] | None:
        """The regions' own contexts, padded with zeros."""
        regions = [entry for entry in self.entries[self.batch :] if entry is not None]
        if not regions:
            return None
        padded = regions[0].context.new_zeros(len(regions), self.rows, regions[0].context.shape[1])
        for row, prompt in zip(padded, regions, strict=True):
            row[: len(prompt.context)] = prompt.context
        return padded


def prepare(
    prompts: Sequence[AnyPrompt | None],
    device: torch.device,
    text_rows: int | None,
    layer_grids: Sequence[TokenGrid] | None,
) -> ActivePrompts:
    """Make a batch's prompts ready; at least one must not be plain. Raises CCVDError for regions without grids."""
    grids = tuple(dict.fromkeys(layer_grids or ()))
    base = [whole_frame(prompt) for prompt in prompts]
    example = next(prompt for prompt in base if prompt is not None)
    text_rows = text_rows or len(example.context)
    entries: list[ConceptPrompt | None] = list(base)
    runs = []
    for start, stop in neighbours(prompts):
        prompt = prompts[start]
        if isinstance(prompt, RegionalPrompt):
            if not grids:
                raise CCVDError(
                    "Regions need the token grid of the latents: pass grid=backbone.grid(latents.shape[1:])."
                )
            runs.append(regional_run(prompt, grids, start, stop, len(entries), device))
            entries += prompt.prompts[1:]
        else:
            runs.append(Run(start, stop))
    rows = max([text_rows, *(len(entry.context) for entry in entries[len(base) :] if entry is not None)])
    none = torch.zeros_like(example.weights)
    weights = torch.stack([none if entry is None else entry.weights for entry in entries]).to(device)
    repeated = [text_rows] * len(base) + [0] * (len(entries) - len(base))
    gates = torch.stack([spread(entry, to, rows, example) for entry, to in zip(entries, repeated, strict=True)])
    made = tuple(entries), len(base), text_rows, rows, weights, gates.to(device)
    if not any(run.plans for run in runs):
        return ActivePrompts(*made, weights[:, None])
    return ActivePrompts(
        *made,
        prompt_weights(weights, runs),
        grids,
        tuple(grids.index(grid) for grid in layer_grids or ()),
        tuple(token_shares(runs, at).to(device, weights.dtype) for at in range(len(grids))),
        tuple(runs),
    )


def whole_frame(prompt: AnyPrompt | None) -> ConceptPrompt | None:
    return prompt.prompts[0] if isinstance(prompt, RegionalPrompt) else prompt


def neighbours(prompts: Sequence[AnyPrompt | None]) -> list[tuple[int, int]]:
    """(start, stop) of neighbouring rows that can share an attention call: the same scene, or none at all."""
    starts = [
        row
        for row in range(len(prompts))
        if row == 0
        or (
            prompts[row] is not prompts[row - 1]
            and (isinstance(prompts[row], RegionalPrompt) or isinstance(prompts[row - 1], RegionalPrompt))
        )
    ]
    return list(zip(starts, [*starts[1:], len(prompts)], strict=True))


def regional_run(
    prompt: RegionalPrompt, grids: Sequence[TokenGrid], start: int, stop: int, first: int, device: torch.device
) -> Run:
    plans = [plan_tokens(region_masks(prompt.regions, grid, prompt.blend)) for grid in grids]
    regions = prompt.prompts[1:]
    words = [sorted({row for rows in own_rows(region.placed).values() for row in rows}) for region in regions]
    return Run(
        start,
        stop,
        tuple(moved(plan, device) for plan in plans),
        tuple(range(first, first + len(regions))),
        tuple(len(region.context) for region in regions),
        tuple(torch.tensor(rows, dtype=torch.long, device=device) for rows in words),
    )


def moved(plan: TokenPlan, device: torch.device) -> TokenPlan:
    """The plan on a device."""
    tensors = {name: getattr(plan, name) for name in ("order", "inverse", "shares", "masks")}
    return replace(plan, **{name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None})


def spread(entry: ConceptPrompt | None, repeated_to: int, rows: int, example: ConceptPrompt) -> Tensor:
    """An entry's gates over all rows: repeated as ComfyUI repeats contexts, then padded with zeros."""
    gates = example.gates.new_zeros(rows, example.gates.shape[1])
    if entry is not None:
        own = entry.gates.repeat(max(1, repeated_to // len(entry.gates)), 1)
        gates[: len(own)] = own
    return gates


def token_shares(runs: Sequence[Run], grid: int) -> Float[Tensor, "batch tokens prompts"]:
    """How much each prompt counts at each token of a grid, by batch row."""
    plans = [run.plans[grid] for run in runs if run.plans]
    prompts = max(len(plan.masks) for plan in plans)
    shares = torch.zeros(runs[-1].stop, plans[0].masks.shape[1], prompts)
    for run in runs:
        if run.plans:
            masks = run.plans[grid].masks
            shares[run.start : run.stop, :, : len(masks)] = masks.T.cpu()
        else:
            shares[run.start : run.stop, :, 0] = 1.0
    return shares


def prompt_weights(
    weights: Float[Tensor, "entries layers concepts"], runs: Sequence[Run]
) -> Float[Tensor, "batch prompts layers concepts"]:
    """Weights of each batch row's prompts: its own and, after it, those of its regions."""
    batch, prompts = runs[-1].stop, 1 + max(len(run.entries) for run in runs)
    out = weights.new_zeros(batch, prompts, *weights.shape[1:])
    for run in runs:
        out[run.start : run.stop, 0] = weights[run.start : run.stop]
        for place, entry in enumerate(run.entries, 1):
            out[run.start : run.stop, place] = weights[entry]
    return out
