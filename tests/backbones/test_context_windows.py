"""Long clips in ComfyUI's context windows: each window has the regions, at the times, of its own frames.

The oracle is a short clip of a window's frames, sampled by itself, whose regions are at each frame where those of the
long clip are at that frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ccvd_core.backbones.base import Backbone
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.modes import RegionSettings
from ccvd_core.regions.region import Keyframe, PaintedRegion, Region, RegionSet, Shape
from ccvd_core.regions.regional_prompt import RegionalPrompt
from tests.backbones.demo_scenes import STILL, conditioning, theirs
from tests.backbones.pack import from_pack
from tests.backbones.region_studio import MODES, Studio, label
from tests.tiny_text_to_video import WIDTH, write_text_to_video

CLIPS = {81: 21, 161: 41}
"""Frames, and latent frames."""
STEP = 4
"""Frames to a latent frame after the first."""
ROUNDING = {"atol": 2e-4, "rtol": 1e-3}
"""The same sums in batches of other sizes, float32."""
PATH = Region(
    "",
    "a <rex>",
    "#ffffff",
    1.0,
    (
        Keyframe(0.0, (0.0, 0.0, 0.4, 0.5)),
        Keyframe(0.3, (0.6, 0.0, 0.4, 0.5)),
        Keyframe(0.7, (0.6, 0.5, 0.4, 0.5)),
        Keyframe(1.0, (0.0, 0.5, 0.4, 0.5)),
    ),
)
"""Right, down and left again: the clip's first frames tell nothing of the others."""
ALL_STEPS = [replace(settings, region_steps=1.0, bootstrap_steps=1.0) for settings in MODES]


@pytest.fixture(scope="module")
def studio(backbones: dict[str, Backbone]) -> Iterator[Studio]:
    import comfy.model_management

    yield Studio()
    comfy.model_management.unload_all_models()


def handler(length: int, overlap: int, schedule: str, **changes: Any) -> Any:
    """What ComfyUI's context window nodes put on a MODEL: lengths in latent frames, all windows counting alike."""
    from comfy.context_windows import IndexListContextHandler, get_matching_context_schedule, get_matching_fuse_method

    usual = {"dim": 2, "fuse_method": get_matching_fuse_method("flat")}
    return IndexListContextHandler(
        context_schedule=get_matching_context_schedule(schedule),
        context_length=length,
        context_overlap=overlap,
        **{**usual, **changes},
    )


def windowed(model: Any, windows: Any) -> Any:
    made = model.clone()
    made.model_options["context_handler"] = windows
    return made


def times(frames: int, step: int) -> list[float]:
    """When in its clip each latent frame is, 0 to 1: at the first frame, then in the middle of `step` frames."""
    last = step * (frames - 1)
    return [0.0, *((step * (number - 1) + (step + 1) / 2) / last for number in range(1, frames))]


def at_frames(regions: RegionSet, numbers: Sequence[int], frames: int, step: int) -> RegionSet:
    """The regions of a clip of `frames` latent frames, in the clip that has only those of these numbers."""
    long, short = times(frames, step), times(len(numbers), step)

    def cut(region: Shape) -> Shape:
        if isinstance(region, PaintedRegion):
            # So many masks that each of them is at the time of one latent frame or of none.
            many = 2 * step * (len(numbers) - 1) + 1
            nearest = [min(range(len(short)), key=lambda n: abs(short[n] - at / (many - 1))) for at in range(many)]
            masks = [region.mask[region.place_at(long[numbers[n]])] for n in nearest]
            return replace(region, mask=torch.stack(masks))
        assert isinstance(region, Region)
        frames_ = (Keyframe(t, region.box_at(long[number])) for t, number in zip(short, numbers, strict=True))
        return replace(region, keyframes=tuple(frames_))

    return replace(regions, regions=tuple(map(cut, regions.regions)))


def seen_together(windows: Any, frames: int) -> list[tuple[list[int], list[int]]]:
    """In ComfyUI's first step: the frames of each window, and the one that it puts before them."""
    lists = windows.context_schedule.func(frames, windows, {})
    before = [numbers[0] - 1 for numbers in lists]
    anchors = [[number] if windows.causal_window_fix and number >= 0 else [] for number in before]
    return list(zip(lists, anchors, strict=True))


