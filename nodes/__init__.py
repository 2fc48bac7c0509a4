"""The pack's nodes: parse, call `ccvd_core`, wrap."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io


class CCVDExtension(ComfyExtension):
    """Everything that the pack adds to ComfyUI."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []
