"""What Learn Concept gives and shows: library, loss curve, report, and the concept's thumbnail on the node."""

from __future__ import annotations

import math
import secrets
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ...ccvd_core.concepts.concept import Concept
from ...ccvd_core.learning.thumbnails import is_moving
from .pictures import loss_picture


def results(concept: Concept, library: object, report: str) -> io.NodeOutput:
    """The node's outputs for a concept that is in the library."""
    kept = concept.settings.get("losses")
    losses = [float(loss) for loss in kept if isinstance(loss, int | float)] if isinstance(kept, list) else []
    steps = concept.settings.get("steps_done")
    picture = loss_picture(
        [loss for loss in losses if math.isfinite(loss)],
        f"<{concept.name}>: loss",
        steps if isinstance(steps, int) else len(losses),
    )
    return io.NodeOutput(library, picture, report, ui=thumbnail_on_node(concept))


def thumbnail_on_node(concept: Concept) -> ui.SavedImages:
    """The concept's thumbnail, which moves if it is of a motion, as the node's own picture."""
    if concept.preview is None:
        return ui.SavedImages([])
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    name = f"ccvd_{concept.name}_{secrets.token_hex(4)}.webp"
    (folder / name).write_bytes(concept.preview)
    return ui.SavedImages([ui.SavedResult(name, "", io.FolderType.temp)], is_animated=is_moving(concept.preview))
