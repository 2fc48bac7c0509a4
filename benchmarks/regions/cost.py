"""What regions and a growing library cost, as ratios to none in the same run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from base import LATENT_SHAPE
from bases import Demo
from layouts import Case
from lessons import LessonPlan
from methods import METHODS, Studio
from timing import least_seconds
from wan_shapes import WAN, random_concept, random_text
from world.backgrounds import SIZE

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.diffusers_wan import DiffusersWanBackbone
from ccvd_core.concepts.library import ConceptLibrary
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.aggregation import AggregationSettings
from ccvd_core.regions.region import Keyframe, Region, RegionSet
from ccvd_core.regions.regional_prompt import AnyPrompt, predict_prompts
from ccvd_core.regions.scene import aggregate_scene

MOST_REGIONS, LIBRARIES, REPEATS, RANK = 8, (1, 8, 35), 5, 16
WAN_REGIONS, WAN_LATENT_SHAPE = (1, 2, 4, 8), (16, 3, 60, 104)
TIMED = (
    "attention",
    "one_at_a_time_contrast",
    "one_at_a_time_every_2",
    "one_at_a_time_every_3",
    "paper",
    "paper_bootstrap",
    "stock_masked",
)


@torch.no_grad()
def step_cost(base: Demo) -> Iterator[tuple[str, int, float]]:
    """Seconds of a sampled clip with 0..8 regions, each with its own concept, as a ratio to the prompt alone.

    Texts are encoded once for all, as a graph does it before the first step.
    """
    backbone = DiffusersWanBackbone(base.model.transformer, cache(base.model.encode_text))
    names = [f"c{index}" for index in range(MOST_REGIONS)]
    concepts = tuple(random_concept(backbone, name, index, RANK) for index, name in enumerate(names))
    studio = Studio(base, backbone, concepts)
    noise = torch.randn(1, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0))
    with Attachment(backbone, [concept.adapters for concept in concepts]) as attachment:

        def timed(method: str, case: Case) -> Callable[[], object]:
            return lambda: METHODS[method](studio, attachment, [case], noise)

        for count in range(MOST_REGIONS + 1):
            case = striped(names[:count])
            calls = {method: timed(method, case) for method in TIMED}
            seconds = least_seconds({"prompt_only": timed("prompt_only", case), **calls}, 2)
            for method in TIMED:
                yield method, count, seconds[method] / seconds["prompt_only"]


def striped(names: Sequence[str]) -> Case:
    """One region per concept, side by side over the whole frame."""
    plans = tuple(LessonPlan(name, "subject", name, "dog") for name in names)
    width = 1 / max(1, len(names))
    regions = tuple(
        Region(name, f"a <{name}> still on green grass", "#4fc3f7", 1.0, (Keyframe(0.0, (i * width, 0.0, width, 1.0)),))
        for i, name in enumerate(names)
    )
    return Case(plans, ("still",) * len(names), RegionSet(SIZE, SIZE, regions), "green grass", False)


@torch.no_grad()
def wan_step_cost() -> Iterator[tuple[str, int, float]]:
    """A model call of Wan 1.3B's width at 480p with 0..8 regions, as a ratio to the prompt alone.

    Two blocks with random weights, whose ratio does not depend on the number of blocks, and 9 frames: longer clips have
    more tokens for the same text, and a lower ratio.
    """
    backbone = WAN["wan13b"].backbone(2, torch.float32, "cpu", random_text)
    names = [f"c{index}" for index in range(MOST_REGIONS)]
    concepts = [random_concept(backbone, name, index, RANK) for index, name in enumerate(names)]
    latents, t = torch.randn(1, *WAN_LATENT_SHAPE), torch.tensor([0.5])
    grid = backbone.grid(WAN_LATENT_SHAPE)
    with Attachment(backbone, [concept.adapters for concept in concepts]) as attachment:

        def timed(prompt: AnyPrompt) -> Callable[[], object]:
            def call() -> None:
                with attachment.activate([prompt], latents.device, grid=grid):
                    predict_prompts(backbone, latents, t, [prompt])

            return call

        cases = {count: striped(names[:count]) for count in WAN_REGIONS}
        scenes = {str(n): aggregate_scene(backbone, c.surroundings, c.regions, concepts) for n, c in cases.items()}
        prompt_only = aggregate(backbone, cases[max(WAN_REGIONS)].prompt, concepts).prompt
        calls = {number: timed(scene.prompt) for number, scene in scenes.items()}
        seconds = least_seconds({"prompt_only": timed(prompt_only), **calls}, 2)
        for count in WAN_REGIONS:
            yield "attention_wan13b", count, seconds[str(count)] / seconds["prompt_only"]


@torch.no_grad()
def library_cost() -> Iterator[tuple[str, int, str, float]]:
    """A model call and the set-up of a prompt with 1, 8 and 35 concepts in the library; the prompt names one.

    Two blocks of Wan 1.3B's width for the call, whose ratio does not depend on the number of blocks. The set-up reads
    files of all 30 blocks: from the prompt's text to adapters that are ready to attach.
    """
    backbone = WAN["wan13b"].backbone(2, torch.float32, "cpu", random_text)
    concepts = [random_concept(backbone, f"c{index}", index, RANK) for index in range(max(LIBRARIES))]
    latents, t = torch.randn(1, 16, 3, 32, 32), torch.tensor([0.5])
    for participants in ("named", "all"):
        settings = AggregationSettings(participants=participants)
        calls = {}
        for count in LIBRARIES:
            prompt = aggregate(backbone, "a <c0>", concepts[:count], settings).prompt
            acting = prompt.weights.any(0).tolist()
            used = [c.adapters if acts else {} for c, acts in zip(concepts[:count], acting, strict=True)]
            attachment = Attachment(backbone, used)

            def call(attachment: Attachment = attachment, prompt: object = prompt) -> None:
                with attachment, attachment.activate([prompt], latents.device):  # type: ignore[list-item]
                    predict_prompts(backbone, latents, t, [prompt])  # type: ignore[list-item]

            calls[str(count)] = call
        seconds = least_seconds(calls, REPEATS)
        for count in LIBRARIES:
            yield f"library_{participants}", count, "library_ratio", seconds[str(count)] / seconds["1"]
    yield from setup_cost()


def setup_cost() -> Iterator[tuple[str, int, str, float]]:
    """Seconds from a library on disk to attachable adapters, as Aggregate Adapters does it."""
    shapes = WAN["wan13b"].backbone(encode=random_text)
    with tempfile.TemporaryDirectory() as folder:
        library = ConceptLibrary(Path(folder))
        for index in range(max(LIBRARIES)):
            library.add(random_concept(shapes, f"c{index}", index, RANK))
            if index + 1 in LIBRARIES:
                began = time.perf_counter()
                outlines = [library.outline(name) for name in library.names()]
                prompt = aggregate(shapes, "a <c0>", outlines, AggregationSettings()).prompt
                acting = prompt.weights.any(0).tolist()
                used = [library.load(o.name).adapters if acts else {} for o, acts in zip(outlines, acting, strict=True)]
                Attachment(shapes, used)
                yield "library_named", index + 1, "setup_seconds", time.perf_counter() - began
