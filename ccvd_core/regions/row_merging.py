"""Regions' own predictions for a batch of one prompt per row: headless sampling's way of asking for them.

ComfyUI's, around its own batching, is `nodes/host/region_merging.py`; `run.py` decides for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.grid import TokenGrid
from ..backbones.noise_path import NoisePath
from .merging import plain_colour
from .modes import RegionSettings, StepPlan
from .regional_prompt import AnyPrompt, has_regions
from .run import Beginning, LastPredicted, SceneRun

Predict = Callable[[Sequence[AnyPrompt], Tensor, Tensor], tuple[Tensor, Sequence[Tensor | None]]]
"""(one prompt per row, latents, noise level) -> predictions, and the attention that was measured."""


Part = tuple[int, int]
"""A batch row, and a region (from 0) of its scene."""


class RowMerging:
    """Attention-guided noise estimation for one prompt per batch row: every region is predicted on its own, and merged.

    Model calls are no larger than with guidance.
    """

    def __init__(
        self,
        predict: Predict,
        path: NoisePath,
        grid: TokenGrid,
        prompts: Sequence[AnyPrompt],
        settings: RegionSettings,
        noise: Float[Tensor, "batch channels frames height width"],
        colour: Float[Tensor, " channels"] | None,
    ) -> None:
        """`grid` is the latents' token grid; `colour` what Background.COLOUR shows, in latent space (None: 0)."""
        self._predict, self._path, self._grid, self._settings, self._colour = predict, path, grid, settings, colour
        self._frames = torch.arange(noise.shape[2])
        runs = {id(prompt): SceneRun(prompt, settings) for prompt in prompts if has_regions(prompt)}
        self._runs = {row: runs[id(prompt)] for row, prompt in enumerate(prompts) if id(prompt) in runs}
        # Every row is a clip with one scene, number 0.
        self._clips = {row: Beginning(noise[row : row + 1]) for row in self._runs}
        self._last = LastPredicted()

    def measures(self, plan: StepPlan) -> bool:
        """Whether this step's prediction of the scenes is to measure attention."""
        return bool(self._runs) and plan.merge and self._settings.row.measured

    def lacking(self, plan: StepPlan, t: Float[Tensor, ""]) -> list[int]:
        """The rows whose scenes must be predicted without their regions, before this step can merge."""
        return [row for row, clip in self._clips.items() if clip.lacks(plan.background, 0, float(t), self._frames)]

    def remember(
        self,
        rows: Sequence[int],
        latents: Float[Tensor, "batch channels frames height width"],
        empty: Float[Tensor, "rows channels frames height width"],
        t: Float[Tensor, ""],
    ) -> None:
        """Keep what these rows' scenes are without their regions."""
        for row, clean in zip(rows, empty, strict=True):
            first = latents[row : row + 1]
            self._clips[row].remember(0, float(t), self._frames, first, clean[None], latents.shape[2])

    def merged(
        self,
        plan: StepPlan,
        latents: Float[Tensor, "batch channels frames height width"],
        t: Float[Tensor, ""],
        whole: Float[Tensor, "batch channels frames height width"],
        masses: Sequence[Float[Tensor, " regions"] | None],
    ) -> Float[Tensor, "batch channels frames height width"]:
        """`whole`, the prediction for the scenes, with the regions' own; `masses` is what their concepts got in it."""
        every = [(row, region) for row, run in self._runs.items() for region in range(len(run.own))]
        found = {} if plan.anew else self._as_before(every, latents, t)
        missing = [part for part in every if part not in found]
        if missing:
            found |= self._predict_own(missing, latents, plan, t)
        result = whole.clone()
        for row, run in self._runs.items():
            own = torch.stack([found[row, region] for region in range(len(run.own))]).to(whole)
            result[row] = run.merge(whole[row], own, masses[row], self._grid)
        return result

    def _predict_own(
        self, asked: Sequence[Part], latents: Tensor, plan: StepPlan, t: Float[Tensor, ""]
    ) -> dict[Part, Tensor]:
        """The predictions of these regions on their own; kept where later steps will want them."""
        seen = {row: self._background(row, plan, t) for row in self._runs}
        found: dict[Part, Tensor] = {}
        size = 2 * len(latents)
        for some in (asked[start : start + size] for start in range(0, len(asked), size)):
            inputs = torch.stack(
                [self._runs[row].seen(region, latents[row], seen[row], self._grid) for row, region in some]
            )
            predictions, _ = self._predict([self._runs[row].own[region] for row, region in some], inputs, t)
            found.update(zip(some, predictions, strict=True))
            if self._settings.region_every > 1:
                for part, clean in zip(some, self._path.clean(inputs, predictions, t), strict=True):
                    self._last.keep(part, self._frames, clean)
        return found

    def _as_before(self, every: Sequence[Part], latents: Tensor, t: Float[Tensor, ""]) -> dict[Part, Tensor]:
        """By row and region the predictions that mean what was predicted last; nothing for those never predicted."""
        known = {part: self._last.of(part, self._frames) for part in every}
        return {
            part: self._path.towards(latents[part[0]][None], clean[None], t)[0]
            for part, clean in known.items()
            if clean is not None
        }

    def _background(self, row: int, plan: StepPlan, t: Float[Tensor, ""]) -> Tensor | None:
        def coloured(noise: Tensor) -> Tensor:
            return self._path.mix(plain_colour(noise, self._colour), noise, t)

        found = self._clips[row].background(plan.background, 0, float(t), self._frames, coloured)
        return None if found is None else found[0]
