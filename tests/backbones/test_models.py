"""Every row of the README's table of models: learn, aggregate, regions, sample; or refused, with what to use instead.

Each is a small file in the real keys, recognised by ComfyUI's own loader and fed by ComfyUI's own node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.wan_variants import VARIANTS
from ccvd_core.concepts.library import ConceptLibrary
from ccvd_core.regions.modes import MODES
from tests.backbones.pack import from_pack
from tests.backbones.wan_family import PoolingVAE
from tests.backbones.wan_rows import HEIGHT, ROWS, WIDTH, Row, feed, load, load_unpacked, sibling

FIRST, LAST = (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)
"""Where the region is in the clip's first latent frame, and from the second on."""
REPOSITORY = Path(__file__).parents[2]
PATH = ((0.0, FIRST), (0.1, LAST))
LATENTS = 3
"""Latent frames of the clip. What is before them shows none of it."""
LESSON = {"steps": 2, "rank": 4, "learning_rate": 0.05, "preview_every": 0}


@pytest.fixture(autouse=True)
def unloaded(backbones: dict[str, Backbone]) -> Iterator[None]:
    import comfy.model_management

    yield
    comfy.model_management.unload_all_models()


def aggregated(model: Any, clip: Any, library: Path, words: str, region: bool) -> tuple[Any, Any]:
    """Region Mask and Aggregate Adapters: MODEL and CONDITIONING."""
    regions = from_pack("ccvd_core.regions.region")
    box = regions.Region("", f"{words} runs", "#ffffff", 1.0, tuple(regions.Keyframe(t, at) for t, at in PATH))
    used = from_pack("nodes.host.aggregation").aggregate_model(
        model,
        clip,
        from_pack("nodes.host.libraries").LibrarySelection(
            from_pack("ccvd_core.concepts.library").ConceptLibrary(library)
        ),
        "green grass",
        regions.RegionSet(WIDTH, HEIGHT, (box,) if region else ()),
        from_pack("ccvd_core.prompts.aggregation").AggregationSettings(4.0, 0, "named", True),
        True,
        "alone",
    )
    return used.model, used.conditioning


def sampled(row: Row, model: Any, positive: Any, clip: Any, monkeypatch: pytest.MonkeyPatch, mode: str, cfg: float):
    """One step of KSampler behind Region Sampling: latents, and the first frame that shows the clip."""
    import comfy.sample

    negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    vae = PoolingVAE(row.member.channels)
    positive, negative, latent = feed(row, positive, negative, vae, monkeypatch)
    settings = from_pack("ccvd_core.regions.modes").RegionSettings(mode, region_steps=1.0, bootstrap_steps=1.0)
    model = from_pack("nodes.host.patching").with_region_settings(model, settings)
    empty = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    noise = torch.randn(empty.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = comfy.sample.sample(
            model, noise, 1, cfg, "euler", "simple", positive, negative, empty, disable_pbar=True, seed=1,
            noise_mask=latent.get("noise_mask"),
        )  # fmt: skip
    assert found.shape == noise.shape and bool(found.isfinite().all())
    return found


def check_place(change: Tensor, what: str, keeps_start: bool) -> None:
    """A change of latents is larger in the region than outside, in the clip's first frame and in its last.

    `keeps_start`: the first frame is given, and nothing changes there.
    """
    size = change.abs().mean((0, 1))[-LATENTS:]
    height, width = (side // 2 for side in size.shape[-2:])
    corner, opposite = (slice(height), slice(width)), (slice(height, None), slice(width, None))
    places = [(0, corner, opposite), (-1, opposite, corner)]
    if keeps_start:
        assert not size[0].any(), f"{what}: the start picture has changed"
        del places[0]
    for frame, within, beyond in places:
        near, far = (float(size[frame][place].mean()) for place in (within, beyond))
        assert near > 1e-3 and near > 1.5 * far, f"{what}, frame {frame}: {near:.2g} in the region, {far:.2g} outside"


def bits(value: Tensor) -> Tensor:
    """Of plain and packed weights alike."""
    return getattr(value, "_qdata", value).as_subclass(Tensor).reshape(-1).contiguous().view(torch.uint8)


@pytest.mark.parametrize("name", ROWS)
def test_learn_aggregate_regions_sample(
    name: str, lesson: Callable[..., Any], wan_text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    row = ROWS[name]
    model, vae = load(row), PoolingVAE(row.member.channels)
    home, settings = model, {**LESSON, **row.settings}
    if not row.member.learns:
        words = rf"{VARIANTS[row.member.base].title} cannot learn a concept here: .*Learn it on the text-to-video model"
        with pytest.raises(ValueError, match=words):
            lesson(model, vae, library="models", **settings)
        assert not vae.encoded
        home = load(sibling(row))
    before = {key: bits(value).clone() for key, value in home.model.state_dict().items()}
    assert "in 2 steps" in lesson(home, vae, library="models", **settings).run().result[2]
    for key, value in home.model.state_dict().items():
        assert torch.equal(bits(value), before[key]), f"{key} has changed"

    library = tmp_path / "models"
    named, plain, none = (
        aggregated(model, wan_text, library, words, region)
        for words, region in (("a <rex>", True), ("a dog", True), ("", False))
    )
    untouched = sampled(row, *none, wan_text, monkeypatch, "attention", 2.0)
    for mode in MODES:
        whole, concept, without = (
            sampled(row, *case, wan_text, monkeypatch, mode, 2.0) for case in (none, named, plain)
        )
        check_place(concept - without, f"{mode}: the concept", row.keeps_start)
        check_place(without - whole, f"{mode}: the region", row.keeps_start)
    again = sampled(row, *none, wan_text, monkeypatch, "attention", 2.0)
    assert torch.equal(again, untouched), "the model is what it was"


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.unpacked])
def test_packed_weights_teach_what_they_mean(name: str, lesson: Callable[..., Any], tmp_path: Path):
    """A concept learned on packed weights is that of the same weights in full precision."""
    row = ROWS[name]
    made = {}
    for kind, model in (("packed", load(row)), ("whole", load_unpacked(row))):
        weight = model.model.diffusion_model.blocks[0].ffn[0].weight
        size = bits(weight).numel() / weight.numel()
        assert size < 1.5 if kind == "packed" else size == 4
        lesson(model, PoolingVAE(row.member.channels), library=kind, **LESSON).run()
        made[kind] = ConceptLibrary(tmp_path / kind).load("rex")
    assert made["packed"].base.matches(made["whole"].base)
    for site, adapter in made["whole"].adapters.items():
        found = made["packed"].adapters[site].b
        assert torch.cosine_similarity(found.flatten(), adapter.b.flatten(), dim=0) > 0.99, site


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.member.learns])
def test_pictures_teach_where_the_model_is_not_shown_them(name: str, lesson: Callable[..., Any]):
    row = ROWS[name]
    model, vae = load(row), PoolingVAE(row.member.channels)
    if row.member.start_image:
        with pytest.raises(ValueError, match=r"shown the first frame.*connect clips to `video`.*text-to-video model"):
            lesson(model, vae, picture=True, **LESSON)
        assert not vae.encoded
    else:
        assert "in 2 steps" in lesson(model, vae, picture=True, **{**LESSON, **row.settings}).run().result[2]


