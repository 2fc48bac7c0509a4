"""A schedule split over KSampler (Advanced), SplitSigmas and two models, in the real ComfyUI, in every mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from .graphs import Graph, Node, put_demo_model, run
from .test_regions import KIT, LEFT, PARK, REX, RIGHT, ROUNDING, latents, sampler, scene

if TYPE_CHECKING:
    from comfy_server import ComfyServer

pytestmark = pytest.mark.usefixtures("scenes_library")
STEPS, SPLIT = 6, 3
SETTINGS = {"region_steps": 0.8, "alpha": 0.1, "blend": 0.0, "bootstrap_steps": 0.7, "contrast_steps": 0.3}


@pytest.fixture(autouse=True)
def demo_file(server: ComfyServer) -> None:
    """The demo model as a file, for the second expert."""
    put_demo_model(server)


def region_model(graph: Graph, used: Node, mode: str) -> list[Any]:
    return graph.add("CCVD_RegionSampling", model=used.out(0), mode=mode, **SETTINGS).out()


def advanced(graph: Graph, model: list[Any], used: Node, latent: list[Any], start: int, end: int) -> Node:
    """KSampler (Advanced): the first stage adds noise, and all but the last leave some."""
    return graph.add(
        "KSamplerAdvanced",
        model=model,
        add_noise="disable" if start else "enable",
        noise_seed=1,
        steps=STEPS,
        cfg=3.0,
        sampler_name="euler",
        scheduler="simple",
        positive=used.out(1),
        negative=graph.encode("").out(),
        latent_image=latent,
        start_at_step=start,
        end_at_step=end,
        return_with_leftover_noise="enable" if end < STEPS else "disable",
    )


def custom(graph: Graph, model: list[Any], used: Node, noise: Node, sigmas: list[Any], latent: list[Any]) -> Node:
    guider = graph.add("CFGGuider", model=model, positive=used.out(1), negative=graph.encode("").out(), cfg=3.0)
    return graph.add(
        "SamplerCustomAdvanced",
        noise=noise.out(),
        guider=guider.out(),
        sampler=graph.add("KSamplerSelect", sampler_name="euler").out(),
        sigmas=sigmas,
        latent_image=latent,
    )


@pytest.mark.parametrize("mode", ["attention", "one at a time", "paper", "paper + bootstrap"])
def test_a_split_is_the_whole_schedule(server: ComfyServer, mode: str) -> None:
    graph = Graph()
    regions = ("left", REX, LEFT), ("kit", KIT, RIGHT)
    used = scene(graph, PARK, *regions)
    # The same weights as another model, with its own Aggregate Adapters: as the second expert is.
    loaded = graph.add("ModelSamplingSD3", model=graph.load("default").out(), shift=3.0)
    second = scene(graph, PARK, *regions, model=loaded.out())
    model, expert = region_model(graph, used, mode), region_model(graph, second, mode)
    empty = graph.empty_latent().out()
    whole = graph.sample(model, used.out(1), steps=STEPS, latent_image=empty)
    first = advanced(graph, model, used, empty, 0, SPLIT)
    again = advanced(graph, model, used, first.out(), SPLIT, STEPS)
    experts = advanced(graph, expert, second, first.out(), SPLIT, STEPS)
    sigmas = graph.add("BasicScheduler", model=model, scheduler="simple", steps=STEPS, denoise=1.0)
    halves = graph.add("SplitSigmas", sigmas=sigmas.out(), step=SPLIT)
    high = custom(graph, model, used, graph.add("RandomNoise", noise_seed=1), halves.out(0), empty)
    low = custom(graph, model, used, graph.add("DisableNoise"), halves.out(1), high.out())
    expected, *splits = latents(server, graph, whole, again, experts, low)
    for split in splits:
        torch.testing.assert_close(split, expected, **ROUNDING)


def test_skip_layer_guidance_keeps_the_surroundings(server: ComfyServer) -> None:
    """The stock node asks a second time in every step; with this little of it the clip is the same."""
    graph = Graph()
    used = scene(graph, PARK, ("left", REX, LEFT), ("kit", KIT, RIGHT))
    model = region_model(graph, used, "one at a time")
    skipping = graph.add(
        "SkipLayerGuidanceDiT",
        model=model,
        double_layers="1",
        single_layers="",
        scale=1e-6,
        start_percent=0.0,
        end_percent=1.0,
        rescaling_scale=0.0,
    )
    plain, skipped = latents(server, graph, *(graph.sample(m, used.out(1), steps=4) for m in (model, skipping.out())))
    torch.testing.assert_close(skipped, plain, **ROUNDING)


def test_a_share_that_denoise_leaves_no_step_is_said(server: ComfyServer) -> None:
    graph = Graph()
    used = scene(graph, PARK, ("left", REX, LEFT))
    start = graph.sample(graph.model, graph.encode(PARK).out())
    node = sampler(graph, used, mode="paper", region_steps=0.6, latent_image=start.out(), denoise=0.3)
    graph.save(node)
    texts = run(server, graph).texts(node)
    assert any("region_steps 0.6 reaches no step. Raise it above 0.70" in text for text in texts)
