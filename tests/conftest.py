"""Shapes written in signatures are checked while testing (jaxtyping with beartype)."""

from __future__ import annotations

import importlib.util

CHECKED = (
    "concepts.adapter_bank",
    "prompts.aggregation",
    "prompts.concept_tokens",
    "prompts.aggregate",
    "learning.retention",
    "sampling",
    "regions.masks",
    "regions.attention",
    "regions.scene",
    "regions.merging",
    "regions.modes",
    "regions.run",
    "regions.row_merging",
    "regions.geometry",
    "learning.learner",
    "learning.media",
    "learning.clips",
    "learning.video_file",
    "learning.thumbnails",
)

# In the tests against the real ComfyUI, the pack is only ever loaded by ComfyUI.
if importlib.util.find_spec("ccvd_core") is not None:
    from jaxtyping import install_import_hook

    import tests.shape_checker  # noqa: F401 - the hook looks it up by name

    install_import_hook([f"ccvd_core.{module}" for module in CHECKED], "tests.shape_checker.check")
