"""Does it learn, does it remember, does it bleed: six held-out concepts, one after another, on the demo base.

    python benchmarks/learning/run.py                 the table: results.csv, contact sheets
    python benchmarks/learning/run.py --tuning        the same on captions kept for choosing settings

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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "demo"), str(Path(__file__).parent)]

from base import DemoBase, load_base  # noqa: E402
from drawing import draw_prompts, shows  # noqa: E402
from evaluate import contact_sheet  # noqa: E402
from lessons import PLANS, TABLE_SEED, TUNING_SEED, LessonPlan, learn  # noqa: E402
from scene_parts import PARTS  # noqa: E402
from scorer import Scorer  # noqa: E402

from ccvd_core.backbones.base import Backbone  # noqa: E402
from ccvd_core.concepts.concept import Concept  # noqa: E402
from ccvd_core.number_types import number_type  # noqa: E402
from ccvd_core.prompts.aggregate import aggregate  # noqa: E402
from ccvd_core.prompts.aggregation import PAPER_SETTINGS, AggregationSettings  # noqa: E402
from ccvd_core.prompts.concept_prompt import ConceptPrompt  # noqa: E402

ALONE = ("own_adapter", "base")
"""Ceiling and floor of identity; bleeding is a matter of how a library is used."""
CLIPS = 24
LEARNED_IN = "float32"
"""Clips are drawn in what this processor computes fast."""


@dataclass(frozen=True)
class Row:
    """One line of results.csv."""

    method: str
    concept: str
    kind: str
    when: str
    metric: str
    value: float


@dataclass(frozen=True)
class Method:
    """How a set of learned concepts is used."""

    name: str
    settings: AggregationSettings
    own_rows_only: bool = True
    always_on: bool = False
    """Every concept at full weight on every prompt, as LoRAs that are simply loaded."""

    def prompt(self, backbone: Backbone, text: str, concepts: Sequence[Concept]) -> ConceptPrompt:
        prompt = aggregate(backbone, text, concepts, self.settings, own_rows_only=self.own_rows_only).prompt
        if not self.always_on:
            return prompt
        return replace(prompt, weights=torch.ones_like(prompt.weights), gates=torch.ones_like(prompt.gates))


CCVD = Method("ccvd", AggregationSettings())
PAPER = Method("paper", PAPER_SETTINGS, own_rows_only=False)
PLAIN = Method("plain_lora", AggregationSettings(), always_on=True)


def draw(base: DemoBase, method: Method, concepts: Sequence[Concept], captions: Sequence[str], seed: int) -> Tensor:
    """Clips [n, frames, height, width, 3] of captions; clip i always starts from the same noise."""
    backbone = base.backbone()
    prompts = [method.prompt(backbone, caption, concepts) for caption in captions]
    negative = method.prompt(backbone, "", concepts)
    if not method.always_on:
        negative = replace(negative, weights=torch.zeros_like(negative.weights))
    return draw_prompts(base, [concept.adapters for concept in concepts], prompts, negative, seed)


class Judge:
    """Draws and scores; keeps one sheet of clips per row of the table."""

    def __init__(self, base: DemoBase, seed: int, sheets: Path) -> None:
        self._base, self._seed, self._sheets, self._scorer = base, seed, sheets, Scorer()

    def rows(self, method: Method, plan: LessonPlan, when: str, concepts: Sequence[Concept]) -> Iterator[Row]:
        """Identity, text alignment and bleeding of one concept."""
        scenes = plan.judged_scenes(CLIPS, True, self._seed)
        captions = [plan.caption(scene) for scene in scenes]
        if not concepts:  # the base alone reads the class words
            captions = [caption.replace(f"<{plan.name}>", plan.class_words) for caption in captions]
        clips = draw(self._base, method, concepts, captions, self._seed)
        seen = [shows(self._scorer, plan, clip, scene) for clip, scene in zip(clips, scenes, strict=True)]
        yield Row(method.name, plan.name, plan.kind, when, "identity", float(np.mean([s[0] for s in seen])))
        yield Row(method.name, plan.name, plan.kind, when, "text_alignment", float(np.mean([s[1] for s in seen])))
        contact_sheet(clips[:8], captions[:8], self._sheets / f"{method.name}_{when}_{plan.name}.png")
        if method.name in ALONE:
            return
        related = plan.judged_scenes(CLIPS, False, self._seed)
        captions = [scene.caption() for scene in related]
        clips = draw(self._base, method, concepts, captions, self._seed + 500)
        bled = [
            shows(self._scorer, plan, clip, PARTS[plan.kind].changed(scene, plan.shown))[0]
            for clip, scene in zip(clips, related, strict=True)
        ]
        yield Row(method.name, plan.name, plan.kind, when, "bleeding", float(np.mean(bled)))


def run(base: DemoBase, seed: int, sheets: Path, report: Path | None) -> list[Row]:
    judge, rows = Judge(base, seed, sheets), []

    def add(new: Iterator[Row]) -> None:
        for row in new:
            rows.append(row)
            print(f"{row.method:12} {row.concept:8} {row.when:12} {row.metric:15} {row.value:.3f}", flush=True)

    for plain, methods in ((False, (CCVD, PAPER)), (True, (PLAIN,))):
        learned: list[Concept] = []
        for plan in PLANS:
            concept, seconds = learn(base, plan, learned, plain)
            learned.append(concept)
            name = "plain_lora" if plain else "ccvd"
            add(iter([Row(name, plan.name, plan.kind, "learning", "seconds", seconds)]))
            # A plain LoRA is judged alone right after learning, as its owner would.
            add(judge.rows(methods[0], plan, "learned", [concept] if plain else learned))
            if not plain:
                add(judge.rows(replace(CCVD, name="own_adapter"), plan, "learned", [concept]))
                add(judge.rows(replace(CCVD, name="base"), plan, "before", []))
        for plan in PLANS:
            for method in methods:
                add(judge.rows(method, plan, "after_all", learned))
    if report is not None:
        write_csv(rows, report)
    return rows


def write_csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "concept", "kind", "when", "metric", "value", "number_type"])
        for r in rows:
            drawn_in = LEARNED_IN if r.metric == "seconds" else number_type()
            writer.writerow([r.method, r.concept, r.kind, r.when, r.metric, f"{r.value:.4f}", drawn_in])


def summarise(rows: Sequence[Row]) -> str:
    """Means over concepts: one line per method and moment."""
    lines = [f"{'method':12} {'when':10} identity  text  bleeding"]
    for method, when in dict.fromkeys((row.method, row.when) for row in rows if row.metric == "identity"):
        cells = []
        for metric in ("identity", "text_alignment", "bleeding"):
            values = [r.value for r in rows if (r.method, r.when, r.metric) == (method, when, metric)]
            cells.append(f"{np.mean(values):.3f}" if values else "-")
        lines.append(f"{method:12} {when:10} {cells[0]:>8} {cells[1]:>5} {cells[2]:>9}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuning", action="store_true", help="captions for choosing settings; writes no results.csv")
    parser.add_argument("--sheets", type=Path, default=Path(__file__).parent / "sheets")
    args = parser.parse_args()
    args.sheets.mkdir(parents=True, exist_ok=True)
    seed = TUNING_SEED if args.tuning else TABLE_SEED
    report = None if args.tuning else Path(__file__).parent / "results.csv"
    print(f"drawing in {number_type()}", flush=True)
    print(summarise(run(load_base(), seed, args.sheets, report)))


if __name__ == "__main__":
    main()
