"""The paper's experiment: what it learns, how it judges, what it writes. `run.py` says how it is called."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from drawn import Drawn, digest
from external_encoders import ClipEncoder, DinoEncoder
from judges import METRICS, Judges, References
from report import draw_curves
from rows import Row, check_settings, curves, final, forgetting, read_rows, write_rows
from sequence import Task, read_sequence
from torch import Tensor

from ccvd_core.backbones.model_folders import load_whole_model
from ccvd_core.backbones.whole_model import WholeModel
from ccvd_core.concepts.library import ConceptLibrary
from ccvd_core.headless.drawing import NO_REGIONS, DrawSettings, draw_video
from ccvd_core.headless.lesson import Lesson, encoded, teach
from ccvd_core.headless.media_folder import MediaFolder, ReadingSettings, read_media_folder
from ccvd_core.learning.clock import minutes
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.lesson_plan import chosen_settings
from ccvd_core.learning.plan import GIB, learning_need
from ccvd_core.learning.step import LearningSettings
from ccvd_core.prompts.aggregation import PAPER_SETTINGS, AggregationSettings
from ccvd_core.regions.library_scene import LibraryScene, aggregate_library

METHODS = {
    "ccvd": DrawSettings(),
    "paper": DrawSettings(aggregation=PAPER_SETTINGS, own_words_only=False),
}


@dataclass(frozen=True)
class Study:
    """One run: the model, what it learns and how it is judged."""

    model: WholeModel
    tasks: Sequence[Task]
    data: Path
    judges: Judges
    out: Path
    seed: int
    steps: int
    """Training steps per task; 0: what suits the model."""
    draw_steps: int
    cfg: float
    shape: Sequence[int]
    reading: ReadingSettings

    @cached_property
    def library(self) -> ConceptLibrary:
        return ConceptLibrary(self.out / f"concepts_{self.seed}")

    def settings(self, task: Task) -> LearningSettings:
        return chosen_settings(self.model.backbone, task.kind, self.steps, 0, 0.0, 0, seed=self.seed)

    def media(self, task: Task) -> MediaFolder:
        folder = self.data / task.folder
        return read_media_folder(folder, task.kind, self.model.backbone.video, self.model.multiple, self.reading)

    def lesson(self, task: Task) -> Lesson:
        media = self.media(task)
        return Lesson(task.name, task.kind, task.class_words, media.items, media.written(task.name, task.caption))

    def drawing(self, method: str, prompt: int) -> DrawSettings:
        """A prompt always starts from the same noise."""
        return replace(METHODS[method], steps=self.draw_steps, cfg=self.cfg, seed=100_000 * self.seed + prompt)


def estimate(study: Study) -> str:
    """Hours and memory of all that is to come, from one measured step of learning and two of drawing."""
    first, model = study.tasks[0], study.model
    lesson, settings = study.lesson(first), study.settings(first)
    examples = encoded(model, lesson.items, lesson.captions, settings.still_frames, lambda text: None)
    learner = ConceptLearner(
        model.backbone, examples, first.name, first.kind, first.class_words, settings, (), model.device
    )
    learning = learner.estimate_seconds() * sum(study.settings(t).steps for t in study.tasks) / settings.steps
    seconds = [measured_draw(study, steps) for steps in (1, 2)]
    one = seconds[0] + (study.draw_steps - 1) * max(0.0, seconds[1] - seconds[0])
    # A concept's clips are drawn anew by the paper's rule alone: by ours they stay the same to the last bit.
    count, prompts = len(study.tasks), sum(len(task.prompts) for task in study.tasks)
    drawing = one * (prompts + prompts * (count + 1) / 2)
    shape = max((example.latents for example in examples), key=Tensor.numel).shape
    backbone = model.backbone
    need = learning_need(
        backbone, first.kind, settings.rank, shape, settings.batch, backbone.dtype.itemsize, settings.layers
    )
    weights = sum(site.module.weight.nbytes for site in backbone.sites if isinstance(site.module.weight, Tensor))
    return (
        f"{count} tasks: learning about {hours(learning)}, drawing about {hours(drawing)} ({one:.1f} s a clip), "
        f"about {need.total_bytes / GIB:.2f} GB beside the model (its attention alone {weights / GIB:.2f} GB)"
    )


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else minutes(seconds)


def measured_draw(study: Study, steps: int) -> float:
    began = time.monotonic()
    settings = replace(study.drawing("ccvd", 0), steps=steps)
    draw_video(study.model, ConceptLibrary(study.out / "none"), "a dog", study.shape, settings)
    return time.monotonic() - began


def run(study: Study, methods: Sequence[str]) -> Iterator[list[Row]]:
    """Learn task after task; after each, the rows of all tasks so far."""
    done = {(row.method, row.after_task) for row in read_rows(study.out / "results.csv") if row.seed == study.seed}
    known = Drawn(study.out / f"drawn_{study.seed}.json")
    references: dict[str, References] = {}
    for count, task in enumerate(study.tasks, 1):
        lesson = study.lesson(task)
        teach(study.model, study.library, lesson, study.settings(task), say)
        references[task.name] = study.judges.references(lesson.items)
        rows: list[Row] = []
        for method in methods:
            if (method, count) in done:
                continue
            for earlier in study.tasks[:count]:
                values = judged(study, method, earlier, references[earlier.name], known)
                rows += [Row(method, study.seed, earlier.name, count, metric, values[metric]) for metric in METRICS]
            say(f"judged {count} of {len(study.tasks)} by {method}")
        yield rows


def judged(study: Study, method: str, task: Task, references: References, known: Drawn) -> dict[str, float]:
    """The metrics of one task as things are now. What would be drawn again, to the last bit, is not."""
    used = [scene(study, method, text) for text in task.named()]
    key = "".join(map(digest, used))
    if (values := known.find(method, task.name, key)) is None:
        clips = [
            draw_video(study.model, study.library, text, study.shape, study.drawing(method, number))
            for number, text in enumerate(task.named())
        ]
        values = study.judges.measure(clips, task.said(), references)
        known.keep(method, task.name, key, values)
    return values


def scene(study: Study, method: str, text: str) -> LibraryScene:
    settings: AggregationSettings = METHODS[method].aggregation
    names, words = study.library.names(), METHODS[method].own_words_only
    return aggregate_library(study.model.backbone, text, NO_REGIONS, study.library, names, settings, {}, words)


def table(rows: Sequence[Row]) -> str:
    """After the last task: means over tasks of each metric, and how far each fell since its task was learned."""
    methods = list(dict.fromkeys(row.method for row in rows))
    lines = ["| method | " + " | ".join(f"{metric} | fall" for metric in METRICS) + " |"]
    lines.append("|---" * (1 + 2 * len(METRICS)) + "|")
    for method in methods:
        cells = []
        for metric in METRICS:
            runs = list(curves([row for row in rows if row.method == method], metric).values())
            cells.append(f"{sum(map(final, runs)) / len(runs):.3f}")
            cells.append(f"{sum(map(forgetting, runs)) / len(runs):.3f}")
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None, about: str = "") -> None:
    """Run it with these words of a command line."""
    args = arguments(words, about)
    args.out.mkdir(parents=True, exist_ok=True)
    tasks = read_sequence(args.tasks, args.data)
    tasks = tasks[: args.first] if args.first else tasks
    model = load_whole_model(args.model, torch.device(args.device) if args.device else None)
    form = model.backbone.video
    side = int(form.area**0.5) // model.multiple * model.multiple
    shape = model.latent_shape(args.length or form.length, args.height or side, args.width or side)
    told = {"tasks": [t.name for t in tasks], "steps": args.steps, "draw_steps": args.draw_steps, "cfg": args.cfg}
    check_settings(args.out / "results.csv", {**told, "shape": list(shape)})
    judges = Judges(ClipEncoder(args.clip), DinoEncoder(args.dino))
    reading = ReadingSettings(args.area)
    for seed in args.seeds:
        study = Study(
            model, tasks, args.data, judges, args.out, seed, args.steps, args.draw_steps, args.cfg, shape, reading
        )
        print(estimate(study), flush=True)
        for new in run(study, args.methods):
            write_rows([*read_rows(args.out / "results.csv"), *new], args.out / "results.csv")
    rows = read_rows(args.out / "results.csv")
    (args.out / "table.md").write_text(table(rows) + "\n")
    print(table(rows))
    draw_curves(rows, args.methods, args.out / "curves.png", "dino_i", "DINO-I of all tasks learned so far")


def say(text: str) -> None:
    """All but the line of every fifth step."""
    if not text.startswith(("step ", "Encoding ")):
        print(text, flush=True)


def arguments(words: Sequence[str] | None, about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a text-to-video model")
    parser.add_argument("--data", type=Path, required=True, help="has a folder for each task")
    parser.add_argument("--tasks", type=Path, default=Path(__file__).parent / "tasks.json")
    parser.add_argument("--clip", type=Path, required=True, help="folder of a CLIP model")
    parser.add_argument("--dino", type=Path, required=True, help="folder of a DINOv2 model")
    parser.add_argument("--out", type=Path, default=Path("paper_results"))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--first", type=int, default=0, help="only so many tasks")
    parser.add_argument("--steps", type=int, default=0, help="training steps per task; 0: what suits the model")
    parser.add_argument("--draw-steps", type=int, default=30)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--width", type=int, default=0)
    parser.add_argument("--height", type=int, default=0)
    parser.add_argument("--length", type=int, default=0, help="frames of the drawn clips; 0: what suits the model")
    parser.add_argument("--area", type=int, default=0, help="pixels of a frame to learn at; 0: what suits the model")
    parser.add_argument("--device", default="")
    return parser.parse_args(words)
