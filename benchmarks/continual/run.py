"""Does it remember: held-out tasks learned one after another, all tasks so far judged now and then.

    python benchmarks/continual/run.py                     every method, seeds 0 1 2; then the report
    python benchmarks/continual/run.py --methods ccvd ewc --seeds 0 --tasks 4
    python benchmarks/continual/run.py --tuning --methods ewc --seeds 0 --tasks 3

Rows go to results.csv as soon as a training is finished; those that are there already are skipped, so that an
interrupted run goes on. `--jobs` trainings run at a time, each on one core. `--tuning` tries the values of a method's
own setting on captions kept for that, and writes tuning.csv, where a method is called `ewc=1e+07`. Methods and
metrics: README.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "demo"), str(ROOT / "benchmarks/learning"), str(HERE)]

from base import KNOWN  # noqa: E402
from bases import load_demo  # noqa: E402
from contenders import FAMILIES, METHODS  # noqa: E402
from encoder import load_encoder  # noqa: E402
from experiment import Experiment, Job, missing, perform  # noqa: E402
from external_encoders import ClipEncoder, DinoEncoder  # noqa: E402
from metrics import Encoder, Judge  # noqa: E402
from report import draw_pictures, table  # noqa: E402
from rows import Row, check_settings, read_rows, store  # noqa: E402
from tasks import TABLE_SEED, TASKS, TUNING_SEED, tasks_for  # noqa: E402
from workers import end_with_parent  # noqa: E402

from ccvd_core.number_types import number_type  # noqa: E402


def main() -> None:
    args = arguments()
    out = args.out or HERE / ("tuning.csv" if args.tuning else "results.csv")
    tasks = len(tasks_for(KNOWN)[: args.tasks])  # as many as are learned: a base that knows more is not gone on with
    check_settings(out, {"steps": args.steps, "clips": args.clips, "tasks": tasks, "encoders": encoders_of(args)})
    jobs = missing(FAMILIES, args.methods, args.seeds, [] if args.again else read_rows(out), args.tuning)
    print(f"computing in {number_type()}", flush=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, spawn, prepare, (args,)) as pool:
        for done in as_completed([pool.submit(measure, job) for job in jobs]):
            store(done.result(), out)
    rows = read_rows(out)
    print(table(rows))
    if not args.tuning:
        draw_pictures(rows, out.parent)


def encoders_of(args: argparse.Namespace) -> list[str]:
    """Names of the encoders that judge."""
    return ["contrastive", *(["clip"] if args.clip else []), *(["dino"] if args.dino else [])]


experiment: Experiment
"""A worker process's own."""


def prepare(args: argparse.Namespace) -> None:
    """Make a worker process ready for `measure`. On one core, so that no result depends on how many run at a time."""
    global experiment
    end_with_parent()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    encoders: list[Encoder] = [load_encoder()]
    if args.clip:
        encoders.append(ClipEncoder(args.clip))
    if args.dino:
        encoders.append(DinoEncoder(args.dino))
    captions_seed = TUNING_SEED if args.tuning else TABLE_SEED
    base = load_demo()
    tasks = tasks_for(base.known)[: args.tasks]
    experiment = Experiment(base, Judge(encoders), tasks, args.steps, args.clips, captions_seed)


def measure(job: Job) -> list[Row]:
    """What a worker process does."""
    return perform(experiment, FAMILIES, job)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200, help="training steps per task")
    parser.add_argument("--clips", type=int, default=4, help="clips per task and evaluation")
    parser.add_argument("--tasks", type=int, default=len(TASKS), help="how many of the tasks, from the first")
    parser.add_argument("--out", type=Path, help="where rows go; pictures go beside it")
    parser.add_argument("--clip", type=Path, metavar="FOLDER", help="a CLIP model that judges too")
    parser.add_argument("--dino", type=Path, metavar="FOLDER", help="a DINOv2 model that judges too")
    parser.add_argument("--tuning", action="store_true", help="search a method's own setting on other captions")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trainings that run at a time")
    parser.add_argument("--again", action="store_true", help="measure what the file has already")
    args = parser.parse_args()
    if not 1 <= args.tasks <= len(TASKS):
        parser.error(f"--tasks must be between 1 and {len(TASKS)}")
    return args


if __name__ == "__main__":
    main()
