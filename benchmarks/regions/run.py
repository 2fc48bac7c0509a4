"""Does every concept stay in its own region, and what does it cost? On the demo base, with four held-out subjects.

    python benchmarks/regions/run.py                    the tables: results.csv, contact sheets
    python benchmarks/regions/run.py --tuning           placement on layouts kept for choosing settings; writes nothing
    python benchmarks/regions/run.py --only cost        one part: placement, cost, library; other rows stay

Rows are described in methods.py, the metrics in measure.py and benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "demo", "benchmarks/regions", "benchmarks/learning", "benchmarks/cost")
sys.path[:0] = [str(ROOT / folder) for folder in FOLDERS]

from bases import load_demo  # noqa: E402
from cost import library_cost, step_cost, wan_step_cost  # noqa: E402
from evaluate import contact_sheet  # noqa: E402
from layouts import PLANS, TABLE_SEED, TUNING_SEED, random_cases  # noqa: E402
from lessons import learn  # noqa: E402
from measure import placements  # noqa: E402
from methods import METHODS, Studio, draw  # noqa: E402

from ccvd_core import number_types  # noqa: E402
from ccvd_core.concepts.library import ConceptLibrary  # noqa: E402

COUNTS = (2, 3, 4)
PARTS = ("placement", "cost", "library")
TIMED_IN = "float32"
"""Clips are drawn in what this processor computes fast; times are compared in float32 everywhere."""


@dataclass(frozen=True)
class Row:
    """One line of results.csv."""

    method: str
    regions: int
    moving: str
    seed: int
    metric: str
    value: float
    number_type: str = field(default_factory=number_types.number_type)


def prepare(kept: Path | None) -> Studio:
    """The demo base with four concepts learned one after another, by the pack's defaults.

    `kept` is a library folder in which they are found again by the next run.
    """
    base, concepts = load_demo(), []
    library = ConceptLibrary(kept) if kept else None
    for plan in PLANS:
        if library and plan.name in library.names():
            concepts.append(library.load(plan.name))
            continue
        concept, seconds = learn(base, plan, concepts)
        print(f"learned <{plan.name}> in {seconds:.0f} s", flush=True)
        concepts.append(library.add(concept) if library else concept)
    return Studio(base, base.backbone, tuple(concepts))


def placement(
    studio: Studio, methods: Sequence[str], counts: Sequence[int], layouts: Sequence[int], seed: int, sheets: Path
) -> Iterator[Row]:
    """Share of regions whose concept is placed, and into which another one leaked."""
    for count, number in zip(counts, layouts, strict=True):
        cases = random_cases(number, count, seed)
        for method in methods:
            clips = draw(studio, method, cases, seed)
            judged = [placements(clip, case) for clip, case in zip(clips, cases, strict=True)]
            contact_sheet(clips[:9], [case.prompt for case in cases[:9]], sheets / f"{method}_{count}.png")
            for moving in (False, True):
                some = [p for regions, c in zip(judged, cases, strict=True) if c.moving == moving for p in regions]
                for metric in ("placed", "leaked"):
                    share = float(np.mean([getattr(region, metric) for region in some]))
                    yield Row(method, count, "yes" if moving else "no", seed, metric, share)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Put these rows in the place of those that they measure again, and keep the others."""
    places = len(fields(Row)) - 2  # all but the value and its number type say what is measured
    replaced = {tuple(map(str, astuple(row)[:places])) for row in rows}
    kept: list[list[str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [line for line in list(csv.reader(file))[1:] if tuple(line[:places]) not in replaced]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in fields(Row)])
        writer.writerows(kept)
        writer.writerows(astuple(replace(row, value=f"{row.value:.4f}")) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--tuning", action="store_true", help="other layouts; writes no results.csv")
    parser.add_argument("--layouts", type=int, nargs="+", default=[100], help="per row, half of them moving; per count")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--concepts", type=Path, help="library folder that keeps the learned concepts")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="regions per layout")
    parser.add_argument("--sheets", type=Path, default=Path(__file__).parent / "sheets")
    args = parser.parse_args()
    args.sheets.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    parts = [args.only] if args.only else list(PARTS)
    seed = TUNING_SEED if args.tuning else TABLE_SEED
    layouts = args.layouts if len(args.layouts) > 1 else args.layouts * len(args.counts)
    rows: list[Row] = []
    print(f"drawing in {number_types.number_type()}", flush=True)

    def add(row: Row) -> None:
        rows.append(row)
        print(f"{row.method:26} {row.regions} {row.moving:3} {row.metric:14} {row.value:.3f}", flush=True)

    if "placement" in parts:
        for row in placement(prepare(args.concepts), args.methods, args.counts, layouts, seed, args.sheets):
            add(row)
    if "cost" in parts:
        for method, count, ratio in chain(step_cost(load_demo()), wan_step_cost()):
            add(Row(method, count, "", seed, "step_ratio", ratio, TIMED_IN))
    if "library" in parts:
        for method, count, metric, value in library_cost():
            add(Row(method, count, "", seed, metric, value, TIMED_IN))
    if not args.tuning:
        write_csv(rows, Path(__file__).parent / "results.csv")


if __name__ == "__main__":
    main()
