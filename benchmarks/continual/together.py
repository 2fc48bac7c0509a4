"""Several learned concepts at once: where keeping their directions apart should matter most, if it matters.

    python benchmarks/continual/together.py                      rows in together.csv
    python benchmarks/continual/together.py --seeds 0 --clips 4

Six held-out subjects are learned one after another, with the retention loss (`ccvd`, and its `trace` form) and without
(`no_retention`). Then clips of three of them in one scene are drawn, `named` (the pack's defaults: those three act) and
with `all` six taking part, as in the paper. `found`: share of the three that are seen in the first and in the last
frame; `all_found`: share of the clips with all three.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "demo"), str(ROOT / "benchmarks/learning"), str(HERE)]

from bases import Base, load_demo  # noqa: E402
from evaluate import contact_sheet  # noqa: E402
from lessons import LessonPlan, learn_from  # noqa: E402
from library_use import CCVD, PAPER, draw  # noqa: E402
from scene_parts import PARTS  # noqa: E402
from tasks import TABLE_SEED, tasks_for  # noqa: E402
from training import encoded_examples  # noqa: E402
from world.reader import find  # noqa: E402
from world.scenes import Choices, Scene, random_scene  # noqa: E402
from world.subjects import held_out_subject  # noqa: E402

from ccvd_core.concepts.concept import Concept  # noqa: E402
from ccvd_core.learning.plan import usual_settings  # noqa: E402
from ccvd_core.number_types import number_type  # noqa: E402

RESULTS = HERE / "together.csv"
LEARNED, AT_ONCE = 6, 3
METHODS: Mapping[str, Mapping[str, Any]] = {
    "ccvd": {},
    "no_retention": {"retention": 0.0},
    "trace": {"retention_form": "trace"},
}
"""Learning settings that differ from the preset."""
USES = {"named": CCVD, "all": PAPER}


@dataclass(frozen=True)
class Row:
    """One line of together.csv."""

    method: str
    setting: str
    seed: int
    metric: str
    value: float


@dataclass(frozen=True)
class Case:
    """A scene of three learned subjects, and their names in it."""

    scene: Scene
    plans: tuple[LessonPlan, ...]

    def prompt(self) -> str:
        text = self.scene.caption()
        for plan in self.plans:
            text = text.replace(plan.shown, f"<{plan.name}>", 1)
        return text


def subjects(known: Choices) -> list[LessonPlan]:
    """The first subjects of the benchmark's tasks."""
    return [task for task in tasks_for(known) if PARTS[task.kind].is_object][:LEARNED]


def random_cases(plans: Sequence[LessonPlan], count: int, seed: int, known: Choices) -> list[Case]:
    rng, cases = np.random.default_rng([seed, count]), []
    for _ in range(count):
        chosen = tuple(plans[index] for index in rng.permutation(len(plans))[:AT_ONCE])
        scene = random_scene(rng, AT_ONCE, replace(known, described=False), styled=0.0)
        cast = zip(scene.actors, chosen, strict=True)
        actors = tuple(replace(actor, subject=held_out_subject(plan.shown)) for actor, plan in cast)
        cases.append(Case(replace(scene, actors=actors), chosen))
    return cases


def found(case: Case, clip: Tensor) -> list[bool]:
    """Whether each of the three is seen in the first and in the last frame of a clip [frames, h, w, 3] in 0..1."""
    words = [
        {one.sprite.word for one in find(frame, case.scene.background, case.scene.style, AT_ONCE + 1)[0]}
        for frame in (clip[0], clip[-1])
    ]
    return [all(plan.shown in seen for seen in words) for plan in case.plans]


def learned(base: Base, changed: Mapping[str, Any], seed: int, steps: int) -> list[Concept]:
    """The subjects, one after another."""
    concepts: list[Concept] = []
    for plan in subjects(base.known):
        usual = usual_settings(base.backbone, plan.kind)
        settings = replace(usual, steps=steps or usual.steps, seed=seed, **changed)
        examples = encoded_examples(base, plan, settings.still_frames)
        concepts.append(learn_from(base, plan, examples, concepts, settings))
    return concepts


def rows_of(base: Base, method: str, seed: int, clips: int, steps: int, sheets: Path | None) -> Iterator[Row]:
    """One method with one seed, in both settings."""
    concepts = learned(base, METHODS[method], seed, steps)
    cases = random_cases(subjects(base.known), clips, TABLE_SEED + seed, base.known)
    for setting, use in USES.items():
        drawn = draw(base, use, concepts, [case.prompt() for case in cases], range(seed * 1000, seed * 1000 + clips))
        if sheets:
            contact_sheet(drawn[:9], [case.prompt() for case in cases[:9]], sheets / f"{method}_{setting}_{seed}.png")
        seen = np.array([found(case, clip) for case, clip in zip(cases, drawn, strict=True)])
        yield Row(method, setting, seed, "found", float(seen.mean()))
        yield Row(method, setting, seed, "all_found", float(seen.all(1).mean()))


def write_csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(column.name for column in fields(Row)), "number_type"])
        writer.writerows((*astuple(row)[:-1], f"{row.value:.4f}", number_type()) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=40, help="per row")
    parser.add_argument("--steps", type=int, default=0, help="learning steps; 0: the preset's")
    parser.add_argument("--sheets", type=Path, default=HERE / "sheets")
    args = parser.parse_args()
    args.sheets.mkdir(parents=True, exist_ok=True)
    base, rows = load_demo(), []
    print(f"drawing in {number_type()}", flush=True)
    for seed in args.seeds:
        for method in METHODS:
            for row in rows_of(base, method, seed, args.clips, args.steps, args.sheets):
                rows.append(row)
                print(f"{row.method:14} {row.setting:6} {row.seed} {row.metric:10} {row.value:.3f}", flush=True)
            write_csv(rows, RESULTS)


if __name__ == "__main__":
    main()
