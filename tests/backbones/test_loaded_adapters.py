"""Concepts on a MODEL in ComfyUI's hands: under torch.compile, in its memory estimate, on several devices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.concepts.concept import Concept
from ccvd_core.concepts.kinds import Kind
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from tests.backbones.conftest import TEXT_WIDTH
from tests.backbones.demo_scenes import theirs
from tests.backbones.pack import from_pack
from tests.backbones.scenes import adapters
from tests.backbones.test_compiled import shallow

NOISE = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(2))
ROUNDING = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def model(backbones: dict[str, Backbone], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Wan of one block, from a file as ComfyUI's own loader reads it."""
    import comfy.ops
    import comfy.sd
    from comfy.ldm.wan.model import WanModel

    torch.manual_seed(4)
    sizes = {"dim": 32, "ffn_dim": 48, "in_dim": 16, "out_dim": 16, "num_layers": 1}
    wan = WanModel(
        **sizes, text_dim=TEXT_WIDTH, num_heads=2, operations=comfy.ops.disable_weight_init, dtype=torch.float32
    )
    state = {key: torch.randn_like(value) * 0.1 for key, value in wan.state_dict().items()}
    config = json.dumps({"transformer": {"num_heads": 2, "text_dim": TEXT_WIDTH}})
    path = Path(tmp_path_factory.mktemp("wan")) / "wan.safetensors"
    save_file(state, path, {"config": config})
    return comfy.sd.load_diffusion_model(str(path))


@pytest.fixture(autouse=True)
def unloaded(model: Any) -> Iterator[None]:
    import comfy.model_management

    yield
    comfy.model_management.unload_all_models()
    inner = model.model.diffusion_model
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in inner.modules())


def concept(model: Any, name: str, kind: Kind) -> Any:
    """As the pack under ComfyUI has it."""
    backbone = ComfyWanBackbone(model.model.diffusion_model, lambda _: None)  # type: ignore[arg-type, return-value]
    tokens = torch.zeros(1, 1, TEXT_WIDTH)
    role = "motion" if kind == "motion" else "subject"
    made = Concept(
        name, kind, "dog", adapters(backbone, len(name), role), tokens, tokens[:, 0], tokens[:, 0], backbone.fingerprint
    )
    return theirs(made)


def sampled(model: Any, prompt: ConceptPrompt, name: str | None, **changes: Any) -> Tensor:
    import comfy.sample

    patching = from_pack("nodes.host.patching")
    state = {} if name is None else {patching.KEY: patching.PromptState(theirs(prompt), (name,))}
    usual = {"steps": 1, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple", "disable_pbar": True, "seed": 1}
    context, empty = prompt.context[None], torch.zeros_like(prompt.context)[None]
    with torch.inference_mode():
        return comfy.sample.sample(
            model,
            NOISE,
            positive=[[context, state]],
            negative=[[empty, {}]],
            latent_image=torch.zeros_like(NOISE),
            **{**usual, **changes},
        )


@pytest.fixture
def prompts(make_prompt: Callable[..., ConceptPrompt]) -> dict[str | None, ConceptPrompt]:
    return {
        None: shallow(make_prompt("a dog runs")),
        "rex": shallow(make_prompt("a dog runs", (1.0,))),
        "leaping": shallow(make_prompt("a dog runs", (1.0,), rows=())),
    }


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("order", ["compiled, then given concepts", "given concepts, then compiled"])
def test_the_stock_compile_node_and_concepts(model: Any, prompts: dict[str | None, ConceptPrompt], order: str):
    """Plain, subject, motion, plain, through ComfyUI's sampling. The backend `eager` needs no C++ compiler."""
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    with_concepts = from_pack("nodes.host.patching").with_concepts
    concepts = {"rex": concept(model, "rex", "subject"), "leaping": concept(model, "leaping", "motion")}

    def compiled(model: Any) -> Any:
        return TorchCompileModel.execute(model, "eager").result[0]

    once = compiled(model)
    base = sampled(model, prompts[None], None)
    for name in (None, "rex", "leaping", None):
        known = [] if name is None else [concepts[name]]
        eager = with_concepts(model, known) if known else model
        known_once = with_concepts(once, known) if known else once
        fast = known_once if order.startswith("compiled") else compiled(eager)
        expected = sampled(eager, prompts[name], name)
        torch.testing.assert_close(sampled(fast, prompts[name], name), expected, **ROUNDING)
        assert name is None or (expected - base).abs().max() > 1e-2


def test_comfyui_counts_and_moves_the_adapters(model: Any, prompts: Any, monkeypatch: pytest.MonkeyPatch):
    import comfy.model_management as memory

    rex = concept(model, "rex", "subject")
    patched = from_pack("nodes.host.patching").with_concepts(model, [rex])
    loads: list[list[Any]] = []
    load = memory.load_models_gpu
    monkeypatch.setattr(
        memory, "load_models_gpu", lambda models, **kw: (loads.append(list(models)), load(models, **kw))
    )
    sampled(patched, prompts["rex"], "rex")
    assert len(loads) == 1
    (stored,) = [found for found in loads[0] if found is not patched]
    values = sum(lora.a.numel() + lora.b.numel() for lora in rex.adapters.values())
    ranks = sum(lora.a.shape[0] for lora in rex.adapters.values())
    assert stored.model_size() == values * 4 + ranks * 8
    assert any(found.model is stored for found in memory.current_loaded_models)
    # Taken to wherever ComfyUI wants them, and used from there.
    moved = {parameter.device.type for parameter in stored.model.to("meta").parameters()}
    assert moved == {"meta"}
    assert all(bank.down.is_meta for bank in stored.model.banks().values())


def test_each_devices_copy_has_adapters_and_hooks_of_its_own(model: Any, prompts: Any):
    """As MultiGPU Work Units: half of a batch on another device, here a second name of the CPU."""
    patching = from_pack("nodes.host.patching")
    patched = patching.with_concepts(model, [concept(model, "rex", "subject")])
    expected = sampled(patched, prompts["rex"], "rex")
    other = patched.deepclone_multigpu(new_load_device=torch.device("cpu", 0))
    other.is_multigpu_base_clone = True
    patched.set_additional_models("multigpu", [other])
    (own,), (copied,) = (p.get_additional_models_with_key(patching.KEY) for p in (patched, other))
    assert own.model is not copied.model and copied.load_device == torch.device("cpu", 0)

    calls: list[Any] = []
    runtime = patched.get_attachment(patching.KEY)

    def watch(executor: Any, *args: Any, **kwargs: Any) -> Any:
        loaded = runtime._loaded[executor.class_obj]
        calls.append((loaded.attachment, loaded.backbone._model))
        return executor(*args, **kwargs)

    from comfy.patcher_extension import WrappersMP

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "watch", watch)
    ours = sampled(patched, prompts["rex"], "rex")
    torch.testing.assert_close(ours, expected, **ROUNDING)
    assert len({id(attachment) for attachment, _ in calls}) == 2 and len({id(inner) for _, inner in calls}) == 2
