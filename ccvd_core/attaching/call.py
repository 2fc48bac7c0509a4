"""Prompts made ready for one kind of model call: who is on which batch row, weights and gates as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..backbones.base import AnyPrompt, ConceptPrompt, Kernel, RegionalPrompt, TokenGrid
from ..errors import CCVDError
from ..regions.attention import TokenPlan, attention_mass, plan_tokens, region_attention
from ..regions.masks import region_masks


@dataclass(frozen=True, eq=False)
class Run:
    """Neighbouring batch rows with one and the same prompt.

    For a regional prompt, `entries` are the regions' places in the text batch, `lengths` their text rows and `words`
    the rows of their concepts; `plan` says which tokens are whose.
    """

    start: int
    stop: int
    plan: TokenPlan | None = None
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

    def text_gates(self, owner: Int[Tensor, " ranks"]) -> Float[Tensor, "entries rows ranks"]:
        """Weight of each rank, of the concept `owner`, at each text row."""
        return (self.text[:, None] * self.gates)[..., owner]

    def video_gates(self, owner: Int[Tensor, " ranks"]) -> Float[Tensor, "batch _ ranks"]:
        """Weight of each rank, of the concept `owner`, at each video token: sum_k m_k(token) w_k."""
        weights = self.prompts[..., owner]
        return weights if self.shares is None else self.shares @ weights


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
    shares: Float[Tensor, "batch tokens prompts"] | None
    """How much each prompt counts at each token; None without regions."""
    prompt_weights: Float[Tensor, "batch prompts layers concepts"]
    runs: tuple[Run, ...] = ()

    @cached_property
    def layer_weights(self) -> tuple[LayerWeights, ...]:
        """One per layer."""
        return tuple(
            LayerWeights(self.text_weights[:, layer], self.gates, self.prompt_weights[:, :, layer], self.shares)
            for layer in range(self.text_weights.shape[1])
        )

    def check_tokens(self, tokens: int) -> None:
        """Raise CCVDError when regions were laid out on another number of video tokens."""
        if self.shares is not None and self.shares.shape[1] != tokens:
            raise CCVDError(
                f"Regions were laid out on {self.shares.shape[1]} video tokens, but this model works on {tokens}: it "
                "adds tokens that CCVD does not know. Use a Wan text-to-video or image-to-video model, or remove the "
                "regions."
            )

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
    prompts: Sequence[AnyPrompt | None], device: torch.device, text_rows: int | None, grid: TokenGrid | None
) -> ActivePrompts:
    """Make a batch's prompts ready; at least one must not be plain. Raises CCVDError for regions without a grid."""
    base = [whole_frame(prompt) for prompt in prompts]
    example = next(prompt for prompt in base if prompt is not None)
    text_rows = text_rows or len(example.context)
    entries: list[ConceptPrompt | None] = list(base)
    runs = []
    for start, stop in neighbours(prompts):
        prompt = prompts[start]
        if isinstance(prompt, RegionalPrompt):
            if grid is None:
                raise CCVDError(
                    "Regions need the token grid of the latents: pass grid=backbone.grid(latents.shape[1:])."
                )
            runs.append(regional_run(prompt, grid, start, stop, len(entries), device))
            entries += prompt.prompts[1:]
        else:
            runs.append(Run(start, stop))
    rows = max([text_rows, *(len(entry.context) for entry in entries[len(base) :] if entry is not None)])
    none = torch.zeros_like(example.weights)
    weights = torch.stack([none if entry is None else entry.weights for entry in entries]).to(device)
    repeated = [text_rows] * len(base) + [0] * (len(entries) - len(base))
    gates = torch.stack([spread(entry, to, rows, example) for entry, to in zip(entries, repeated, strict=True)])
    regional = any(run.plan is not None for run in runs)
    return ActivePrompts(
        tuple(entries),
        len(base),
        text_rows,
        rows,
        weights,
        gates.to(device),
        token_shares(runs).to(device, weights.dtype) if regional else None,
        prompt_weights(weights, runs) if regional else weights[:, None],
        tuple(runs) if regional else (),
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
    prompt: RegionalPrompt, grid: TokenGrid, start: int, stop: int, first: int, device: torch.device
) -> Run:
    plan = plan_tokens(region_masks(prompt.regions, grid, prompt.blend))
    moved = {
        name: tensor.to(device)
        for name in ("order", "inverse", "shares", "masks")
        if (tensor := getattr(plan, name)) is not None
    }
    regions = prompt.prompts[1:]
    words = [sorted({row for tokens in region.placed for row in tokens.rows}) for region in regions]
    return Run(
        start,
        stop,
        replace(plan, **moved),
        tuple(range(first, first + len(regions))),
        tuple(len(region.context) for region in regions),
        tuple(torch.tensor(rows, dtype=torch.long, device=device) for rows in words),
    )


