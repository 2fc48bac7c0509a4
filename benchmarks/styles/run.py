"""How is a learned style kept from burning out under guidance? Cheap ways that are known, on the demo base.

    python benchmarks/styles/run.py                     the table: results.csv, contact sheets
    python benchmarks/styles/run.py --tuning            captions kept for choosing settings; writes nothing

The rows are in guidance.py. `identity`: the style is seen; `text_alignment`: everything else that the caption says
holds; `object`: who is in the first frame is still there in the last one; `crispness`: of what the world draws.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("", "demo", "benchmarks/styles", "benchmarks/learning")]

from bases import Base, load_demo  # noqa: E402
from evaluate import contact_sheet  # noqa: E402
from guidance import WAYS, draw  # noqa: E402
from judging import concept_metrics  # noqa: E402
from lessons import TABLE_SEED, TUNING_SEED, LessonPlan, learn, style  # noqa: E402

from ccvd_core.concepts.concept import Concept  # noqa: E402
from ccvd_core.number_types import number_type  # noqa: E402

PLANS = tuple(
    style(name, shown)
    for name, shown in (
        ("noir", "noir"),
        ("print", "blueprint"),
        ("invert", "negative"),
        ("lilac", "lavender"),
        ("panel", "comic"),
    )
)
RESULTS = Path(__file__).parent / "results.csv"


@dataclass(frozen=True)
class Row:
    """One line of results.csv."""

    way: str
    style: str
    seed: int
    metric: str
    value: float


def rows_of(
    base: Base, plan: LessonPlan, concept: Concept, ways: Sequence[str], clips: int, seed: int, sheets: Path
) -> Iterator[Row]:
    """Every way of guiding one style, on the same captions from the same noise."""
    scenes = plan.judged_scenes(clips, True, seed, base.known)
    texts = [plan.caption(scene) for scene in scenes]
    plain = [text.replace(f"<{plan.name}>", plan.class_words) for text in texts]
    for name in ways:
        drawn = draw(base, WAYS[name], concept, texts, plain, range(seed, seed + clips))
        contact_sheet(drawn[:8], texts[:8], sheets / f"{name}_{plan.name}.png")
        for metric, value in concept_metrics(base, plan, drawn, scenes).items():
            yield Row(name, plan.name, seed, metric, value)


def summarise(rows: Sequence[Row]) -> str:
    """Means over styles."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    lines = [f"{'way':20}" + "".join(f"{metric:>16}" for metric in metrics)]
    for way in dict.fromkeys(row.way for row in rows):
        means = [np.mean([r.value for r in rows if (r.way, r.metric) == (way, metric)]) for metric in metrics]
        lines.append(f"{way:20}" + "".join(f"{mean:>16.3f}" for mean in means))
    return "\n".join(lines)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(column.name for column in fields(Row)), "number_type"])
        writer.writerows((*astuple(row)[:-1], f"{row.value:.4f}", number_type()) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuning", action="store_true", help="other captions; writes no results.csv")
    parser.add_argument("--clips", type=int, default=24, help="per row")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--sheets", type=Path, default=Path(__file__).parent / "sheets")
    args = parser.parse_args()
    args.sheets.mkdir(parents=True, exist_ok=True)
    base, seed = load_demo(), TUNING_SEED if args.tuning else TABLE_SEED
    print(f"drawing in {number_type()}", flush=True)
    rows: list[Row] = []
    for plan in PLANS:
        concept, seconds = learn(base, plan, [])
        print(f"learned {plan.name} in {seconds:.0f} s", flush=True)
        for row in rows_of(base, plan, concept, args.ways, args.clips, seed, args.sheets):
            rows.append(row)
            print(f"{row.way:20} {row.style:8} {row.metric:15} {row.value:.3f}", flush=True)
        if not args.tuning:
            write_csv(rows, RESULTS)
    print(summarise(rows))


if __name__ == "__main__":
    main()
