"""CCVD for ComfyUI: teach a video model one concept after another, and use any of them in a prompt or a region."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import CCVDExtension

WEB_DIRECTORY = "./js"


async def comfy_entrypoint() -> CCVDExtension:
    """ComfyUI calls this once. The nodes are imported only here, so that test tools may import this file."""
    from .nodes import CCVDExtension

    return CCVDExtension()
