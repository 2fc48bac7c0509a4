"""A stock LoRA in front of ours, such as a distilled one for 4 steps: base, LoRA and concept add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.library import ConceptLibrary
from tests.backbones.pack import from_pack
from tests.backbones.test_models import LESSON, aggregated, sampled
from tests.backbones.wan_family import PoolingVAE, weights_of
from tests.backbones.wan_rows import ROWS, load, loaded, readers

ROW = ROWS["Wan 2.1 T2V"]
STRENGTH = 0.8
PARTS = ("self_attn.q", "cross_attn.k", "cross_attn.v", "ffn.0")
SITES = [f"blocks.{block}.{part}" for block in range(3) for part in PARTS]
ROUNDING = {"atol": 1e-4, "rtol": 1e-3}


@pytest.fixture(autouse=True)
def unloaded(backbones: dict[str, Backbone]) -> Iterator[None]:
    import comfy.model_management

    yield
    comfy.model_management.unload_all_models()


def lora_file(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """In the keys of the distilled LoRAs of Wan: low rank, and the differences of biases and norms."""
    generator = torch.Generator().manual_seed(11)
    file: dict[str, Tensor] = {}
    for site in SITES:
        rows, columns = weights[f"{site}.weight"].shape
        file[f"diffusion_model.{site}.lora_down.weight"] = torch.randn(2, columns, generator=generator) * 0.2
        file[f"diffusion_model.{site}.lora_up.weight"] = torch.randn(rows, 2, generator=generator) * 0.2
        file[f"diffusion_model.{site}.diff_b"] = torch.randn(rows, generator=generator) * 0.05
    return file


def merged(weights: dict[str, Tensor], file: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the LoRA means, by hand."""
    made = dict(weights)
    for site in SITES:
        up, down = (file[f"diffusion_model.{site}.lora_{side}.weight"] for side in ("up", "down"))
        made[f"{site}.weight"] = weights[f"{site}.weight"] + STRENGTH * up @ down
        made[f"{site}.bias"] = weights[f"{site}.bias"] + STRENGTH * file[f"diffusion_model.{site}.diff_b"]
    return made


def with_lora(model: Any, file: dict[str, Tensor]) -> Any:
    """Load LoRA (Model)."""
    import comfy.sd

    return comfy.sd.load_lora_for_models(model, None, dict(file), STRENGTH, 0)[0]


@pytest.mark.parametrize("order", ["in front", "behind"])
@pytest.mark.parametrize("mode", ["attention", "one at a time", "paper"])
def test_base_and_lora_and_concept_add_up_without_guidance(
    order: str, mode: str, lesson: Callable[..., Any], wan_text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """cfg 1, as distilled models are sampled: against the same weights merged by hand."""
    weights = readers(weights_of(ROW.member))
    file = lora_file(weights)
    base = load(ROW)
    lesson(base, PoolingVAE(16), library="models", **LESSON).run()

    def drawn(model: Any, words: str, behind: bool = False) -> Tensor:
        made, conditioning = aggregated(model, wan_text, tmp_path / "models", words, bool(words))
        made = with_lora(made, file) if behind else made
        return sampled(ROW, made, conditioning, wan_text, monkeypatch, mode, 1.0)

    by_hand = loaded(ROW, merged(weights, file), {})
    cases = {words: drawn(by_hand, words) for words in ("a <rex>", "a dog", "")}
    for words, expected in cases.items():
        found = drawn(base, words, True) if order == "behind" else drawn(with_lora(base, file), words)
        torch.testing.assert_close(found, expected, **ROUNDING)
    assert (cases["a <rex>"] - cases["a dog"]).abs().max() > 1e-2, "the concept acts beside the LoRA"
    assert (drawn(base, "a <rex>") - cases["a <rex>"]).abs().max() > 1e-2, "and so does the LoRA"


def test_a_concept_is_learned_on_top_of_a_lora_in_front_and_a_note_says_so(lesson: Callable[..., Any], tmp_path: Path):
    weights = readers(weights_of(ROW.member))
    file = lora_file(weights)
    base = load(ROW)
    before = {key: value.clone() for key, value in base.model.state_dict().items()}
    reports = {}
    for name, model in (
        ("on lora", with_lora(base, file)),
        ("by hand", loaded(ROW, merged(weights, file), {})),
        ("alone", base),
    ):
        reports[name] = lesson(model, PoolingVAE(16), library=name.replace(" ", "_"), **LESSON).run().result[2]
    concepts = {name: ConceptLibrary(tmp_path / name.replace(" ", "_")).load("rex") for name in reports}
    for site, adapter in concepts["by hand"].adapters.items():
        torch.testing.assert_close(concepts["on lora"].adapters[site].b, adapter.b, atol=2e-3, rtol=2e-2)
    different = [
        site for site, lora in concepts["alone"].adapters.items()
        if (concepts["on lora"].adapters[site].b - lora.b).abs().max() > 1e-2
    ]  # fmt: skip
    assert different
    assert "A LoRA is in front of Learn Concept" in reports["on lora"]
    assert all("A LoRA is in front" not in reports[name] for name in ("by hand", "alone"))
    assert concepts["on lora"].settings["job"] != concepts["alone"].settings["job"]
    import comfy.model_management

    comfy.model_management.unload_all_models()
    assert all(torch.equal(value, before[key]) for key, value in base.model.state_dict().items())


def test_lessons_on_other_loras_are_other_lessons():
    identity = from_pack("nodes.host.patched_base").patch_identity
    base = load(ROW)
    file = lora_file(weights_of(ROW.member))
    changed = {key: value * (2.0 if "up" in key else 1.0) for key, value in file.items()}
    models = [base, with_lora(base, file), with_lora(with_lora(base, file), file), with_lora(base, changed)]
    found = [str(identity(model)) for model in models]
    assert identity(base) == {} and len(set(found)) == 4
    assert identity(with_lora(load(ROW), file)) == identity(models[1]), "in another process too"