def spread(entry: ConceptPrompt | None, repeated_to: int, rows: int, example: ConceptPrompt) -> Tensor:
    """An entry's gates over all rows: repeated as ComfyUI repeats contexts, then padded with zeros."""
    gates = example.gates.new_zeros(rows, example.gates.shape[1])
    if entry is not None:
        own = entry.gates.repeat(max(1, repeated_to // len(entry.gates)), 1)
        gates[: len(own)] = own
    return gates


def token_shares(runs: Sequence[Run]) -> Float[Tensor, "batch tokens prompts"]:
    plans = [run.plan for run in runs if run.plan is not None]
    prompts = max(len(plan.masks) for plan in plans)
    shares = torch.zeros(runs[-1].stop, plans[0].masks.shape[1], prompts)
    for run in runs:
        if run.plan is None:
            shares[run.start : run.stop, :, 0] = 1.0
        else:
            shares[run.start : run.stop, :, : len(run.plan.masks)] = run.plan.masks.T.cpu()
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


@dataclass(eq=False)
class RegionalAttention:
    """Takes the place of the text cross-attention while prompts with regions are active."""

    active: ActivePrompts | None = None
    measures: bool = False
    masses: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    """Sums over layers, by run and region."""
    layers: int = 0
    """Cross-attentions measured so far."""

    @property
    def acts(self) -> bool:
        return self.active is not None and bool(self.active.runs)

    def use(self, active: ActivePrompts | None, measures: bool = False) -> None:
        self.active, self.measures, self.masses, self.layers = active, measures, {}, 0

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int, kernel: Kernel) -> Tensor:
        active = self.active
        assert active is not None
        parts = []
        for number, run in enumerate(active.runs):
            rows, text_rows = slice(run.start, run.stop), active.text_rows
            queries, own_k, own_v = q[rows], k[rows, :text_rows], v[rows, :text_rows]
            if run.plan is None:
                parts.append(kernel(queries, own_k, own_v))
                continue
            keys, values = (
                [own, *(shared(t, entry, length, run.stop - run.start) for entry, length in run.regions())]
                for own, t in ((own_k, k), (own_v, v))
            )
            parts.append(region_attention(queries, keys, values, run.plan, kernel))
            if self.measures:
                self._measure(number, run, queries, keys, heads, kernel)
        self.layers += 1
        return torch.cat(parts)

    def _measure(self, number: int, run: Run, q: Tensor, keys: Sequence[Tensor], heads: int, kernel: Kernel) -> None:
        assert run.plan is not None
        for region, words in enumerate(run.words, 1):
            tokens = run.plan.masks[region].nonzero()[:, 0]
            if len(words) and len(tokens):
                share = run.plan.masks[region, tokens]
                mass = attention_mass(q.index_select(1, tokens), keys[region], words, share, heads, kernel)
                self.masses[number, region] = self.masses.get((number, region), 0.0) + mass

    def attention_masses(self) -> list[Float[Tensor, " regions"] | None]:
        """a_k of every batch row's regions, mean over layers; NaN where a region has no concept or no token.

        None for rows without regions.
        """
        assert self.active is not None
        found: list[Tensor | None] = []
        for number, run in enumerate(self.active.runs):
            count = run.stop - run.start
            if run.plan is None:
                found += [None] * count
                continue
            unknown = torch.full((count,), torch.nan)
            sums = [self.masses.get((number, region), unknown) for region in range(1, len(run.entries) + 1)]
            found += list(torch.stack([s.cpu() / max(1, self.layers) for s in sums], 1)) if sums else [None] * count
        return found


def shared(tensor: Tensor, entry: int, length: int, count: int) -> Tensor:
    """An entry's rows, for each of `count` batch rows."""
    rows = tensor[entry : entry + 1, :length]
    return rows if count == 1 else rows.expand(count, -1, -1).contiguous()
