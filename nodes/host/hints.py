"""A line under a node while it runs."""

from __future__ import annotations

from typing import Any

from .progress_text import send_progress_text


def hint(node: Any, text: str) -> None:
    """Show `text` under `node`, an io.ComfyNode class that asks for its hidden unique_id."""
    send_progress_text(text, node.hidden.unique_id)
