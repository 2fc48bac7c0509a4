"""Learn Concept on small Wan models, without a server: fixtures for the tests that import them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.library import ConceptLibrary
from tests.backbones.pack import from_pack

FRAMES = torch.rand(9, 96, 64, 3, generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="module")
def wan_text(backbones: dict[str, Backbone]) -> Any:
    """The demo model's text encoder, as wide as the small models read."""
    demo_model = from_pack("nodes.host.demo_base")
    return demo_model.load_clip(demo_model.TEXT_FILE)


@pytest.fixture
def lesson(wan_text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Learn Concept's work without a server: a lesson on a clip, or with `picture` on its first frame."""
    module = from_pack("nodes.host.lesson")
    monkeypatch.setattr(module, "open_library", lambda name: ConceptLibrary(tmp_path / name))
    monkeypatch.setattr(from_pack("nodes.host.lesson_results"), "pictures_on_node", lambda *_: {})
    monkeypatch.setattr(module.Lesson, "_say", lambda self, text: None)
    from comfy_api.latest import InputImpl, Types

    def make(model: Any, vae: Any, picture: bool = False, **changes: Any) -> Any:
        video = InputImpl.VideoFromComponents(Types.VideoComponents(images=FRAMES, frame_rate=Fraction(8)))
        media = {"images": [FRAMES[:1]]} if picture else {"video": [video]}
        usual = {
            "name": "rex",
            "class_words": "dog",
            "kind": "subject",
            "library": "family",
            "steps": 2,
            "rank": 2,
            "learning_rate": 0.0,
            "retention": 0.01,
            "retention_form": "subspace",
            "seed": 0,
            "megapixels_percent": 0,
            "length": 9,
            "windows": "first",
            "still_frames": 1,
            "preview_every": 1,
            "noise_from": 0.0,
            "noise_to": 1.0,
            "captions": ["a <rex> runs"],
        }
        base = {"node_id": None, "model": model, "clip": wan_text, "vae": vae}
        return module.Lesson(**{**base, **usual, **media, **changes})

    return make
