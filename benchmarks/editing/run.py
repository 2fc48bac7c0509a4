"""How well are clips changed: restyled, with another subject in a region, or with a motion taken from one clip?

    python benchmarks/editing/run.py                 the table: results.csv, contact sheets
    python benchmarks/editing/run.py --tuning        clips kept for choosing settings; writes nothing

Rows: `ccvd` (ours), `stock_partial` (partial denoising with the base's own words, without a concept), `stock_masked`
(for a region: ComfyUI's masked conditioning with the same concept and noise mask), `ceiling` (a perfect edit). Metrics
are in tasks_of_editing.py; `psnr_outside` is of everything outside the region against the source passed through the
VAE, in dB.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "demo", "benchmarks/editing", "benchmarks/regions", "benchmarks/learning")
sys.path[:0] = [str(ROOT / folder) for folder in FOLDERS]

import lessons  # noqa: E402
from bases import Base, load_demo  # noqa: E402
from evaluate import contact_sheet  # noqa: E402
from judging import through_model  # noqa: E402
from lessons import LessonPlan, learn  # noqa: E402
from methods import masked_latents  # noqa: E402
from tasks_of_editing import (  # noqa: E402
    MOTIONS,
    STYLES,
    SUBJECTS,
    TABLE_SEED,
    TUNING_SEED,
    Edit,
    edits,
    psnr,
    replaced,
    restyled,
    transferred,
)

from ccvd_core.attaching.attachment import Attachment  # noqa: E402
from ccvd_core.concepts.concept import Concept  # noqa: E402
from ccvd_core.number_types import fast_autocast, number_type  # noqa: E402
from ccvd_core.prompts.aggregate import aggregate  # noqa: E402
from ccvd_core.prompts.concept_prompt import ConceptPrompt  # noqa: E402
from ccvd_core.regions.edit_masks import frame_masks, latent_mask  # noqa: E402
from ccvd_core.regions.modes import RegionSettings  # noqa: E402
from ccvd_core.regions.regional_prompt import AnyPrompt, RegionalPrompt  # noqa: E402
from ccvd_core.regions.scene import aggregate_scene  # noqa: E402
from ccvd_core.sampling import Source, sample  # noqa: E402

STEPS, CFG = 20, 3.0
RESTYLE_DENOISE = 0.7
"""Chosen on tuning clips: less keeps the old colours, more loses the path."""
RESULTS = Path(__file__).parent / "results.csv"


@dataclass(frozen=True)
class Shop:
    """The base with what it has learned, at work on one clip at a time."""

    base: Base
    concepts: Mapping[str, Concept]

    def plain(self, edit: Edit, denoise: float, masked: bool = False) -> Tensor:
        """Partial denoising with the base's own words."""
        return self._sampled(edit, [], self._said(edit.plain_prompt(), []), denoise, masked)

    def named(self, edit: Edit, denoise: float) -> Tensor:
        """The same with the concept in the prompt."""
        concepts = [self.concepts[edit.plan.name]]
        return self._sampled(edit, concepts, self._said(edit.prompt(), concepts), denoise, False)

    def in_region(self, edit: Edit) -> Tensor:
        """Region attention and a noise mask, both from the region."""
        concepts = [self.concepts[edit.plan.name]]
        return self._sampled(edit, concepts, self._scene(edit, concepts), 1.0, True)

    def masked(self, edit: Edit) -> Tensor:
        """Masked conditioning of the region's prompt and of the surroundings', and the same noise mask.

        The source is put back after sampling instead of at every step, where its pixels are the same.
        """
        concepts, backbone = [self.concepts[edit.plan.name]], self.base.backbone
        scene, noise = self._scene(edit, concepts), self.base.noise([seed_of(edit)])
        with Attachment(backbone, [concept.adapters for concept in concepts]) as attachment, fast_autocast():
            made = masked_latents(backbone, attachment, [scene], self._said("", concepts), noise, STEPS, CFG)
        source, mask = self._source(edit), self._mask(edit)
        return self.base.to_clips(torch.lerp(source, made.to(source), mask))[0]

    def fresh(self, edit: Edit) -> Tensor:
        """A new clip of the prompt, without a source."""
        concepts = [self.concepts[edit.plan.name]]
        return self._sampled(edit, concepts, self._said(edit.prompt(), concepts), None, False)

    def _sampled(
        self, edit: Edit, concepts: Sequence[Concept], prompt: AnyPrompt, denoise: float | None, masked: bool
    ) -> Tensor:
        backbone, noise = self.base.backbone, self.base.noise([seed_of(edit)])
        source = None
        if denoise is not None:
            source = Source(self._source(edit), denoise, self._mask(edit) if masked else None)
        steps = STEPS if denoise is None else max(1, round(STEPS * denoise))
        with Attachment(backbone, [concept.adapters for concept in concepts]) as attachment, fast_autocast():
            mode = RegionSettings("attention") if isinstance(prompt, RegionalPrompt) else None
            negative = replace(self._said("", concepts))
            made = sample(backbone, attachment, [prompt], negative, noise, steps, CFG, regions=mode, source=source)
            return self.base.to_clips(made)[0]

    def _said(self, text: str, concepts: Sequence[Concept]) -> ConceptPrompt:
        prompt = aggregate(self.base.backbone, text, concepts).prompt
        return prompt if text else replace(prompt, weights=torch.zeros_like(prompt.weights))

    def _scene(self, edit: Edit, concepts: Sequence[Concept]) -> RegionalPrompt:
        around = f"on {edit.wanted.background}"
        return aggregate_scene(self.base.backbone, around, edit.regions(), concepts).prompt

    def _source(self, edit: Edit) -> Tensor:
        return self.base.encoded(edit.source.render())[None]

    def _mask(self, edit: Edit) -> Tensor:
        latents = self._source(edit)
        return latent_mask(outside_is_zero(edit), latents.shape, self.base.backbone.video.frame_step)