ELSEWHERE = {
    "Demo model": "tests/comfy/test_learning.py",
    "HuMo, Dancer, SCAIL, Causal Forcing, FlowRVS": "tests/backbones/test_wan_family.py",
    "LoRA for few steps (cfg 1)": "tests/backbones/test_lora_in_front.py",
    "ModelScope": "tests/comfy/test_text_to_video.py",
}
"""Rows of the README's table with tests of their own."""
IN_README = {
    "Wan 2.1 T2V 1.3B, 14B": ["Wan 2.1 T2V"],
    "Wan 2.2 T2V A14B": ["Wan 2.2 T2V A14B, high noise", "Wan 2.2 T2V A14B, low noise"],
    "Wan 2.2 TI2V 5B": ["Wan 2.2 TI2V 5B"],
    "Phantom": ["Phantom"],
    "Wan 2.1 I2V, FLF2V, Fun Inpaint": ["Wan 2.1 I2V", "Wan 2.1 FLF2V", "Wan 2.1 Fun Inpaint"],
    "Wan 2.2 I2V A14B": ["Wan 2.2 I2V A14B, high noise", "Wan 2.2 I2V A14B, low noise"],
    "VACE": ["Wan 2.1 VACE"],
    "Fun Control, Fun Camera": [f"Wan 2.{n} Fun {kind}" for n in (1, 2) for kind in ("Control", "Camera")],
    "Animate, S2V": ["Wan 2.2 Animate", "Wan 2.2 S2V"],
    "fp8, scaled fp8, GGUF": ["fp8", "scaled fp8", "GGUF"],
}


def test_the_readme_says_of_each_model_what_is_tested_here():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## Models")[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    table = {line[0]: line[1:] for line in lines[2:]}
    assert table.keys() == ELSEWHERE.keys() | IN_README.keys()
    assert sorted(name for names in IN_README.values() for name in names) == sorted(ROWS)
    assert all((REPOSITORY / file).is_file() for file in ELSEWHERE.values())
    for title, names in IN_README.items():
        learn, use, regions, _ = table[title]
        member = ROWS[names[0]].member
        said = "on T2V" if not member.learns else "clips" if member.start_image else "pictures, clips"
        assert learn == (said if not ROWS[names[0]].unpacked else "as the model"), title
        assert (use, regions) == ("yes", "yes"), title
