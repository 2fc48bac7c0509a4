"""Reference pictures of Wan models: no part of the clip, so they take no time of it and belong to no region."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.region import Keyframe, Region, RegionSet
from ccvd_core.regions.regional_prompt import RegionalPrompt
from tests.backbones.demo_scenes import theirs
from tests.backbones.pack import from_pack

WIDTH, ROWS = 20, 4
SMALL = {"dim": 64, "ffn_dim": 96, "freq_dim": 32, "text_dim": WIDTH, "num_heads": 2, "num_layers": 2}
SIDE = 4
CLIP = 4
"""Latent frames of the clip: 13 frames."""
JUMPING = Region(
    "", "a dog", "#ffffff", 1.0, (Keyframe(0.0, (0.0, 0.0, 0.5, 1.0)), Keyframe(0.1, (0.5, 0.0, 0.5, 1.0)))
)
"""On the left in the first frame, on the right from the second latent frame on."""
LEFT, RIGHT, NOWHERE = [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]


def wan_model(kind: str, **config: Any) -> Any:
    """A small random model of ComfyUI's own kind, as MODEL."""
    import comfy.supported_models
    from comfy.model_patcher import ModelPatcher

    made = getattr(comfy.supported_models, kind)({"image_model": "wan2.1", **SMALL, **config})
    made.set_inference_dtype(torch.float32, None)
    model = made.get_model({}, "")
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.requires_grad_(False)
    return ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scene() -> RegionalPrompt:
    def prompt(seed: int) -> ConceptPrompt:
        return ConceptPrompt(random(ROWS, WIDTH, seed=seed), (), torch.zeros(2, 0), torch.zeros(ROWS, 0))

    return RegionalPrompt((prompt(1), prompt(2)), RegionSet(32, 32, (JUMPING,)))


