"""How regions are sampled, as inputs of two nodes, and what those say when a setting reaches nothing."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...ccvd_core.regions.modes import MODES, RegionSettings
from ...ccvd_core.regions.regional_prompt import has_regions
from .patching import KEY


def region_setting_inputs() -> list[io.Input]:
    """How regions are sampled, as inputs: `RegionSettings` field by field."""
    return [
        io.Combo.Input(
            "mode",
            options=list(MODES),
            default=RegionSettings.mode,
            tooltip="attention: every region attends to its own prompt; nearly as fast as without regions. one at a "
            "time: in the first steps every region is also predicted as if it were the only one, one more pass per "
            "region, so that no subject is crowded out. paper: those passes are of the region's prompt over the whole "
            "frame. paper + bootstrap: and they see a plain colour around the region.",
        ),
        io.Float.Input(
            "region_steps",
            default=0.6,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Share of the whole schedule in which regions are predicted on their own (not in attention mode). "
            "More keeps subjects apart; less gives one coherent scene, and is faster. One at a time falls apart near "
            "1.",
        ),
        io.Float.Input(
            "alpha",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How much of the whole scene's prediction stays inside a region (not in attention mode). The "
            "paper uses 0.1; 1 changes nothing.",
        ),
        io.Float.Input(
            "blend",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Softness of the regions' edges, and how much overlapping regions mix. 0: hard edges, and "
            "the front region wins.",
        ),
        io.Float.Input(
            "bootstrap_steps",
            default=0.2,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Share of the steps with a plain colour around each region (paper + bootstrap), at most "
            "region_steps. It takes two steps or more: the first sees only noise.",
            advanced=True,
        ),
        io.Float.Input(
            "contrast_steps",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Share of the steps in which the prompt for what lies outside the regions takes the negative "
            "prompt's place, so that the guidance draws what the regions add. 0: always the negative prompt.",
            advanced=True,
        ),
        io.Int.Input(
            "region_every",
            default=RegionSettings.region_every,
            min=1,
            max=8,
            tooltip="Regions are predicted on their own in every so many steps (not in attention mode), and stay "
            "between them what they were last predicted to be. More is faster.",
            optional=True,
            advanced=True,
        ),
    ]


def without_effect(settings: RegionSettings, positive: Any, denoise: float) -> str | None:
    """What to tell the artist of settings that change nothing with this positive CONDITIONING; None: they all act."""
    regional = any(has_regions(extra[KEY].prompt) for _, extra in positive if KEY in extra)
    if settings.merges and not regional:
        return f"No regions in the positive conditioning: {settings.mode!r} changes nothing. Connect Region Mask."
    if regional and (unreached := settings.unreached(1 - denoise)):
        return (
            f"With denoise {denoise:g}, sampling begins after {1 - denoise:.0%} of the schedule: {unreached} "
            f"reaches no step. Raise it above {1 - denoise:.2f}, or raise denoise."
        )
    return None
