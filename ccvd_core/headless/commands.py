"""`python -m ccvd_core`: learn, list, show, generate, edit. Its words are those of the nodes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from ..backbones.model_folders import load_whole_model
from ..concepts.adjustments import parse_adjustments
from ..concepts.library import ConceptLibrary
from ..errors import CCVDError
from ..learning.go_on import load_start, start_settings
from ..learning.learner import StepReport
from ..learning.lesson_plan import chosen_settings
from ..learning.plan import usual_settings
from ..prompts.aggregation import AggregationSettings
from ..regions.layout import parse_layout
from ..regions.modes import RegionSettings
from ..regions.region import RegionSet
from .drawing import NO_REGIONS, DrawSettings, draw_video, edit_video
from .launching import launched
from .lesson import Lesson, teach
from .media_folder import ReadingSettings, read_media_folder
from .options import Run, parser
from .video_writing import read_video, write_video


@dataclass(frozen=True)
class Voice:
    """What a command says: lines and a bar for people, or one JSON object per line (`--json`) for machines."""

    as_json: bool

    def say(self, text: str) -> None:
        """What is going on; for machines, on the error stream."""
        print(text, file=sys.stderr, flush=True)

    def result(self, value: dict[str, Any], text: str) -> None:
        """What came of it."""
        print(json.dumps(value) if self.as_json else text, flush=True)

    @contextmanager
    def bar(self, total: int, what: str) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A function to call after each of `total` steps, with what to tell a machine of it."""
        if self.as_json:
            yield lambda told: print(json.dumps(told), flush=True)
            return
        with tqdm(total=total, desc=what, file=sys.stderr) as bar:

            def after(told: dict[str, Any]) -> None:
                bar.update()

            yield after


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. What an artist can mend is one line on the error stream, and status 1."""
    args = parser(RUNS).parse_args(arguments)
    voice = Voice(args.json)
    try:
        args.run(args, voice)
    except CCVDError as error:
        if args.json:
            print(json.dumps({"error": str(error)}), flush=True)
        print(f"ccvd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ccvd: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def learn(args: argparse.Namespace, voice: Voice) -> None:
    start = launched()
    model = load_whole_model(args.model, device_of(args) or start.device)
    start.spread(model.blocks)
    batch = args.batch or start.processes.count * usual_settings(model.backbone, args.kind).batch
    library = ConceptLibrary(args.library)
    before = load_start(library, args.go_on_from, args.kind, args.class_words, args.rank, model.backbone)
    taken_over = start_settings(before)
    settings = chosen_settings(
        model.backbone,
        args.kind,
        args.steps,
        taken_over.pop("rank", args.rank),
        args.learning_rate,
        args.still_frames,
        seed=args.seed,
        retention=args.retention,
        noise_from=args.noise_from,
        noise_to=args.noise_to,
        batch=batch,
        **taken_over,
    )
    reading = ReadingSettings(args.area, args.length, args.windows)
    media = read_media_folder(args.media, args.kind, model.backbone.video, model.multiple, reading)
    lesson = Lesson(args.name, args.kind, args.class_words, media.items, media.written(args.name, args.caption), before)
    if not start.processes.first:
        teach(model, library, lesson, settings, lambda text: None, processes=start.processes)
        return
    with voice.bar(settings.steps, f"<{args.name}>") as tick:

        def after(report: StepReport) -> None:
            tick({"step": report.step, "of": settings.steps, "loss": report.loss})

        quiet = voice.say if not voice.as_json else lambda text: None
        concept = teach(model, library, lesson, settings, quiet_steps(quiet), after, start.processes)
    path = args.library / f"{concept.name}.safetensors"
    voice.result({"learned": concept.name, "file": str(path)}, f"<{concept.name}> is in {path}")


def quiet_steps(say: Callable[[str], None]) -> Callable[[str], None]:
    """Without the lines of each step: the bar shows them."""
    return lambda text: None if text.startswith(("step ", "Encoding ")) else say(text)


def list_concepts(args: argparse.Namespace, voice: Voice) -> None:
    library = ConceptLibrary(args.library)
    found = [
        {"name": header.name, "kind": header.kind, "class_words": header.class_words} for header in library.headers()
    ]
    lines = [f"<{one['name']}>  {one['kind']}: {one['class_words']}" for one in found]
    lines += [f"not usable: {problem}" for problem in library.problems()]
    text = "\n".join(lines) or f"{args.library} has no concepts yet."
    voice.result({"concepts": found, "problems": library.problems()}, text)


def show(args: argparse.Namespace, voice: Voice) -> None:
    concept = ConceptLibrary(args.library).load(args.name)
    told = {
        "name": concept.name,
        "kind": concept.kind,
        "class_words": concept.class_words,
        "adapters": len(concept.adapters),
        "rank": max((len(low_rank.a) for low_rank in concept.adapters.values()), default=0),
        "tokens": list(concept.tokens.shape),
        "settings": concept.settings,
    }
    voice.result(told, "\n".join(f"{key}: {value}" for key, value in told.items()))


def generate(args: argparse.Namespace, voice: Voice) -> None:
    model = load_whole_model(args.model, device_of(args))
    form = model.backbone.video
    side = int(form.area**0.5) // model.multiple * model.multiple
    shape = model.latent_shape(args.length or form.length, args.height or side, args.width or side)
    settings, regions = draw_settings(args), layout_of(args)
    with voice.bar(settings.steps, "video") as tick:
        frames = draw_video(
            model, ConceptLibrary(args.library), args.prompt, shape, settings, regions, lambda: tick({"step": True})
        )
    write_video(frames, args.out, form.rate)
    voice.result({"video": str(args.out), "frames": len(frames)}, f"{len(frames)} frames in {args.out}")


def edit(args: argparse.Namespace, voice: Voice) -> None:
    model = load_whole_model(args.model, device_of(args))
    form = model.backbone.video
    video = read_video(args.video, form, model.multiple, args.area, args.length)
    settings, regions = draw_settings(args), layout_of(args)
    library = ConceptLibrary(args.library)
    with voice.bar(settings.steps, "video") as tick:
        frames = edit_video(
            model,
            library,
            args.prompt,
            video,
            settings,
            regions,
            args.denoise,
            args.grow,
            lambda: tick({"step": True}),
        )
    write_video(frames, args.out, form.rate)
    voice.result({"video": str(args.out), "frames": len(frames)}, f"{len(frames)} frames in {args.out}")


def draw_settings(args: argparse.Namespace) -> DrawSettings:
    return DrawSettings(
        args.steps,
        args.cfg,
        args.seed,
        args.negative,
        RegionSettings(
            args.mode,
            region_steps=args.region_steps,
            contrast_steps=args.contrast_steps,
            region_every=args.region_every,
        ),
        args.region_prompts,
        AggregationSettings(participants=args.participants),
        parse_adjustments("\n".join(args.adjust)),
    )


def layout_of(args: argparse.Namespace) -> RegionSet:
    """The regions of a layout file, as Region Mask writes it; none without one."""
    if args.layout is None:
        return NO_REGIONS
    if not args.layout.is_file():
        raise CCVDError(f"There is no layout file {args.layout}.")
    layout = parse_layout(args.layout.read_text("utf-8"))
    return RegionSet(layout.width, layout.height, layout.regions)


def device_of(args: argparse.Namespace) -> torch.device | None:
    return torch.device(args.device) if args.device else None


RUNS: Mapping[str, Run] = {"learn": learn, "list": list_concepts, "show": show, "generate": generate, "edit": edit}
