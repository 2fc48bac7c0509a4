"""Bit for bit what the demo base made before the redesign: leaves with it.

CCVD_FINGERPRINTS names a JSON file of hashes, written when it is not there. One processor gives
one file: pass OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from base import DemoBase, load_base

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.step import LearningSettings
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.aggregation import AggregationSettings
from ccvd_core.regions.inputs import painted_regions
from ccvd_core.regions.modes import RegionSettings
from ccvd_core.regions.region import RegionSet
from ccvd_core.regions.scene import READINGS, aggregate_scene
from ccvd_core.sampling import sample
from tests.backbones.demo_scenes import MOVING, STILL, in_comfyui, load_model, random_concepts, theirs
from tests.backbones.pack import from_pack

WHERE = os.environ.get("CCVD_FINGERPRINTS")
pytestmark = pytest.mark.skipif(not WHERE, reason="CCVD_FINGERPRINTS names no file")
SETTINGS = [
    RegionSettings(blend=0.5),
    RegionSettings("paper", region_steps=0.5, alpha=0.2),
    RegionSettings("paper + bootstrap", region_steps=0.75, bootstrap_steps=0.5, blend=0.3),
    RegionSettings("one at a time", region_steps=0.75, contrast_steps=0.5, blend=0.3),
    RegionSettings(contrast_steps=0.5),
]


def check(name: str, tensor: torch.Tensor) -> None:
    path = Path(str(WHERE))
    known = json.loads(path.read_text()) if path.exists() else {}
    found = hashlib.sha256(tensor.detach().float().contiguous().numpy().tobytes()).hexdigest()
    assert known.setdefault(name, found) == found
    path.write_text(json.dumps(known, indent=1))


@pytest.fixture(scope="module")
def base() -> DemoBase:
    return load_base()


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.mode} {s.contrast_steps}")
@pytest.mark.parametrize("reading", READINGS)
def test_regions(backbones: dict[str, Backbone], base: DemoBase, settings: RegionSettings, reading: Any):
    model, concepts, backbone = load_model(), random_concepts(base), base.backbone()
    painted = painted_regions(torch.eye(16).repeat_interleave(2, 0)[None], ["a <rex>"], per_frame=False, frames=5)
    regions = RegionSet(80, 64, (MOVING, STILL, *painted))
    scene = aggregate_scene(backbone, "a star on green grass", regions, concepts, reading=reading).prompt
    negative = aggregate(backbone, "", concepts).prompt
    noise = torch.randn((2, 16, 2, 8, 10), generator=torch.Generator().manual_seed(5))
    with Attachment(backbone, [concept.adapters for concept in concepts]) as attachment:
        rows = [scene, aggregate(backbone, "a <rex> moving <kit>", concepts).prompt]
        made = sample(backbone, attachment, rows, negative, noise, 4, cfg=2.0, regions=settings)
    check(f"headless {settings} {reading}", made)
    patching = from_pack("nodes.host.patching")
    patched = patching.with_concepts(
        patching.with_region_settings(model, theirs(settings)), [theirs(replace(c, settings={})) for c in concepts]
    )
    check(f"comfyui {settings} {reading}", in_comfyui(patched, scene, negative, noise, steps=4, cfg=2.0))
    import comfy.model_management

    comfy.model_management.unload_all_models()


@pytest.mark.parametrize("text", ["a star on blue sky", "a <rex> moving right", "a <rex> and a <kit> on red"])
@pytest.mark.parametrize("participants", ["named", "all"])
def test_prompts(base: DemoBase, text: str, participants: Any):
    concepts, backbone = random_concepts(base), base.backbone()
    used = aggregate(
        backbone, text, concepts, AggregationSettings(participants=participants, pinned=participants == "all")
    )
    noise = torch.randn((1, 16, 3, 8, 10), generator=torch.Generator().manual_seed(6))
    with Attachment(backbone, [concept.adapters for concept in concepts]) as attachment:
        negative = aggregate(backbone, "", concepts).prompt
        check(f"prompt {text} {participants}", sample(backbone, attachment, [used.prompt], negative, noise, 3))


@pytest.mark.parametrize("kind", ["subject", "motion", "style"])
def test_learning(base: DemoBase, kind: Any):
    backbone = base.backbone()
    latents = torch.randn((16, 3, 8, 8), generator=torch.Generator().manual_seed(7))
    examples = [Example(latents, "a <rex> on green grass"), Example(latents.flip(1), "a <rex>")]
    settings = LearningSettings(steps=3, rank=4, lr=1e-3, batch=2, retention=0.1)
    earlier = [] if kind == "motion" else random_concepts(base)[:1]
    learner = ConceptLearner(backbone, examples, "rex", kind, "dog", settings, earlier)
    with Attachment(backbone, [learner.live_adapters()]) as attachment, backbone.checkpointing():
        for _ in range(3):
            learner.step(attachment)
    state = learner.state()
    check(f"learning {kind}", torch.cat([state[key].flatten().float() for key in sorted(state)]))
