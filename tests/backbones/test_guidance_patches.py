"""ComfyUI's own patches for guidance act on what our regions predict, in every mode, as their formulas say."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from ccvd_core.backbones.base import Backbone
from ccvd_core.regions.modes import RegionSettings
from tests.backbones.region_studio import MODES, Studio, label

CFG = 4.0


def extra(name: str) -> ModuleType:
    return importlib.import_module(f"comfy_extras.{name}")


def projected(model: Any) -> Any:
    """Adaptive Projected Guidance."""
    return extra("nodes_apg").APG.execute(model, eta=0.2, norm_threshold=2.0, momentum=0.0).args[0]


def zero_star(model: Any) -> Any:
    return extra("nodes_cfg").CFGZeroStar.execute(model).args[0]


def rescaled(model: Any) -> Any:
    return extra("nodes_model_advanced").RescaleCFG().patch(model, 0.7)[0]


PATCHES = (projected, zero_star, rescaled)


@pytest.fixture(scope="module")
def studio(backbones: dict[str, Backbone]) -> Iterator[Studio]:
    import comfy.model_management

    yield Studio()
    comfy.model_management.unload_all_models()


@pytest.fixture(autouse=True)
def comfyuis_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the files names ComfyUI's nodes.py, which our own `nodes` hides here, for a constant."""
    stand_in = ModuleType("nodes")
    stand_in.MAX_RESOLUTION = 16384  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nodes", stand_in)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.__name__)
@pytest.mark.parametrize("settings", MODES, ids=label)
def test_a_patch_for_guidance_gets_the_merged_predictions(
    studio: Studio, settings: RegionSettings, patch: Callable[[Any], Any]
):
    """One step, whose end is what guidance makes of the two predictions."""
    import comfy.samplers

    seen: list[dict[str, Any]] = []
    watched = studio.patched(settings)
    watched.set_model_sampler_post_cfg_function(lambda args: seen.append(args) or args["denoised"])
    plain = studio.sample(watched, steps=1, cfg=CFG)
    (args,) = seen
    options = patch(studio.patched(settings)).model_options
    predictions = [args["cond_denoised"], args["uncond_denoised"]]
    for change in options.get("sampler_pre_cfg_function", []):
        predictions = change({**args, "conds_out": predictions, "cond_scale": CFG, "timestep": args["sigma"]})
    expected = comfy.samplers.cfg_function(
        args["model"],
        *predictions,
        CFG,
        args["input"],
        args["sigma"],
        model_options=options,
        cond=args["cond"],
        uncond=args["uncond"],
    )
    found = studio.sample(patch(studio.patched(settings)), steps=1, cfg=CFG)
    ended = args["model"].process_latent_out(expected)
    torch.testing.assert_close(found, ended.to(found), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, plain, atol=1e-2), "the patch does something"


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.__name__)
def test_a_patch_before_ours_and_one_after_it_are_the_same(studio: Studio, patch: Callable[[Any], Any]):
    settings = MODES[-1]
    after = studio.sample(patch(studio.patched(settings)), steps=2, cfg=CFG)
    original = studio.models[0]
    studio.models[0] = patch(original)
    try:
        before = studio.sample(studio.patched(settings), steps=2, cfg=CFG)
    finally:
        studio.models[0] = original
    assert torch.equal(before, after)
