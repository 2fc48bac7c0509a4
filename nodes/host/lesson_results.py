"""What Learn Concept gives and shows: library, loss curve, report, and the concept's thumbnail on the node."""

from __future__ import annotations

import math
import secrets
from io import BytesIO
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ...ccvd_core.concepts.concept import Concept
from ...ccvd_core.concepts.library import ConceptLibrary
from ...ccvd_core.errors import LibraryError
from ...ccvd_core.learning.thumbnails import is_moving
from .libraries import LibrarySelection
from .pictures import loss_picture
from .sample_strip import SampleStrip


def results(concept: Concept, library: object, report: str, strip: SampleStrip | None = None) -> io.NodeOutput:
    """The node's outputs for a concept that is in the library, and what it drew while it learned."""
    kept = concept.settings.get("losses")
    losses = [float(loss) for loss in kept if isinstance(loss, int | float)] if isinstance(kept, list) else []
    steps = concept.settings.get("steps_done")
    picture = loss_picture(
        [loss for loss in losses if math.isfinite(loss)],
        f"<{concept.name}>: loss",
        steps if isinstance(steps, int) else len(losses),
    )
    return io.NodeOutput(library, picture, report, ui=pictures_on_node(concept, strip))


def already_there(library: ConceptLibrary, name: str, job: str) -> io.NodeOutput:
    """What a lesson gives whose name is taken: fine if by this very job, never overwritten otherwise: LibraryError."""
    concept = library.load(name)
    if concept.settings.get("job") != job:
        raise LibraryError(
            f"The library {library.folder.name!r} already has a concept <{name}>, learned with other pictures or "
            "settings. Choose another name, or delete its file in ComfyUI/models/ccvd to learn it again."
        )
    report = f"<{name}> was learned before with the same inputs: nothing to do."
    return results(concept, LibrarySelection(library), report)


def pictures_on_node(concept: Concept, strip: SampleStrip | None) -> ui.SavedImages:
    """The concept's thumbnail, which moves if it is of a motion, and the sample prompts, as the node's own pictures."""
    saved = []
    if concept.preview is not None:
        saved.append(saved_picture(concept.name, concept.preview))
    if strip:
        data = BytesIO()
        strip.picture().save(data, "WEBP", quality=90)
        saved.append(saved_picture(concept.name, data.getvalue()))
    return ui.SavedImages(saved, is_animated=concept.preview is not None and is_moving(concept.preview))


def saved_picture(name: str, data: bytes) -> ui.SavedResult:
    """A WebP picture in ComfyUI's temporary folder."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    file = f"ccvd_{name}_{secrets.token_hex(4)}.webp"
    (folder / file).write_bytes(data)
    return ui.SavedResult(file, "", io.FolderType.temp)
