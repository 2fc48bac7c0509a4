"""Regions on ComfyUI's own Wan, beside what other packs do to it: overrides, block patches, compilation, windows."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.masks import region_masks
from ccvd_core.regions.region import Keyframe, Region, RegionSet
from ccvd_core.regions.regional_prompt import AnyPrompt, RegionalPrompt
from tests.backbones.scenes import adapters

CPU = torch.device("cpu")
MakePrompt = Callable[..., ConceptPrompt]
ROUNDING = {"atol": 2e-5, "rtol": 1e-4}
"""float32, the same sums in products of other sizes."""


@pytest.fixture
def native(backbones: dict[str, Backbone]) -> ComfyWanBackbone:
    backbone = backbones["comfy"]
    assert isinstance(backbone, ComfyWanBackbone)
    return backbone


def regional(*prompts: ConceptPrompt, box=(0.0, 0.0, 0.34, 1.0), to=None, blend: float = 0.0) -> RegionalPrompt:
    keyframes = (Keyframe(0.0, box), *([Keyframe(1.0, to)] if to else []))
    regions = tuple(Region("", "a dog", "#ffffff", 1.0, keyframes) for _ in prompts[1:])
    return RegionalPrompt(prompts, RegionSet(64, 64, regions), blend)


def run(
    backbone: ComfyWanBackbone,
    attachment: Attachment,
    case,
    prompts: list[AnyPrompt],
    options: dict[str, Any] | None = None,
    model: Any = None,
    **kwargs: Any,
) -> Tensor:
    """One call of the model with transformer_options, as ComfyUI makes it."""
    options, latents = options or {}, case.latents
    grid = backbone.call_grid(latents, options, kwargs.get("time_dim_concat"), kwargs)
    context = torch.stack([prompt.context for prompt in prompts])
    with torch.no_grad(), attachment.activate(prompts, CPU, context.shape[1], grid):
        call = backbone._model if model is None else model
        return call(latents, case.t * 1000, context=context, transformer_options=options, **kwargs)


@pytest.fixture
def scene(make_prompt: MakePrompt) -> list[AnyPrompt]:
    one, other = make_prompt("a dog runs", (1.0,)), make_prompt("a red cat", (0.6,), seed=2)
    return [regional(one, other), other]


def test_another_packs_attention_override_stays_around_the_kernel(native: ComfyWanBackbone, case, scene):
    calls: list[tuple[int, int]] = []

    def theirs(func: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        calls.append((q.shape[1], k.shape[1]))
        options = kwargs["transformer_options"]
        assert options["optimized_attention_override"] is theirs, "it must not find ours and come back to us"
        return 2 * func(q, k, v, *args, **kwargs)

    with Attachment(native, [adapters(native, 1)]) as attachment:
        plain = run(native, attachment, case, scene)
        doubled = run(native, attachment, case, scene, {"optimized_attention_override": theirs})
    # Per layer: self-attention; the scene's 12 tokens outside and 6 inside; the plain row's 18.
    assert calls == [(18, 18), (12, 8), (6, 8), (18, 8)] * native.layers
    assert (doubled - plain).abs().max() > 1e-2


def test_another_packs_block_patch_is_kept(native: ComfyWanBackbone, case, scene):
    """It wraps the block as before, and sees the context that ComfyUI gave the model."""
    seen: list[torch.Size] = []

    def replace_block(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        seen.append(args["txt"].shape)
        out = extra["original_block"](args)
        return {"img": out["img"] * 1.5}

    patches = {"patches_replace": {"dit": {("double_block", 1): replace_block}}}
    with Attachment(native, [adapters(native, 1)]) as attachment:
        plain = run(native, attachment, case, scene)
        patched = run(native, attachment, case, scene, patches)
    assert seen == [torch.Size([2, 8, 64])]
    assert (patched - plain).abs().max() > 1e-2


def test_attn_patches_see_the_batch_as_it_is(native: ComfyWanBackbone, case, scene):
    shapes: list[torch.Size] = []
    patches = {"patches": {"attn2_patch": [lambda args: shapes.append(args["x"].shape) or args["x"]]}}
    with Attachment(native, [adapters(native, 1)]) as attachment:
        expected = run(native, attachment, case, scene)
        assert torch.equal(run(native, attachment, case, scene, patches), expected)
    assert shapes == [torch.Size([2, 18, 64])] * native.layers


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_models_follow_changed_scenes(native: ComfyWanBackbone, case, make_prompt: MakePrompt, scene):
    """Nothing of a step is frozen into the compiled code: weights, regions, masks, or that there are regions at all."""
    one, other = make_prompt("a dog runs", (1.0,)), make_prompt("a red cat", (0.6,), seed=2)
    stronger = make_prompt("a dog runs", (0.3,))
    steps: list[list[AnyPrompt]] = [
        [one, other],
        scene,
        [regional(stronger, one, box=(0.3, 0.0, 0.7, 0.5)), other],
        [regional(one, other, other, box=(0.5, 0.0, 0.5, 1.0), blend=0.5), one],
        [one, stronger],
    ]
    compiled = torch.compile(native._model, backend="eager", dynamic=False)
    with Attachment(native, [adapters(native, 1)]) as attachment:
        for prompts in steps:
            expected = run(native, attachment, case, prompts)
            torch.testing.assert_close(run(native, attachment, case, prompts, model=compiled), expected, **ROUNDING)


def test_masks_of_a_context_window(native: ComfyWanBackbone, case, make_prompt: MakePrompt):
    """A moving region is where it is in the window's own frames of the whole clip."""
    prompt = regional(make_prompt("a dog"), make_prompt("a cat"), box=(0.0, 0, 0.34, 1), to=(0.66, 0, 0.34, 1))
    window = SimpleNamespace(index_list=[4, 5, 6], total_frames=7, causal_anchor_index=None)
    grid = native.call_grid(case.latents, {"context_window": window}, None, {})
    assert (grid.numbers, grid.clip_length) == ((4, 5, 6), 7)
    part = region_masks(prompt.regions, grid).unflatten(1, (3, 2, 3))
    whole = region_masks(prompt.regions, native.grid((4, 7, 4, 6))).unflatten(1, (7, 2, 3))
    assert torch.equal(part, whole[:, 4:])
    window.index_list, window.causal_anchor_index = [5, 6], 4
    assert native.call_grid(case.latents, {"context_window": window}, None, {}).numbers == (4, 5, 6)