def fused(windows: Any, noise: Tensor, short_clip: Callable[[list[int]], Tensor]) -> Tensor:
    """Every frame the mean of what the windows' own clips have there."""
    total, count = torch.zeros_like(noise), torch.zeros(noise.shape[2])
    for numbers, anchor in seen_together(windows, noise.shape[2]):
        total[:, :, numbers] += short_clip([*anchor, *numbers])[:, :, len(anchor) :]
        count[numbers] += 1
    assert (count > 0).all()
    return total / count.view(-1, 1, 1)


def clip_noise(frames: int, channels: int = 16, height: int = 6, width: int = 8) -> Tensor:
    shape = (1, channels, frames, height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def painted(frames: int) -> PaintedRegion:
    """One mask for each frame: a square that goes down the left side."""
    mask = torch.zeros(frames, 48, 64)
    for number in range(frames):
        top = round(32 * number / (frames - 1))
        mask[number, top : top + 16, :24] = 1
    return PaintedRegion("", "a <kit> on blue sky", 1.0, mask)


def scene_of(studio: Studio, *regions: Shape) -> RegionalPrompt:
    return replace(studio.scene, regions=RegionSet(64, 48, regions))


def check(studio: Studio, settings: RegionSettings, windows: Any, frames: int, scene: RegionalPrompt, steps: int = 1):
    """The windowed clip against the windows' own clips; and against regions that forget which frames these are."""
    noise, model = clip_noise(frames), studio.patched(settings)

    def sampled(scene: RegionalPrompt, noise: Tensor, model: Any = model) -> Tensor:
        return studio.sample(model, scene=scene, noise=noise, steps=steps)

    def short_clip(numbers: list[int], at: list[int] | None = None) -> Tensor:
        places = at_frames(scene.regions, at or numbers, frames, STEP)
        return sampled(replace(scene, regions=places), noise[:, :, numbers])

    found = sampled(scene, noise, windowed(model, windows))
    torch.testing.assert_close(found, fused(windows, noise, short_clip), **ROUNDING)
    forgetful = fused(windows, noise, lambda numbers: short_clip(numbers, list(range(len(numbers)))))
    assert (forgetful - found).abs().max() > 1e-2


SCHEDULES = [
    ("standard_static", {}),
    ("standard_static", {"causal_window_fix": False}),
    ("standard_uniform", {"context_stride": 2}),
    ("looped_uniform", {"closed_loop": True}),
    ("batched", {}),
]


@pytest.mark.parametrize(("schedule", "changes"), SCHEDULES, ids=str)
@pytest.mark.parametrize("settings", ALL_STEPS, ids=label)
def test_a_window_is_the_clip_of_its_own_frames(
    studio: Studio, settings: RegionSettings, schedule: str, changes: dict[str, Any]
):
    """81 frames."""
    check(studio, settings, handler(9, 3, schedule, **changes), CLIPS[81], scene_of(studio, PATH, STILL))


@pytest.mark.parametrize("settings", ALL_STEPS, ids=label)
def test_161_frames_in_the_windows_that_comfyui_suggests(studio: Studio, settings: RegionSettings):
    """81 frames with 30 of overlap."""
    check(studio, settings, handler(21, 7, "standard_uniform"), CLIPS[161], scene_of(studio, PATH, STILL))


@pytest.mark.parametrize("settings", ALL_STEPS, ids=label)
def test_masks_of_every_frame_of_the_clip(studio: Studio, settings: RegionSettings):
    scene = scene_of(studio, PATH, painted(81))
    check(studio, settings, handler(9, 3, "standard_static"), CLIPS[81], scene)


@pytest.mark.parametrize("settings", MODES, ids=label)
def test_windows_that_share_no_frame_are_clips_of_their_own_in_all_steps(studio: Studio, settings: RegionSettings):
    """What is kept from step to step, such as what surrounds the regions, is the window's own."""
    windows = handler(7, 0, "batched", causal_window_fix=False)
    check(studio, settings, windows, CLIPS[81], scene_of(studio, PATH, STILL), steps=4)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("settings", MODES, ids=label)
def test_all_steps_with_windows_that_move(studio: Studio, settings: RegionSettings, every: int):
    """Windows that lie elsewhere in each step: a scene whose regions all say what the whole frame does is a prompt."""
    settings = replace(settings, contrast_steps=0.0, bootstrap_steps=0.0, region_every=every)
    one = studio.scene.prompts[1]
    same = RegionalPrompt((one, one, one), RegionSet(64, 48, (PATH, STILL)))
    model = windowed(studio.patched(settings), handler(9, 3, "standard_uniform"))
    noise = clip_noise(CLIPS[81])
    found = studio.sample(model, scene=same, noise=noise, steps=4)
    assert found.isfinite().all()
    if settings.mode != "one at a time" and every == 1:  # those regions see other surroundings
        expected = studio.sample(model, scene=one, noise=noise, steps=4)
        torch.testing.assert_close(found, expected, **ROUNDING)


@pytest.mark.parametrize("settings", MODES, ids=label)
@pytest.mark.parametrize("dim", [0, 3, 4])
def test_windows_over_something_else_than_frames_are_refused_before_the_model_is_called(
    studio: Studio, settings: RegionSettings, dim: int, monkeypatch: pytest.MonkeyPatch
):
    calls: list[int] = []
    network = studio.models[0].model.diffusion_model
    handle = network.register_forward_pre_hook(lambda *_: calls.append(1))
    noise = clip_noise(3).repeat(2, 1, 1, 1, 1)
    model = windowed(studio.patched(settings), handler(1, 0, "batched", dim=dim, causal_window_fix=False))
    try:
        with pytest.raises(ValueError, match=rf"divide the latents along `dim` {dim}.*Set `dim` .* to 2"):
            studio.sample(model, noise=noise, steps=1)
        assert not calls
        unused = windowed(studio.patched(settings), handler(99, 0, "batched", dim=dim))
        assert studio.sample(unused, noise=noise, steps=1).isfinite().all() and calls
    finally:
        handle.remove()


def test_without_regions_other_windows_are_left_alone(studio: Studio):
    model = windowed(studio.patched(MODES[0]), handler(4, 0, "batched", dim=4, causal_window_fix=False))
    assert studio.sample(model, scene=studio.scene.prompts[1], noise=clip_noise(3), steps=1).isfinite().all()


@pytest.mark.parametrize("mode", ["attention", "one at a time", "paper", "paper + bootstrap"])
def test_a_model_that_makes_every_frame_has_windows_too(
    backbones: dict[str, Backbone], tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
):
    """A 3D UNet, whose latent frames are the clip's frames."""
    import comfy.sample

    write_text_to_video(tmp_path)
    text_to_video, patching = from_pack("nodes.host.text_to_video"), from_pack("nodes.host.patching")
    folder = from_pack("ccvd_core.backbones.diffusers_folder").read_folder(tmp_path)
    settings = RegionSettings(mode, region_steps=1.0, bootstrap_steps=1.0)
    model = patching.with_region_settings(text_to_video.load_model(folder), theirs(settings))
    layers = len(from_pack("nodes.host.backbone").backbone_of(model, None).text_inputs())
    texts = torch.randn(4, 6, WIDTH, generator=torch.Generator().manual_seed(2))
    prompts = tuple(ConceptPrompt(text, (), torch.zeros(layers, 0), torch.zeros(6, 0)) for text in texts[:3])
    scene = RegionalPrompt(prompts, RegionSet(64, 48, (PATH, STILL)))
    noise = clip_noise(17, channels=4)

    def sampled(scene: RegionalPrompt, noise: Tensor, model: Any = model) -> Tensor:
        positive = conditioning(scene, ())
        usual = {"sampler_name": "euler", "scheduler": "simple", "disable_pbar": True, "seed": 1}
        negative = [[texts[3:], {}]]
        return comfy.sample.sample(model, noise, 1, 2.0, positive=positive, negative=negative, **usual,
                                   latent_image=torch.zeros_like(noise))  # fmt: skip

    windows = handler(8, 3, "standard_static")
    found = sampled(scene, noise, windowed(model, windows))

    def short_clip(numbers: list[int], at: list[int] | None = None) -> Tensor:
        return sampled(replace(scene, regions=at_frames(scene.regions, at or numbers, 17, 1)), noise[:, :, numbers])

    torch.testing.assert_close(found, fused(windows, noise, short_clip), **ROUNDING)
    forgetful = fused(windows, noise, lambda numbers: short_clip(numbers, list(range(len(numbers)))))
    assert (forgetful - found).abs().max() > 1e-2
