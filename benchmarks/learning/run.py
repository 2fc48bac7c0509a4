"""Does it learn, does it remember, does it bleed: held-out concepts, one after another, on the demo's two models.

    python benchmarks/learning/run.py                 the table: results.csv, contact sheets
    python benchmarks/learning/run.py --models demo   one model; the other's rows stay
    python benchmarks/learning/run.py --tuning        the same on captions kept for choosing settings

A concept whose class words a model does not know is left out for it.

Rows. `ccvd`: this pack's defaults. `paper`: the paper's aggregation over the whole library (sharpness 2, every concept
takes part, text adapters on all words). `plain_lora`: the same rank and steps without concept tokens, always on, all
loaded at strength 1 in the end, as LoRAs are used today. `own_adapter`: only the concept's own file, the ceiling.
`base`: no adapter, the class words alone, the floor.
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
sys.path[:0] = [str(ROOT), str(ROOT / "demo"), str(Path(__file__).parent)]

from bases import BASES, Base  # noqa: E402
from drawing import shows  # noqa: E402
from evaluate import contact_sheet  # noqa: E402
from judging import concept_metrics  # noqa: E402
from lessons import PLANS, TABLE_SEED, TUNING_SEED, LessonPlan, learn  # noqa: E402
from library_use import BASE, CCVD, OWN, PAPER, PLAIN, Method, draw  # noqa: E402
from scene_parts import PARTS  # noqa: E402

from ccvd_core.concepts.concept import Concept  # noqa: E402
from ccvd_core.number_types import number_type  # noqa: E402

ALONE = (OWN.name, BASE.name)
"""Ceiling and floor of identity; bleeding is a matter of how a library is used."""
CLIPS = 24
LEARNED_IN = "float32"
"""Clips are drawn in what this processor computes fast."""
RESULTS = Path(__file__).parent / "results.csv"


@dataclass(frozen=True)
class Row:
    """One line of results.csv."""

    model: str
    method: str
    concept: str
    kind: str
    when: str
    metric: str
    value: float


class Judge:
    """Draws and scores; keeps one sheet of clips per row of the table."""

    def __init__(self, model: str, base: Base, seed: int, sheets: Path) -> None:
        self._model, self._base, self._seed, self._sheets = model, base, seed, sheets

    def rows(self, method: Method, plan: LessonPlan, when: str, concepts: Sequence[Concept]) -> Iterator[Row]:
        """Identity, text alignment, crispness and bleeding of one concept."""
        base, known = self._base, self._base.known
        scenes = plan.judged_scenes(CLIPS, True, self._seed, known)
        captions = [plan.caption(scene) for scene in scenes]
        if not concepts:  # the base alone reads the class words
            captions = [caption.replace(f"<{plan.name}>", plan.class_words) for caption in captions]
        clips = draw(base, method, concepts, captions, range(self._seed, self._seed + CLIPS))
        for metric, value in concept_metrics(base, plan, clips, scenes).items():
            yield Row(self._model, method.name, plan.name, plan.kind, when, metric, value)
        contact_sheet(clips[:8], captions[:8], self._sheets / f"{self._model}_{method.name}_{when}_{plan.name}.png")
        if method.name in ALONE:
            return
        related = plan.judged_scenes(CLIPS, False, self._seed, known)
        apart = range(self._seed + 500, self._seed + 500 + CLIPS)
        clips = draw(base, method, concepts, [scene.caption() for scene in related], apart)
        rng = np.random.default_rng(0)
        bled = [
            shows(plan, clip, PARTS[plan.kind].changed(rng, scene, plan.shown))[0]
            for clip, scene in zip(clips, related, strict=True)
        ]
        yield Row(self._model, method.name, plan.name, plan.kind, when, "bleeding", float(np.mean(bled)))


def run(model: str, seed: int, sheets: Path) -> list[Row]:
    """All rows of one model."""
    base = BASES[model]()
    plans = [plan for plan in PLANS if plan.fits(base.known)]
    judge, rows = Judge(model, base, seed, sheets), []

    def add(new: Iterator[Row]) -> None:
        for row in new:
            rows.append(row)
            print(f"{row.method:12} {row.concept:8} {row.when:12} {row.metric:15} {row.value:.3f}", flush=True)

    for plain, methods in ((False, (CCVD, PAPER)), (True, (PLAIN,))):
        learned: list[Concept] = []
        for plan in plans:
            concept, seconds = learn(base, plan, learned, plain)
            learned.append(concept)
            add(iter([Row(model, methods[0].name, plan.name, plan.kind, "learning", "seconds", seconds)]))
            # A plain LoRA is judged alone right after learning, as its owner would.
            add(judge.rows(methods[0], plan, "learned", [concept] if plain else learned))
            if not plain:
                add(judge.rows(OWN, plan, "learned", [concept]))
                add(judge.rows(BASE, plan, "before", []))
        for plan in plans:
            for method in methods:
                add(judge.rows(method, plan, "after_all", learned))
    return rows


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Put the rows in the place of their models' earlier ones."""
    kept: list[list[str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [line for line in list(csv.reader(file))[1:] if line[0] not in {row.model for row in rows}]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(column.name for column in fields(Row)), "number_type"])
        writer.writerows(kept)
        for row in rows:
            drawn_in = LEARNED_IN if row.metric == "seconds" else number_type()
            writer.writerow([*astuple(row)[:-1], f"{row.value:.4f}", drawn_in])


def summarise(rows: Sequence[Row]) -> str:
    """Means over concepts: one line per method and moment."""
    metrics = ("identity", "text_alignment", "object", "crispness", "bleeding")
    lines = [f"{'method':12} {'when':10}" + "".join(f"{metric:>16}" for metric in metrics)]
    for method, when in dict.fromkeys((row.method, row.when) for row in rows if row.metric == "identity"):
        cells = []
        for metric in metrics:
            values = [r.value for r in rows if (r.method, r.when, r.metric) == (method, when, metric)]
            cells.append(f"{np.mean(values):.3f}" if values else "-")
        lines.append(f"{method:12} {when:10}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(BASES), default=list(BASES))
    parser.add_argument("--tuning", action="store_true", help="captions for choosing settings; writes no results.csv")
    parser.add_argument("--sheets", type=Path, default=Path(__file__).parent / "sheets")
    args = parser.parse_args()
    args.sheets.mkdir(parents=True, exist_ok=True)
    seed = TUNING_SEED if args.tuning else TABLE_SEED
    print(f"drawing in {number_type()}", flush=True)
    for model in args.models:
        rows = run(model, seed, args.sheets)
        print(f"{model}\n{summarise(rows)}", flush=True)
        if not args.tuning:
            write_csv(rows, RESULTS)


if __name__ == "__main__":
    main()
