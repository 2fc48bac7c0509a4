"""Where concept tokens are added: after the text encoder, the default, or before it, as in the paper.

    python benchmarks/learning/token_places.py [--model demo] [--only rex hop ...] [--rates 1 6]

The same lesson with both places, all else equal: each concept learned and judged alone, in rows of token_places.csv,
where they replace the earlier ones of their concepts. `--rates`: of tokens before the encoder, in multiples of the
default rate, which was chosen for tokens after it; word embeddings are six times as long as the encoder's output here.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from run import BASES, CCVD, LEARNED_IN, TABLE_SEED, TUNING_SEED, Base, Judge, Row

from lessons import PLANS, LessonPlan, learn_from  # isort: skip

from ccvd_core.learning.plan import usual_settings
from ccvd_core.learning.step import LearningSettings
from ccvd_core.number_types import number_type

RESULTS = Path(__file__).parent / "token_places.csv"
COLUMNS = ("model", "place", "concept", "kind", "metric", "value", "number_type")


def variants(usual: LearningSettings, rates: Sequence[float]) -> Mapping[str, LearningSettings]:
    """Settings by the name of their rows: `output`, and `encoder` with each rate of tokens."""
    early = {
        "encoder" if rate == 1 else f"encoder_rate_{rate:g}": replace(
            usual, token_injection="encoder", token_lr=usual.token_lr * rate
        )
        for rate in rates
    }
    return {"output": usual, **early}


def rows_of(model: str, base: Base, judge: Judge, plan: LessonPlan, rates: Sequence[float]) -> Iterator[Row]:
    """One concept learned and judged with its tokens in each place; `token_length` is their root mean square. What the
    places cost is `cost/place_cost.py`'s to say, where they take turns."""
    usual = usual_settings(base.backbone, plan.kind)
    examples = plan.examples(base, usual.still_frames)
    for name, settings in variants(usual, rates).items():
        concept = learn_from(base, plan, examples, (), settings)
        length = float(np.sqrt(concept.tokens.square().mean()))
        yield Row(model, name, plan.name, plan.kind, "learned", "token_length", length)
        yield from judge.rows(replace(CCVD, name=name), plan, "learned", [concept])


def earlier_rows(model: str, concept: str) -> list[list[str]]:
    """The rows but for those of one concept on one model, which is measured again."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return [row for row in list(csv.reader(file))[1:] if (row[0], row[2]) != (model, concept)]


def main() -> None:
    names = [plan.name for plan in PLANS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(BASES), default="demo")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rates", nargs="+", type=float, default=[1.0, 6.0])
    parser.add_argument("--tuning", action="store_true", help="captions for choosing settings; writes no file")
    parser.add_argument("--sheets", type=Path, default=Path(__file__).parent / "sheets")
    args = parser.parse_args()
    args.sheets.mkdir(parents=True, exist_ok=True)
    base = BASES[args.model]()
    judge = Judge(args.model, base, TUNING_SEED if args.tuning else TABLE_SEED, args.sheets)
    for plan in (plan for plan in PLANS if plan.name in args.only and plan.fits(base.known)):
        table = earlier_rows(args.model, plan.name)
        for row in rows_of(args.model, base, judge, plan, args.rates):
            computed_in = LEARNED_IN if row.metric == "token_length" else number_type()
            table.append([row.model, row.method, row.concept, row.kind, row.metric, f"{row.value:.4f}", computed_in])
            print(f"{row.method:16} {row.concept:8} {row.metric:15} {row.value:.4f}", flush=True)
        if not args.tuning:
            with RESULTS.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([COLUMNS, *table])


if __name__ == "__main__":
    main()
