"""`python -m ccvd_core`: learn, list, show, generate, edit. Its words are those of the nodes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..backbones.model_folders import kinds, load_whole_model
from ..concepts.kinds import KINDS
from ..concepts.library import ConceptLibrary
from ..errors import CCVDError
from ..learning.clips import WINDOWS
from ..learning.learner import StepReport
from ..learning.lesson_plan import chosen_settings
from ..prompts.aggregation import PARTICIPANTS, AggregationSettings
from ..regions.layout import parse_layout
from ..regions.modes import MODES, RegionSettings
from ..regions.region import RegionSet
from ..regions.scene import READINGS
from .drawing import NO_REGIONS, DrawSettings, draw_video, edit_video
from .lesson import Lesson, teach
from .media_folder import ReadingSettings, read_media_folder
from .video_writing import read_video, write_video

LIBRARY = Path("concepts")


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
    def bar(self, total: int, what: str) -> Iterator[Callable[[dict[str, Any]], object]]:
        """A function to call after each of `total` steps, with what to tell a machine of it."""
        if self.as_json:
            yield lambda told: print(json.dumps(told), flush=True)
            return
        with tqdm(total=total, desc=what, file=sys.stderr) as bar:
            yield lambda told: bar.update()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. What an artist can mend is one line on the error stream, and status 1."""
    args = parser().parse_args(arguments)
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
    model = load_whole_model(args.model, device_of(args))
    settings = chosen_settings(
        model.backbone,
        args.kind,
        args.steps,
        args.rank,
        args.learning_rate,
        args.still_frames,
        seed=args.seed,
        retention=args.retention,
        noise_from=args.noise_from,
        noise_to=args.noise_to,
    )
    reading = ReadingSettings(args.area, args.length, args.windows)
    media = read_media_folder(args.media, args.kind, model.backbone.video, model.multiple, reading)
    lesson = Lesson(args.name, args.kind, args.class_words, media.items, media.written(args.name, args.caption))
    with voice.bar(settings.steps, f"<{args.name}>") as tick:

        def after(report: StepReport) -> None:
            tick({"step": report.step, "of": settings.steps, "loss": report.loss})

        quiet = voice.say if not voice.as_json else lambda text: None
        concept = teach(model, ConceptLibrary(args.library), lesson, settings, quiet_steps(quiet), after)
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
        RegionSettings(args.mode, region_steps=args.region_steps, contrast_steps=args.contrast_steps),
        args.region_prompts,
        AggregationSettings(participants=args.participants),
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


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    whole = argparse.ArgumentParser(
        prog="python -m ccvd_core",
        description="Teach a text-to-video model concepts and use them, without ComfyUI.",
        epilog=f"A model is a folder: {kinds()}.",
    )
    commands = whole.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[[argparse.Namespace, Voice], None], text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(run=run)
        one.add_argument("--library", type=Path, default=LIBRARY, help="folder of concepts (default: %(default)s)")
        one.add_argument("--json", action="store_true", help="one JSON object per line")
        return one

    one = command("learn", learn, "Learn a concept from a folder of pictures or clips.")
    add_model(one)
    one.add_argument("media", type=Path, help="folder of pictures or clips, captions in text files beside them")
    one.add_argument("--name", required=True, help="what prompts call it: <name>")
    one.add_argument("--class-words", required=True, help="what it is, in words that the model knows: dog")
    one.add_argument("--kind", choices=list(KINDS), default="subject")
    one.add_argument("--caption", default="", help="of media without a text file; with <name> in it")
    one.add_argument("--steps", type=int, default=0, help="0: what suits the model")
    one.add_argument("--rank", type=int, default=0, help="0: what suits the model")
    one.add_argument("--learning-rate", type=float, default=0.0, help="0: what suits the model")
    one.add_argument("--still-frames", type=int, default=0, help="0: what suits the model")
    one.add_argument("--retention", type=float, default=0.01, help="how strongly it is kept apart from earlier ones")
    one.add_argument("--noise-from", type=float, default=0.0)
    one.add_argument("--noise-to", type=float, default=1.0)
    one.add_argument("--windows", choices=WINDOWS, default="first", help="what is learned of long clips")
    one.add_argument("--seed", type=int, default=0)
    add_size(one)

    command("list", list_concepts, "What a library has.")
    one = command("show", show, "What a concept's file says.")
    one.add_argument("name")

    one = command("generate", generate, "Make a video of a prompt.")
    add_model(one)
    add_drawing(one)
    one.add_argument("--width", type=int, default=0)
    one.add_argument("--height", type=int, default=0)
    one.add_argument("--length", type=int, default=0, help="frames; 0: what suits the model")

    one = command("edit", edit, "Change a video: inside the regions of a layout, or all of it.")
    add_model(one)
    one.add_argument("video", type=Path)
    add_drawing(one)
    one.add_argument("--denoise", type=float, default=1.0, help="below 1 keeps more of the video")
    one.add_argument("--grow", type=int, default=0, help="pixels around each region that may change too")
    add_size(one)
    return whole


def add_model(one: argparse.ArgumentParser) -> None:
    one.add_argument("--model", type=Path, required=True, help="folder of a text-to-video model")
    one.add_argument("--device", default="", help="cuda, cuda:1, cpu (default: the first GPU, if there is one)")


def add_size(one: argparse.ArgumentParser) -> None:
    one.add_argument("--area", type=int, default=0, help="pixels of a frame at most; 0: what suits the model")
    one.add_argument("--length", type=int, default=0, help="frames of a clip; 0: what suits the model")


def add_drawing(one: argparse.ArgumentParser) -> None:
    one.add_argument("--prompt", required=True)
    one.add_argument("--negative", default="")
    one.add_argument("--out", type=Path, default=Path("video.mp4"))
    one.add_argument("--steps", type=int, default=30)
    one.add_argument("--cfg", type=float, default=5.0)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--layout", type=Path, help="regions: a file with what Region Mask has in its layout")
    one.add_argument("--mode", choices=list(MODES), default="attention", help="how regions are sampled")
    one.add_argument("--region-steps", type=float, default=0.6)
    one.add_argument("--contrast-steps", type=float, default=0.0)
    one.add_argument("--region-prompts", choices=READINGS, default="alone")
    one.add_argument("--participants", choices=PARTICIPANTS, default="named")
