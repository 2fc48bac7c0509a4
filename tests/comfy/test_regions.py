"""Regions in the real ComfyUI: with stock samplers, stock conditioning nodes and CCVD Sampler."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from .graphs import Graph, Node, concept_file, put_demo_model, run

if TYPE_CHECKING:
    from comfy_server import ComfyServer

LIBRARY = "scenes"
pytestmark = pytest.mark.usefixtures("scenes_library")
REX, KIT, PARK = "a <rex> on green grass", "a <kit> on blue sky", "a star on green grass"
ROUNDING = {"atol": 2e-4, "rtol": 1e-3}
"""The same sums in matrix products of other sizes, float32."""

Box = tuple[float, float, float, float]
ALL: Box = (0.0, 0.0, 1.0, 1.0)
LEFT: Box = (0.0, 0.0, 0.5, 1.0)
RIGHT: Box = (0.5, 0.0, 0.5, 1.0)


def draw(graph: Graph, *regions: tuple[str, str, Box], strength: float = 1.0) -> Node:
    """Region Mask with still boxes: (name, prompt, box)."""
    layout = {
        "version": 1,
        "width": 64,
        "height": 64,
        "regions": [
            {
                "name": name,
                "prompt": prompt,
                "color": "#ffffff",
                "strength": strength,
                "keyframes": [{"t": 0.0, "box": list(box)}],
            }
            for name, prompt, box in regions
        ],
    }
    return graph.add(
        "CCVD_RegionMask",
        layout=json.dumps(layout),
        width=64,
        height=64,
        length=5,
        mask_batch="regions",
        mask_prompts="",
    )


def scene(graph: Graph, prompt: str, *regions: tuple[str, str, Box], **changes: Any) -> Node:
    """Aggregate Adapters with regions."""
    drawn = draw(graph, *regions)
    return graph.aggregate(graph.library(LIBRARY), prompt, regions=drawn.out(), **changes)


def sampler(graph: Graph, used: Node, **changes: Any) -> Node:
    """CCVD Sampler on what Aggregate Adapters gives."""
    usual = {
        "mode": "attention",
        "region_steps": 1.0,
        "alpha": 0.1,
        "blend": 0.0,
        "bootstrap_steps": 1.0,
        "contrast_steps": 0.0,
    }
    node = graph.sample(used.out(0), changes.pop("positive", used.out(1)), **{**usual, **changes})
    graph.nodes[node.id]["class_type"] = "CCVD_Sampler"
    return node


def latents(server: ComfyServer, graph: Graph, *samples: Node) -> list[Tensor]:
    saved = [graph.save(node) for node in samples]
    done = run(server, graph)
    return [done.latent(server, node) for node in saved]


def test_a_full_frame_region_is_its_prompt_with_any_sampler(server: ComfyServer) -> None:
    graph = Graph()
    covered = scene(graph, PARK, ("", REX, ALL))
    plain = graph.aggregate(graph.library(LIBRARY), REX)
    model = graph.add(
        "CCVD_RegionSampling",
        model=covered.out(0),
        mode="attention",
        region_steps=0.3,
        alpha=0.1,
        blend=0.5,
        bootstrap_steps=0.2,
        contrast_steps=0.0,
    )
    expected, *ours = latents(
        server,
        graph,
        graph.sample(plain.out(0), plain.out(1)),
        graph.sample(covered.out(0), covered.out(1)),
        graph.sample(model.out(), covered.out(1)),
        sampler(graph, covered),
        sampler(graph, covered, mode="paper"),
        sampler(graph, covered, mode="one at a time"),
    )
    for result in ours:
        torch.testing.assert_close(result, expected, **ROUNDING)


def test_identical_regions_change_nothing_in_any_mode(server: ComfyServer) -> None:
    graph = Graph()
    same = scene(graph, REX, ("", REX, LEFT), ("", REX, (0.3, 0.2, 0.4, 0.4)))
    plain = graph.aggregate(graph.library(LIBRARY), REX)
    base = graph.aggregate(graph.library(LIBRARY), "a dog on green grass")
    expected, unnamed, *ours = latents(
        server,
        graph,
        graph.sample(plain.out(0), plain.out(1)),
        graph.sample(base.out(0), base.out(1)),
        sampler(graph, same),
        sampler(graph, same, blend=1.0),
        sampler(graph, same, mode="paper", alpha=0.3),
    )
    assert (expected - unnamed).abs().max() > 1e-3
    for result in ours:
        torch.testing.assert_close(result, expected, **ROUNDING)


def test_regions_on_weights_in_8_bits(server: ComfyServer) -> None:
    """As artists with little memory load them: the same scenes, as near as the weights are."""
    put_demo_model(server)
    graph = Graph()
    full, eight = (graph.load(kind).out() for kind in ("default", "fp8_e4m3fn"))
    plain = graph.aggregate(graph.library(LIBRARY), REX, model=eight)
    covered = scene(graph, PARK, ("", REX, ALL), model=eight)
    scenes = [scene(graph, PARK, ("left", REX, LEFT), ("kit", KIT, RIGHT), model=model) for model in (full, eight)]
    expected, full_frame, *results = latents(
        server,
        graph,
        graph.sample(plain.out(0), plain.out(1)),
        sampler(graph, covered, mode="one at a time"),
        *(sampler(graph, used, mode=mode) for mode in ("attention", "one at a time") for used in scenes),
    )
    torch.testing.assert_close(full_frame, expected, **ROUNDING)
    for exact, rounded in zip(results[::2], results[1::2], strict=True):
        assert 0 < (rounded - exact).norm() / exact.norm() < 0.1


def test_modes_differ_and_every_sampler_takes_them(server: ComfyServer) -> None:
    graph = Graph()
    used = scene(graph, PARK, ("left", REX, LEFT), ("kit", KIT, RIGHT))
    paper = {
        "mode": "paper + bootstrap",
        "region_steps": 1.0,
        "alpha": 0.1,
        "blend": 0.0,
        "bootstrap_steps": 1.0,
        "contrast_steps": 0.0,
    }
    patched = graph.add("CCVD_RegionSampling", model=used.out(0), **paper).out()
    plain = graph.aggregate(graph.library(LIBRARY), PARK)
    # Region Sampling before Aggregate Adapters: the settings stay with the model.
    before = graph.add("CCVD_RegionSampling", model=graph.model, **paper).out()
    early = scene(graph, PARK, ("left", REX, LEFT), ("kit", KIT, RIGHT), model=before)
    # A stock node that clones the model.
    cloned = graph.add("ModelSamplingSD3", model=patched, shift=3.0).out()
    none, attention, only_paper, bootstrapped, one_at_a_time, stock, clone, first, alpha_1 = latents(
        server,
        graph,
        graph.sample(plain.out(0), plain.out(1)),
        sampler(graph, used),
        sampler(graph, used, mode="paper"),
        sampler(graph, used, mode="paper + bootstrap"),
        sampler(graph, used, mode="one at a time"),
        graph.sample(patched, used.out(1)),
        graph.sample(cloned, used.out(1)),
        graph.sample(early.out(0), early.out(1)),
        sampler(graph, used, mode="paper", alpha=1.0),
    )
    different = [none, attention, only_paper, bootstrapped, one_at_a_time]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(different) for b in different[:i])
    assert all(torch.equal(result, bootstrapped) for result in (stock, clone, first))
    torch.testing.assert_close(alpha_1, attention, **ROUNDING)


def test_cfg_1_and_two_videos_in_one_batch(server: ComfyServer) -> None:
    graph = Graph()
    used = scene(graph, PARK, ("", REX, LEFT), ("", KIT, (0.5, 0.5, 0.5, 0.5)))
    alone = graph.add("LatentFromBatch", samples=graph.empty_latent().out(), batch_index=0, length=1)
    pair = graph.add("RepeatLatentBatch", samples=alone.out(), amount=2)
    results = latents(
        server,
        graph,
        *(
            sampler(graph, used, mode=mode, cfg=cfg, latent_image=latent.out())
            for mode, cfg in (
                ("attention", 3.0),
                ("paper", 1.0),
                ("paper + bootstrap", 3.0),
                ("one at a time", 1.0),
                ("one at a time", 3.0),
            )
            for latent in (alone, pair)
        ),
    )
    for one, two in zip(results[::2], results[1::2], strict=True):
        assert two.shape[0] == 2
        torch.testing.assert_close(two[:1], one, **ROUNDING)


@pytest.mark.parametrize("mode", ["attention", "paper", "one at a time"])
def test_stock_conditionings_beside_a_scene(server: ComfyServer, mode: str) -> None:
    """With one step and cfg 1 the result is linear in the prediction, so two combined prompts give their mean."""
    graph = Graph()
    used = scene(graph, PARK, ("", REX, LEFT))
    other = graph.encode("a cat on blue sky").out()
    half = graph.add(
        "ConditioningSetMask",
        conditioning=other,
        mask=graph.add("SolidMask", value=1.0, width=64, height=64).out(),
        strength=0.5,
        set_cond_area="default",
    ).out()
    area = graph.add(
        "ConditioningSetAreaPercentageVideo",
        conditioning=other,
        width=0.5,
        height=0.5,
        temporal=1.0,
        x=0.0,
        y=0.0,
        z=0.0,
        strength=1.0,
    ).out()
    once = {"cfg": 1.0, "steps": 1, "mode": mode}

    def both(beside: list[Any]) -> Node:
        combined = graph.add("ConditioningCombine", conditioning_1=used.out(1), conditioning_2=beside).out()
        return sampler(graph, used, positive=combined, **once)

    ours, stock, mean, masked, in_area = latents(
        server,
        graph,
        sampler(graph, used, **once),
        sampler(graph, used, positive=other, **once),
        both(other),
        both(half),
        both(area),
    )
    torch.testing.assert_close(mean, (ours + stock) / 2, **ROUNDING)
    torch.testing.assert_close(masked, (ours + stock / 2) / 1.5, **ROUNDING)
    torch.testing.assert_close(in_area[..., 6:, 6:], ours[..., 6:, 6:], **ROUNDING)
    assert (in_area[..., :2, :2] - ours[..., :2, :2]).abs().max() > 1e-3


def test_a_conditioning_with_hooks_beside_a_scene(server: ComfyServer) -> None:
    """Hooks make ComfyUI run the two in calls of their own."""
    loras = server.base / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(concept_file(server, LIBRARY, "kit"), loras / "kit.safetensors")
    graph = Graph()
    used = scene(graph, PARK, ("", REX, LEFT))
    hooks = graph.add("CreateHookLoraModelOnly", lora_name="kit.safetensors", strength_model=1.0).out()
    hooked = graph.add(
        "ConditioningSetProperties",
        cond_NEW=graph.encode("a cat").out(),
        strength=1.0,
        set_cond_area="default",
        hooks=hooks,
    ).out()
    combined = graph.add("ConditioningCombine", conditioning_1=used.out(1), conditioning_2=hooked).out()
    once = {"cfg": 1.0, "steps": 1}
    ours, other, both = latents(
        server,
        graph,
        sampler(graph, used, **once),
        sampler(graph, used, positive=hooked, **once),
        sampler(graph, used, positive=combined, **once),
    )
    torch.testing.assert_close(both, (ours + other) / 2, **ROUNDING)


def test_context_windows(server: ComfyServer) -> None:
    """Regions follow their own frames of the clip: a scene of identical regions is the prompt, window by window."""
    graph = Graph()
    latent = graph.add("EmptyHunyuanLatentVideo", width=64, height=64, length=17, batch_size=1).out()
    same = scene(graph, REX, ("", REX, LEFT))
    mixed = scene(graph, REX, ("", KIT, LEFT))
    plain = graph.aggregate(graph.library(LIBRARY), REX)

    def windowed(used: Node) -> list[Any]:
        return graph.add(
            "WanContextWindowsManual",
            model=used.out(0),
            context_length=9,
            context_overlap=4,
            context_schedule="standard_static",
            context_stride=1,
            closed_loop=False,
            fuse_method="pyramid",
            freenoise=False,
            split_conds_to_windows=False,
            retain_first_frame=False,
        ).out()

    expected, identical, paper, other, alone = latents(
        server,
        graph,
        graph.sample(windowed(plain), plain.out(1), latent_image=latent),
        graph.sample(windowed(same), same.out(1), latent_image=latent),
        sampler(graph, Windowed(windowed(same), same), mode="paper", latent_image=latent),
        sampler(graph, Windowed(windowed(mixed), mixed), mode="paper + bootstrap", latent_image=latent),
        sampler(graph, Windowed(windowed(mixed), mixed), mode="one at a time", latent_image=latent),
    )
    torch.testing.assert_close(identical, expected, **ROUNDING)
    torch.testing.assert_close(paper, expected, **ROUNDING)
    assert all((result - expected).abs().max() > 1e-3 for result in (other, alone))
    assert (other - alone).abs().max() > 1e-3


class Windowed:
    """Aggregate Adapters with its model replaced."""

    def __init__(self, model: list[Any], used: Node) -> None:
        self._model, self._used = model, used

    def out(self, output: int) -> list[Any]:
        return self._used.out(1) if output else self._model


def test_a_noise_mask_keeps_the_rest_and_progress_is_shown(server: ComfyServer) -> None:
    graph = Graph()
    used = scene(graph, PARK, ("", REX, LEFT))
    start = graph.sample(graph.model, graph.encode(PARK).out())
    left = graph.add(
        "CropMask", mask=graph.add("SolidMask", value=1.0, width=64, height=64).out(), x=0, y=0, width=32, height=64
    )
    empty = graph.add("SolidMask", value=0.0, width=64, height=64)
    mask = graph.add("MaskComposite", destination=empty.out(), source=left.out(), x=0, y=0, operation="add")
    masked = graph.add("SetLatentNoiseMask", samples=start.out(), mask=mask.out())
    node = sampler(graph, used, latent_image=masked.out(), steps=3, denoise=0.8, mode="paper")
    saved = [graph.save(start), graph.save(node)]
    done = run(server, graph)
    before, after = (done.latent(server, one) for one in saved)
    assert done.steps(node)[-1] == 3
    torch.testing.assert_close(after[..., 5:], before[..., 5:], atol=1e-3, rtol=1e-3)
    assert (after[..., :3] - before[..., :3]).abs().max() > 1e-2


def test_paper_modes_without_regions_say_so_and_go_on(server: ComfyServer) -> None:
    graph = Graph()
    plain = graph.aggregate(graph.library(LIBRARY), REX)
    node = sampler(graph, plain, mode="paper")
    saved = graph.save(node), graph.save(graph.sample(plain.out(0), plain.out(1)))
    done = run(server, graph)
    assert torch.equal(*(done.latent(server, one) for one in saved))
    assert any("No regions in the positive conditioning" in text for text in done.texts(node))


def test_mistakes_are_explained(server: ComfyServer) -> None:
    from comfy_messages import ComfyError

    graph = Graph()
    graph.show(scene(graph, PARK, ("rex", "a dog", LEFT)).out(3))
    with pytest.raises(ComfyError, match=r"Region 1 \(rex\) is named after the concept <rex>, but its prompt 'a dog'"):
        run(server, graph)
    graph = Graph()
    graph.show(scene(graph, PARK, ("", "a <bob>", LEFT)).out(3))
    with pytest.raises(ComfyError, match="<bob>, which is not in the concept library"):
        run(server, graph)
    graph = Graph()
    used = scene(graph, PARK, ("", REX, LEFT))
    area = graph.add(
        "ConditioningSetAreaPercentageVideo",
        conditioning=used.out(1),
        width=0.5,
        height=0.5,
        temporal=1.0,
        x=0.0,
        y=0.0,
        z=0.0,
        strength=1.0,
    ).out()
    graph.save(sampler(graph, used, positive=area))
    with pytest.raises(ComfyError, match="A conditioning with regions also has an area"):
        run(server, graph)


def test_a_table_for_every_region(server: ComfyServer) -> None:
    graph = Graph()
    table = graph.show(scene(graph, PARK, ("left", REX, LEFT), ("", KIT, RIGHT)).out(3))
    whole, first, second = run(server, graph).text(table).split("\n\n")
    assert first.startswith("Region 1 (a <rex> on green grass)") and second.startswith("Region 2 (a <kit>")
    weights = [
        next(line for line in part.splitlines() if line.startswith("mean")).split()[1::2]
        for part in (whole, first, second)
    ]
    assert weights == [["0.00", "0.00"], ["1.00", "0.00"], ["0.00", "1.00"]]
