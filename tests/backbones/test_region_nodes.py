"""The nodes' patches on ComfyUI's own sampling against the headless sampler: the same clip in every mode."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from base import DemoBase, load_base

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.concepts.concept import Concept
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.modes import MODES, RegionSettings
from ccvd_core.regions.region import RegionSet
from ccvd_core.regions.regional_prompt import RegionalPrompt
from ccvd_core.regions.scene import READINGS, Reading, aggregate_scene
from ccvd_core.sampling import Source, sample
from tests.backbones.demo_scenes import MOVING, STILL, in_comfyui, load_model, random_concepts, theirs
from tests.backbones.pack import from_pack

STEPS, CFG, SHAPE = 4, 2.0, (2, 16, 2, 8, 10)


@pytest.fixture(scope="module")
def base() -> DemoBase:
    return load_base()


@pytest.fixture(scope="module")
def model(backbones: dict[str, Backbone]) -> Any:
    return load_model()


@pytest.fixture(scope="module")
def concepts(base: DemoBase) -> list[Concept]:
    return random_concepts(base)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    "settings",
    [
        RegionSettings(blend=0.5),
        RegionSettings("paper", region_steps=0.5, alpha=0.2),
        RegionSettings("paper + bootstrap", region_steps=0.75, bootstrap_steps=0.5, blend=0.3),
        RegionSettings("one at a time", region_steps=0.75, contrast_steps=0.5, blend=0.3),
        RegionSettings("one at a time", region_steps=0.5),
        RegionSettings(contrast_steps=0.5),
        RegionSettings("paper", region_steps=0.5, contrast_steps=0.75),
    ],
    ids=lambda settings: f"{settings.mode}, contrast {settings.contrast_steps}",
)
def test_nodes_and_headless_sampling_agree(
    model: Any, base: DemoBase, concepts: list[Concept], settings: RegionSettings, reading: Reading
):
    check_agreement(model, base, concepts, settings, reading)


def test_a_new_mode_is_a_new_row(model: Any, base: DemoBase, concepts: list[Concept], monkeypatch: pytest.MonkeyPatch):
    """Both samplers do what a row says that no mode of the pack combines: one region at a time, on a plain colour."""
    for modes in (importlib.import_module("ccvd_core.regions.modes"), from_pack("ccvd_core.regions.modes")):
        row = modes.Mode(
            modes.one_at_a_time, ("region_steps",), modes.Background.COLOUR, ("region_steps", "bootstrap_steps")
        )
        monkeypatch.setattr(modes, "MODES", {**modes.MODES, "alone on a colour": row})
    shares = {"region_steps": 0.75, "bootstrap_steps": 0.5}
    made, *known = (
        headless(base, concepts, RegionSettings(mode, **shares))
        for mode in ("alone on a colour", "one at a time", "paper + bootstrap")
    )
    assert all((made - other).abs().max() > 1e-2 for other in known)
    check_agreement(model, base, concepts, RegionSettings("alone on a colour", **shares))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("denoise", "masked"), [(0.5, False), (1.0, True), (0.5, True)])
def test_a_clip_is_changed_alike(
    model: Any, base: DemoBase, concepts: list[Concept], mode: str, denoise: float, masked: bool
):
    """Partly redrawn, and only inside a mask over time."""
    generator = torch.Generator().manual_seed(8)
    mask = (torch.rand(1, 1, *SHAPE[2:], generator=generator) > 0.5).float() if masked else None
    source = Source(torch.randn(SHAPE, generator=generator), denoise, mask)
    check_agreement(model, base, concepts, RegionSettings(mode, region_steps=1.0, bootstrap_steps=1.0), source=source)


def scene_of(base: DemoBase, concepts: list[Concept], reading: Reading) -> tuple[RegionalPrompt, ConceptPrompt]:
    """The scene, and the negative prompt."""
    regions, backbone = RegionSet(80, 64, (MOVING, STILL)), base.backbone()
    scene = aggregate_scene(backbone, "a star on green grass", regions, concepts, reading=reading).prompt
    return scene, aggregate(backbone, "", concepts).prompt


def headless(
    base: DemoBase,
    concepts: list[Concept],
    settings: RegionSettings,
    reading: Reading = "alone",
    source: Source | None = None,
) -> torch.Tensor:
    (scene, negative), backbone = scene_of(base, concepts, reading), base.backbone()
    with Attachment(backbone, [concept.adapters for concept in concepts]) as attachment:
        return sample(
            backbone, attachment, [scene, scene], negative, noise(), STEPS, cfg=CFG, regions=settings, source=source
        )


def noise() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))


def check_agreement(
    model: Any,
    base: DemoBase,
    concepts: list[Concept],
    settings: RegionSettings,
    reading: Reading = "alone",
    source: Source | None = None,
) -> None:
    """Headless and ComfyUI's sampling make the same latents."""
    import comfy.model_management

    patching = from_pack("nodes.host.patching")
    scene, negative = scene_of(base, concepts, reading)
    patched = patching.with_concepts(
        patching.with_region_settings(model, theirs(settings)), [theirs(replace(c, settings={})) for c in concepts]
    )
    changes: dict[str, Any] = {"steps": STEPS, "cfg": CFG}
    if source is not None:
        changes["latents"] = model.model.process_latent_out(source.latents)
        changes |= {"denoise": source.denoise, "noise_mask": source.mask}
    ours = model.model.process_latent_in(in_comfyui(patched, scene, negative, noise(), **changes))
    # Two implementations of the model in float32, four steps.
    torch.testing.assert_close(ours, headless(base, concepts, settings, reading, source), atol=2e-3, rtol=2e-3)
    comfy.model_management.unload_all_models()
    assert not any(module._forward_hooks for module in model.model.diffusion_model.modules())


def test_backbones_of_both_agree_on_the_fingerprint(model: Any, base: DemoBase):
    assert ComfyWanBackbone(model.model.diffusion_model, base.encode_text).fingerprint.matches(
        base.backbone().fingerprint
    )


@pytest.mark.usefixtures("model")
def test_a_context_window_has_its_own_frames_of_the_surroundings():
    """With the anchor frame that ComfyUI puts before a window; none where the shapes say that it is another clip."""
    from comfy.context_windows import IndexListContextWindow

    frames_of = from_pack("nodes.host.region_stages").frames_of
    window = IndexListContextWindow([4, 5, 6], dim=2, total_frames=9)
    clip, seen = torch.zeros(1, 16, 9, 2, 2), torch.zeros(1, 16, 3, 2, 2)
    options: dict[str, Any] = {"transformer_options": {"context_window": window}}
    assert frames_of(clip, seen, options).tolist() == [4, 5, 6]
    window.causal_anchor_index = 0
    assert frames_of(clip, torch.zeros(1, 16, 4, 2, 2), options).tolist() == [0, 4, 5, 6]
    assert frames_of(clip, seen, options) is None
    assert frames_of(clip, clip, {"transformer_options": {}}).tolist() == list(range(9))
