"""The line under a node that says what it is doing."""

from __future__ import annotations

import html


def send_progress_text(text: str, node_id: str | None) -> None:
    """Show `text` under a node.

    ComfyUI's page reads it as HTML and drops tags that it does not know: `<rex>` would vanish, and of `<style>` the
    whole line.
    """
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        server.send_progress_text(html.escape(text, quote=False), node_id)