def test_tokens_that_show_no_part_of_the_clip_are_the_whole_frames(native: ComfyWanBackbone, case, make_prompt):
    """Frames put behind the clip (time_dim_concat), as some Wan models do: the region does not reach them."""
    one, other = make_prompt("a dog runs", (1.0,)), make_prompt("a red cat", (0.6,), seed=2)
    behind = torch.zeros(2, 4, 1, 4, 6)
    with Attachment(native, [adapters(native, 1)]) as attachment:
        same = run(native, attachment, case, [regional(one, one)] * 2, time_dim_concat=behind)
        plain = run(native, attachment, case, [one, one], time_dim_concat=behind)
        mixed = run(native, attachment, case, [regional(one, other)] * 2, time_dim_concat=behind)
    torch.testing.assert_close(same, plain, **ROUNDING)
    assert (mixed - plain).abs().max() > 1e-3


@pytest.fixture
def image_to_video(native: ComfyWanBackbone) -> ComfyWanBackbone:
    import comfy.ops
    from comfy.ldm.wan.model import WanModel

    torch.manual_seed(3)
    model = WanModel(
        model_type="i2v",
        dim=64,
        ffn_dim=96,
        freq_dim=32,
        text_dim=20,
        in_dim=4,
        out_dim=4,
        num_heads=2,
        num_layers=2,
        operations=comfy.ops.disable_weight_init,
        dtype=torch.float32,
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.requires_grad_(False)
    return ComfyWanBackbone(model, native.encode)


def test_image_to_video_models_attend_to_their_picture_everywhere(image_to_video: ComfyWanBackbone, case, make_prompt):
    def prompt(text: str, weight: float, seed: int) -> ConceptPrompt:
        made = make_prompt(text, (weight,), seed=seed)
        placed = tuple(type(t)(t.concept, t.rows, t.values[:2]) for t in made.placed)
        return ConceptPrompt(made.context, placed, made.weights[:2], made.gates)

    one, other = prompt("a dog runs", 1.0, 1), prompt("a red cat", 0.6, 2)
    picture = torch.randn(2, 257, 1280, generator=torch.Generator().manual_seed(4))
    with Attachment(image_to_video, [adapters(image_to_video, 1)]) as attachment:

        def call(*prompts: AnyPrompt) -> Tensor:
            return run(image_to_video, attachment, case, list(prompts), clip_fea=picture)

        plain = call(one, other)
        full = regional(other, one, box=(0.0, 0.0, 1.0, 1.0))
        torch.testing.assert_close(call(full, other), plain, **ROUNDING)
        torch.testing.assert_close(call(regional(one, one), other), plain, **ROUNDING)
        assert (call(regional(one, other), other)[0] - plain[0]).abs().max() > 1e-3
