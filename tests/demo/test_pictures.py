"""The pictures and clips that come with the pack are what the demo's world draws now."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clips import read_frames
from make_demo_pictures import FOLDER, DemoConcept, demo_concepts
from PIL import Image

CONCEPTS = {concept.name: concept for concept in demo_concepts()}
COMPRESSION = 4.0
"""Mean difference (of 255) that the clips' compression may make."""


def read(file: Path) -> np.ndarray:
    if file.suffix == ".png":
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB"))[None]
    return np.stack([np.asarray(frame) for frame in read_frames(file)])


def test_the_index_names_every_concept_that_the_base_has_not_seen() -> None:
    index = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
    assert index == {c.name: {"kind": c.kind, "class_words": c.class_words} for c in CONCEPTS.values()}
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(CONCEPTS)


@pytest.mark.parametrize("concept", CONCEPTS.values(), ids=lambda concept: concept.name)
def test_the_files_are_what_the_world_draws(concept: DemoConcept) -> None:
    """When this fails the world has changed: run scripts/make_demo_pictures.py and look at what it draws."""
    files = sorted(path for path in (FOLDER / concept.name).iterdir() if path.suffix != ".txt")
    assert len(files) == len(concept.samples)
    for file, sample in zip(files, concept.samples, strict=True):
        assert file.with_suffix(".txt").read_text(encoding="utf-8").strip() == sample.caption
        assert f"<{concept.name}>" in sample.caption
        shown = read(file)
        assert shown.shape == sample.frames.shape
        assert np.abs(shown.astype(float) - sample.frames).mean() < (0.001 if len(shown) == 1 else COMPRESSION)
