"""Do concepts that were learned one after another work together? Two or three at once, of one kind or several.

    python benchmarks/composition/run.py                the table: results.csv, contact sheets
    python benchmarks/composition/run.py --tuning       scenes kept for choosing settings; writes nothing

Rows: `ccvd` (this pack's defaults; in regions the mode `one at a time` with `contrast_steps` 0.4), `paper` (the paper's
aggregation over the whole library; in regions its own mode), `lora_stack` (plain LoRAs of the same rank and steps,
those of the scene loaded at strength 1, as ComfyUI's loaders stack them; in regions masked conditioning), `part_alone`
(only the one concept that is looked for, class words in the others' places: the ceiling).
Values: share of clips in which a concept of the kind is seen; `second` is the subject beside. `all`: every one is seen.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "demo", "benchmarks/composition", "benchmarks/regions", "benchmarks/learning")
sys.path[:0] = [str(ROOT / folder) for folder in FOLDERS]

from bases import Base, load_demo  # noqa: E402
from cases import COMBINATIONS, PLANS, TABLE_SEED, TUNING_SEED, Case, random_cases  # noqa: E402
from evaluate import contact_sheet  # noqa: E402
from lessons import LessonPlan, learn  # noqa: E402
from library_use import CCVD, PAPER, PLAIN, Method, draw  # noqa: E402
from parts_seen import seen  # noqa: E402
from regional_use import CONTRASTED, MASKED, MERGED, RegionUse, draw_regions  # noqa: E402

from ccvd_core.concepts.concept import Concept  # noqa: E402
from ccvd_core.number_types import number_type  # noqa: E402

RESULTS = Path(__file__).parent / "results.csv"
ALONE = "part_alone"


@dataclass(frozen=True)
class Way:
    """A row of the table: how the concepts of a scene are used, without and with regions."""

    method: Method
    regions: RegionUse
    plain: bool = False
    """Learned as plain LoRAs."""
    only_named: bool = False
    """Only the scene's own concepts are loaded."""


WAYS = {
    "ccvd": Way(CCVD, CONTRASTED),
    "paper": Way(PAPER, MERGED),
    "lora_stack": Way(PLAIN, MASKED, plain=True, only_named=True),
}


@dataclass(frozen=True)
class Row:
    """One line of results.csv."""

    method: str
    combination: str
    seed: int
    metric: str
    value: float


@dataclass(frozen=True)
class Trial:
    """What was learned, and on which scenes it is judged."""

    base: Base
    concepts: Sequence[Concept]
    loras: Sequence[Concept]
    seed: int
    clips: int
    sheets: Path | None = None

    def rows(self, combination: str) -> Iterator[Row]:
        """All rows of a combination."""
        cases = random_cases(COMBINATIONS[combination], self.clips, self.seed, self.base.known)
        for name, way in WAYS.items():
            found = self._judged(name, combination, cases, self._drawn(way, cases, lambda case: case.plans))
            yield from self._shares(name, combination, cases, found)
        yield from self._alone(combination, cases)

    def _alone(self, combination: str, cases: Sequence[Case]) -> Iterator[Row]:
        """Every part with its own concept only, in the same scenes."""
        parts = range(len(cases[0].plans))
        found: list[dict[LessonPlan, bool]] = [{} for _ in cases]
        for part in parts:
            clips = self._drawn(WAYS["ccvd"], cases, lambda case, part=part: case.plans[part : part + 1])
            for case, one, answers in zip(cases, found, self._judged("", combination, cases, clips), strict=True):
                one[case.plans[part]] = answers[case.plans[part]]
        yield from self._shares(ALONE, combination, cases, found)

    def _drawn(self, way: Way, cases: Sequence[Case], named: Callable[[Case], Sequence[LessonPlan]]) -> list[Tensor]:
        """A clip of each case; cases that load the same concepts are drawn together."""
        learned = self.loras if way.plain else self.concepts
        groups: dict[tuple[str, ...], list[int]] = {}
        for number, case in enumerate(cases):
            names = [plan.name for plan in named(case)] if way.only_named else [concept.name for concept in learned]
            groups.setdefault(tuple(sorted(names)), []).append(number)
        clips: dict[int, Tensor] = {}
        for names, numbers in groups.items():
            used = [concept for concept in learned if concept.name in names]
            some = [cases[number] for number in numbers]
            seeds = [self.seed + number for number in numbers]
            if cases[0].boxes:
                regions = [case.regions(named(case)) for case in some]
                texts = [f"on {case.scene.background}" for case in some]
                made = draw_regions(self.base, way.regions, used, texts, regions, seeds)
            else:
                made = draw(self.base, way.method, used, [case.prompt(named(case)) for case in some], seeds)
            clips |= dict(zip(numbers, made, strict=True))
        return [clips[number] for number in range(len(cases))]

    def _judged(
        self, name: str, combination: str, cases: Sequence[Case], clips: list[Tensor]
    ) -> list[dict[LessonPlan, bool]]:
        if self.sheets and name:
            captions = [case.prompt(case.plans) for case in cases[:9]]
            contact_sheet(torch.stack(clips[:9]), captions, self.sheets / f"{name} {combination}.png")
        return [seen(case, clip) for case, clip in zip(cases, clips, strict=True)]

    def _shares(
        self, name: str, combination: str, cases: Sequence[Case], found: Sequence[dict[LessonPlan, bool]]
    ) -> Iterator[Row]:
        for part, plan in enumerate(cases[0].plans):
            kind = "second" if part and plan.kind == cases[0].plans[0].kind else plan.kind
            share = np.mean([answers[case.plans[part]] for case, answers in zip(cases, found, strict=True)])
            yield Row(name, combination, self.seed, kind, float(share))
        everything = np.mean([all(answers.values()) for answers in found])
        yield Row(name, combination, self.seed, "all", float(everything))


def learned(base: Base, plain: bool) -> list[Concept]:
    """The concepts in their order, those whose class words the base knows."""
    concepts: list[Concept] = []
    for plan in PLANS:
        concept, seconds = learn(base, plan, concepts, plain)
        print(f"learned {plan.name} in {seconds:.0f} s", flush=True)
        concepts.append(concept)
    return concepts


def write_csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "combination", "seed", "metric", "value", "number_type"])
        for r in rows:
            writer.writerow([r.method, r.combination, r.seed, r.metric, f"{r.value:.4f}", number_type()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuning", action="store_true", help="other scenes; writes no results.csv")
    parser.add_argument("--clips", type=int, default=48, help="per combination")
    parser.add_argument("--sheets", type=Path, default=Path(__file__).parent / "sheets")
    args = parser.parse_args()
    args.sheets.mkdir(parents=True, exist_ok=True)
    base = load_demo()
    seed = TUNING_SEED if args.tuning else TABLE_SEED
    print(f"drawing in {number_type()}", flush=True)
    trial = Trial(base, learned(base, False), learned(base, True), seed, args.clips, args.sheets)
    rows: list[Row] = []
    for combination in COMBINATIONS:
        for row in trial.rows(combination):
            rows.append(row)
            print(f"{row.method:12} {row.combination:46} {row.metric:8} {row.value:.3f}", flush=True)
        if not args.tuning:
            write_csv(rows, RESULTS)


if __name__ == "__main__":
    main()
