"""Shapes written in signatures are checked while testing (jaxtyping with beartype)."""

from __future__ import annotations

import importlib.util

CHECKED = (
    "adapter_bank",
    "aggregation",
    "concept_tokens",
    "concept_prompt",
    "retention",
    "sampling",
    "region_masks",
    "region_attention",
    "region_prompt",
    "noise_merge",
    "learning",
    "media",
    "clips",
    "video_file",
    "thumbnails",
)

# In the tests against the real ComfyUI, the pack is only ever loaded by ComfyUI.
if importlib.util.find_spec("ccvd_core") is not None:
    from jaxtyping import install_import_hook

    import tests.shape_checker  # noqa: F401 - the hook looks it up by name

    install_import_hook([f"ccvd_core.{module}" for module in CHECKED], "tests.shape_checker.check")
