"""What was drawn and judged before: the same scene, to the last bit, is not drawn again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ccvd_core.regions.library_scene import LibraryScene


def digest(used: LibraryScene) -> str:
    """Equal for scenes that draw the same clip from the same noise."""
    (prompt,) = used.scene.prompt.prompts
    columns = [used.names.index(concept.name) for concept in used.acting]
    tensors = [prompt.context, prompt.weights[:, columns], prompt.gates[:, columns]]
    tensors += [placed.values for placed in prompt.placed]
    for concept in used.acting:
        for site in sorted(concept.adapters):
            tensors += [concept.adapters[site].a, concept.adapters[site].b]
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().float().contiguous().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


class Drawn:
    """What was drawn and judged before, on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = json.loads(path.read_text()) if path.exists() else {}

    def find(self, method: str, task: str, key: str) -> dict[str, float] | None:
        kept = self._known.get(f"{method} {task}")
        return kept["values"] if kept and kept["key"] == key else None

    def keep(self, method: str, task: str, key: str, values: dict[str, float]) -> None:
        self._known[f"{method} {task}"] = {"key": key, "values": values}
        draft = self._path.with_suffix(".part")
        draft.write_text(json.dumps(self._known))
        draft.replace(self._path)