def ceiling(shop: Shop, edit: Edit) -> Tensor:
    """What is wanted as the world draws it, through the VAE: what the judge gives a perfect edit."""
    real = torch.from_numpy(edit.wanted.render()).float() / 255
    return through_model(shop.base, real[None])[0]


def outside_is_zero(edit: Edit) -> Tensor:
    """1 in the region, per frame: [frames, height, width]."""
    clip = edit.clip()
    return frame_masks(edit.regions(), *clip.shape[:3])


def seed_of(edit: Edit) -> int:
    """The noise of an edit: the same for all methods."""
    return sum(map(ord, edit.prompt())) * 1009 % 100_003


def with_outside(measure: Callable[[Edit, Tensor], dict[str, float]]) -> Callable[[Base, Edit, Tensor], dict]:
    """The measure and what is left of everything outside the region."""

    def measured(base: Base, edit: Edit, clip: Tensor) -> dict[str, float]:
        before = through_model(base, edit.clip()[None])[0]
        return {**measure(edit, clip), "psnr_outside": psnr(clip, before, outside_is_zero(edit) == 0)}

    return measured


@dataclass(frozen=True)
class Task:
    """Which concepts come into the clips, the rows, and what is measured."""

    plans: tuple[LessonPlan, ...]
    methods: Mapping[str, Callable[[Shop, Edit], Tensor]]
    measure: Callable[[Base, Edit, Tensor], dict[str, float]]
    examples: int = lessons.EXAMPLES
    """Pictures or clips that each concept is learned from."""


TASKS = {
    "restyle a video": Task(
        STYLES,
        {
            "ccvd": lambda shop, edit: shop.named(edit, RESTYLE_DENOISE),
            "stock_partial": lambda shop, edit: shop.plain(edit, RESTYLE_DENOISE),
        },
        lambda base, edit, clip: restyled(edit, clip),
    ),
    "replace a subject": Task(
        SUBJECTS,
        {
            "ccvd": lambda shop, edit: shop.in_region(edit),
            "stock_partial": lambda shop, edit: shop.plain(edit, 1.0, masked=True),
            "stock_masked": lambda shop, edit: shop.masked(edit),
        },
        with_outside(replaced),
    ),
    "transfer a motion": Task(
        MOTIONS,
        {
            "ccvd": lambda shop, edit: shop.fresh(edit),
            "stock_partial": lambda shop, edit: shop.plain(edit, RESTYLE_DENOISE),
        },
        lambda base, edit, clip: transferred(edit, clip),
        examples=1,
    ),
}


@dataclass(frozen=True)
class Row:
    """One line of results.csv."""

    task: str
    method: str
    seed: int
    metric: str
    value: float


def rows_of(
    name: str, base: Base, concepts: Mapping[str, Concept], clips: int, seed: int, sheets: Path
) -> Iterator[Row]:
    """Means over clips of every row of a task."""
    task, shop = TASKS[name], Shop(base, concepts)
    cases = edits(task.plans, clips, seed, base.known)
    for method, change in {"ceiling": ceiling, **task.methods}.items():
        made = [change(shop, edit) for edit in cases]
        found = [task.measure(base, edit, clip) for edit, clip in zip(cases, made, strict=True)]
        for metric in found[0]:
            yield Row(name, method, seed, metric, float(np.mean([one[metric] for one in found])))
        pairs = [clip for edit, after in zip(cases[:6], made, strict=False) for clip in (edit.clip(), after)]
        captions = [text for edit in cases[:6] for text in (edit.source.caption(), edit.prompt())]
        contact_sheet(torch.stack(pairs), captions, sheets / f"{method} {name}.png", columns=2)


def learned(task: Task, base: Base) -> dict[str, Concept]:
    """The task's concepts, learned one after another."""
    concepts: dict[str, Concept] = {}
    for plan in task.plans:
        concept, seconds = learn(base, plan, list(concepts.values()), count=task.examples)
        print(f"learned {plan.name} in {seconds:.0f} s", flush=True)
        concepts[plan.name] = concept
    return concepts


def write_csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "method", "seed", "metric", "value", "number_type"])
        for r in rows:
            writer.writerow([r.task, r.method, r.seed, r.metric, f"{r.value:.4f}", number_type()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuning", action="store_true", help="other clips; writes no results.csv")
    parser.add_argument("--clips", type=int, default=48, help="per task")
    parser.add_argument("--sheets", type=Path, default=Path(__file__).parent / "sheets")
    args = parser.parse_args()
    args.sheets.mkdir(parents=True, exist_ok=True)
    base, seed = load_demo(), TUNING_SEED if args.tuning else TABLE_SEED
    print(f"drawing in {number_type()}", flush=True)
    rows: list[Row] = []
    for name, task in TASKS.items():
        for row in rows_of(name, base, learned(task, base), args.clips, seed, args.sheets):
            rows.append(row)
            print(f"{row.task:20} {row.method:14} {row.metric:14} {row.value:.3f}", flush=True)
        if not args.tuning:
            write_csv(rows, RESULTS)


if __name__ == "__main__":
    main()