@pytest.fixture
def laid_out(backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The region's share of each frame's left and right half: for attention, for merging, and what it sees."""
    found: dict[str, Tensor] = {}
    attachment = from_pack("ccvd_core.attaching.attachment").Attachment
    run = from_pack("ccvd_core.regions.run").SceneRun
    activate, masks = attachment._activate, run.masks

    def halves(mask: Tensor) -> list[Any]:
        return mask.unflatten(-1, (2, -1)).mean((-3, -1)).tolist()

    def spied_activate(self: Any, prompts: Any, device: Any, text_rows: Any, grid: Any, measure: Any) -> None:
        activate(self, prompts, device, text_rows, grid, measure)
        plans = [plan for run in self._active.runs for plan in run.plans] if self._active else []
        for plan in plans:
            frames = plan.masks[1, grid.before : grid.before + grid.tokens]
            found["attention"] = halves(frames.unflatten(0, (grid.frames, grid.height, grid.width)))

    def spied_masks(self: Any, *args: Any) -> tuple[Tensor, Tensor]:
        own, view = masks(self, *args)
        found["merging"], found["view"] = halves(own[0]), halves(view[0])
        return own, view

    monkeypatch.setattr(attachment, "_activate", spied_activate)
    monkeypatch.setattr(run, "masks", spied_masks)
    return found


def sample(model: Any, frames: int, extra: dict[str, Any], **changes: Any) -> Tensor:
    """Two steps with the region predicted on its own, as Region Sampling and KSampler make them."""
    import comfy.sample

    patching = from_pack("nodes.host.patching")
    settings = from_pack("ccvd_core.regions.modes").RegionSettings("paper + bootstrap", 1.0, bootstrap_steps=1.0)
    for key, value in changes.items():
        model.model_options[key] = value
    patched = patching.with_region_settings(model, settings)
    state = patching.PromptState(theirs(scene()), ())
    positive = [[state.prompt.context.unsqueeze(0), {patching.KEY: state, **extra}]]
    negative = [[random(1, ROWS, WIDTH, seed=3), dict(extra)]]
    noise = random(1, 16, frames, SIDE, SIDE, seed=4)
    return comfy.sample.sample(
        patched,
        noise,
        2,
        2.0,
        "euler",
        "simple",
        positive,
        negative,
        torch.zeros_like(noise),
        disable_pbar=True,
        seed=1,
    )


@pytest.fixture(scope="module")
def vace(backbones: dict[str, Backbone]) -> Iterator[Any]:
    import comfy.model_management

    yield wan_model("WAN21_Vace", model_type="vace", vace_layers=1, vace_in_dim=96)
    comfy.model_management.unload_all_models()


def vace_conditions(references: int, kept: int = 0) -> dict[str, Any]:
    """What WanVaceToVideo puts on a conditioning: a grey clip of which `kept` frames are given, behind references."""
    import comfy.latent_formats

    frames = random(1, 32, CLIP, SIDE, SIDE, seed=5)
    nothing = comfy.latent_formats.Wan21().process_out(torch.zeros(1, 16, references, SIDE, SIDE))
    reference = torch.cat([random(1, 16, references, SIDE, SIDE, seed=6), nothing], 1)
    mask = torch.ones(1, 64, CLIP, SIDE, SIDE)
    mask[:, :, :kept] = 0
    mask = torch.cat([torch.zeros(1, 64, references, SIDE, SIDE), mask], 2)
    return {"vace_frames": [torch.cat([reference, frames], 2)], "vace_mask": [mask], "vace_strength": [1.0]}


MOVED = [LEFT, RIGHT, RIGHT, RIGHT]
BEFORE = [NOWHERE, *MOVED]
SEEN = [[1.0, 1.0], *MOVED]


def test_a_moving_region_is_in_time_behind_a_reference_picture_of_vace(vace: Any, laid_out: dict[str, Any]):
    assert sample(vace, CLIP + 1, vace_conditions(references=1)).isfinite().all()
    assert laid_out == {"attention": BEFORE, "merging": BEFORE, "view": SEEN}


@pytest.mark.parametrize("kept", [0, 2])
def test_frames_that_vace_is_given_are_the_clips(vace: Any, laid_out: dict[str, Any], kept: int):
    sample(vace, CLIP, vace_conditions(references=0, kept=kept))
    assert laid_out == {"attention": MOVED, "merging": MOVED, "view": MOVED}


def test_vace_without_anything_to_go_by(vace: Any, laid_out: dict[str, Any]):
    sample(vace, CLIP, {})
    assert laid_out["attention"] == MOVED


def test_references_and_context_windows(vace: Any, laid_out: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    """The clip's first window has the reference; the other has the frame before it, as ComfyUI does."""
    from comfy.context_windows import (
        ContextSchedules,
        IndexListContextHandler,
        get_matching_context_schedule,
        get_matching_fuse_method,
    )

    handler = IndexListContextHandler(
        context_schedule=get_matching_context_schedule(ContextSchedules.STATIC_STANDARD),
        fuse_method=get_matching_fuse_method("pyramid"),
        context_length=3,
        context_overlap=1,
        dim=2,
    )
    seen = []
    backbone = from_pack("ccvd_core.backbones.comfy_wan").ComfyWanBackbone
    call_grid = backbone.call_grid

    def spied(*args: Any) -> Any:
        seen.append(call_grid(*args))
        return seen[-1]

    monkeypatch.setattr(backbone, "call_grid", spied)
    sample(vace.clone(), CLIP + 1, vace_conditions(references=1), context_handler=handler)
    assert {(grid.numbers, grid.clip_length) for grid in seen} == {((-1, 0, 1), CLIP), ((0, 1, 2, 3), CLIP)}


@pytest.mark.parametrize("poses", [True, False])
def test_a_moving_region_is_in_time_behind_the_character_of_animate(
    backbones: dict[str, Backbone], laid_out: dict[str, Any], poses: bool
):
    model = wan_model("WAN22_Animate", model_type="animate", in_dim=36, out_dim=16)
    mask = torch.ones(1, 4, CLIP + 1, SIDE, SIDE)
    mask[:, :, 0] = 0
    extra = {"concat_latent_image": random(1, 16, CLIP + 1, SIDE, SIDE), "concat_mask": mask}
    if poses:
        extra["pose_video_latent"] = random(1, 16, CLIP, SIDE, SIDE, seed=2)
    sample(model, CLIP + 1, extra)
    assert laid_out == {"attention": BEFORE, "merging": BEFORE, "view": SEEN}


class ReachedError(Exception):
    """The first block was called."""


PICTURE, STACK = (1, 16, 6, 8), (1, 16, 2, 6, 8)
ADDED: dict[str, tuple[str, dict[str, Any], dict[str, tuple[int, ...]]]] = {
    "fun control": ("WanModel", {"in_dim_ref_conv": 16}, {"reference_latent": PICTURE}),
    "phantom": ("WanModel", {}, {"time_dim_concat": STACK}),
    "bernini": ("WanModel", {}, {"context_latents": STACK}),
    "reference that the model does not read": ("WanModel", {}, {"reference_latent": PICTURE}),
    "humo": ("HumoWanModel", {}, {"reference_latent": STACK}),
    "sound": (
        "WanModel_S2V",
        {"audio_dim": 16, "audio_inject_layers": [0]},
        {"reference_latent": STACK, "reference_motion": (1, 16, 19, 16, 16)},
    ),
    "scail": (
        "SCAILWanModel",
        {"in_dim": 16, "out_dim": 16},
        {"reference_latent": STACK, "pose_latents": (1, 16, 3, 4, 4)},
    ),
}


@pytest.mark.parametrize("case", ADDED)
def test_tokens_around_the_clips_are_counted(backbones: dict[str, Backbone], case: str):
    """As many as the model's first block gets."""
    import comfy.ldm.wan.model
    import comfy.ops

    kind, config, shapes = ADDED[case]
    made = {"in_dim": 16, "out_dim": 16, **SMALL, **config, "operations": comfy.ops.disable_weight_init}
    model = getattr(comfy.ldm.wan.model, kind)(dtype=torch.float32, device="cpu", **made)
    arguments: dict[str, Any] = {name: torch.zeros(shape) for name, shape in shapes.items()}
    if "context_latents" in arguments:
        arguments["context_latents"] = [arguments["context_latents"], torch.zeros(1, 16, 1, 4, 4)]
    tokens: list[int] = []

    def first_block(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens.append(args[0].shape[1])
        raise ReachedError

    model.blocks[0].register_forward_pre_hook(first_block, with_kwargs=True)
    x = torch.zeros(1, 16, 3, 6, 8)
    grid = ComfyWanBackbone(model, backbones["comfy"].encode).call_grid(
        x, {}, arguments.get("time_dim_concat"), {k: v for k, v in arguments.items() if k != "time_dim_concat"}
    )
    with torch.no_grad(), pytest.raises(ReachedError):
        model(x, torch.ones(1), torch.zeros(1, ROWS, WIDTH), transformer_options={}, **arguments)
    assert tokens == [grid.before + grid.tokens + grid.after]
    assert grid.tokens == 36 and (grid.before + grid.after > 0) == ("not read" not in case)
