"""Tiny random models: a Wan in both forms, diffusers' and ComfyUI's, with the same weights; and a 3D UNet."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jaxtyping
import pytest
import torch
from environment import ensure_environment
from wan_names import TRANSFORMER, original_name

from ccvd_core.backbones.base import Backbone, EncodedText
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.backbones.diffusers_unet3d import DiffusersUNet3DBackbone
from ccvd_core.backbones.diffusers_wan import DiffusersWanBackbone
from ccvd_core.prompts.aggregate import row_gates
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.prompts.concept_tokens import PlacedTokens
from tests.backbones.wan_lesson import lesson, wan_text  # noqa: F401
from tests.tiny_text_to_video import UNET

LAYERS, HEADS, HEAD_WIDTH, TEXT_WIDTH, ROWS = 4, 2, 32, 20, 8


def encode_text(text: str) -> EncodedText:
    """A stand-in for a text encoder: every word has its own fixed row."""
    words = text.split()[: ROWS - 1]
    rows = torch.zeros(ROWS, TEXT_WIDTH)
    for row, word in enumerate(words):
        generator = torch.Generator().manual_seed(sum(map(ord, word)))
        rows[row] = torch.randn(TEXT_WIDTH, generator=generator)
    return EncodedText(rows, tuple(" " + word for word in words))


@pytest.fixture(scope="session")
def backbones() -> dict[str, Backbone]:
    comfyui = str(ensure_environment().comfyui)
    if comfyui not in sys.path:
        sys.path.append(comfyui)  # last: our own `nodes` must stay ours
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.ops
    from comfy.ldm.wan.model import WanModel
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        in_channels=4,
        out_channels=4,
        text_dim=TEXT_WIDTH,
        freq_dim=32,
        ffn_dim=96,
        num_layers=LAYERS,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    ).eval()
    transformer.requires_grad_(False)
    native = WanModel(
        dim=HEADS * HEAD_WIDTH,
        ffn_dim=96,
        freq_dim=32,
        text_dim=TEXT_WIDTH,
        in_dim=4,
        out_dim=4,
        num_heads=HEADS,
        num_layers=LAYERS,
        operations=comfy.ops.disable_weight_init,
        dtype=torch.float32,
    ).eval()
    native.load_state_dict({original_name(key, TRANSFORMER): value for key, value in transformer.state_dict().items()})
    native.requires_grad_(False)
    return {
        "diffusers": DiffusersWanBackbone(transformer, encode_text),
        "comfy": ComfyWanBackbone(native, encode_text),
    }


@pytest.fixture(scope="session")
def unets(backbones: dict[str, Backbone]) -> dict[str, Backbone]:
    """One tiny 3D UNet of two resolutions, taken for a model that predicts noise and for one that predicts v."""
    from diffusers import UNet3DConditionModel

    torch.manual_seed(1)
    unet = UNet3DConditionModel(**UNET, cross_attention_dim=TEXT_WIDTH).eval()
    unet.requires_grad_(False)
    kinds = {"unet": "epsilon", "unet v": "v_prediction"}
    return {name: DiffusersUNet3DBackbone(unet, encode_text, {"prediction_type": kind}) for name, kind in kinds.items()}


@pytest.fixture(params=["diffusers", "comfy", "unet"])
def backbone(request: pytest.FixtureRequest, backbones: dict[str, Backbone], unets: dict[str, Backbone]) -> Backbone:
    return {**backbones, **unets}[request.param]


@dataclass(frozen=True)
class Case:
    """Latents of two clips at two times."""

    latents: torch.Tensor
    t: torch.Tensor


@pytest.fixture
def case() -> Case:
    generator = torch.Generator().manual_seed(7)
    return Case(torch.randn(2, 4, 3, 4, 6, generator=generator), torch.tensor([0.9, 0.3]))


@pytest.fixture
def make_prompt() -> Callable[..., ConceptPrompt]:
    def make(text: str, weights: tuple[float, ...] = (), rows: tuple[int, ...] = (1,), seed: int = 1) -> ConceptPrompt:
        """A prompt; with weights, concept 0 has tokens at `rows` and its text adapters act there."""
        context = encode_text(text).context
        count = max(1, len(weights))
        if not weights:
            return ConceptPrompt(context, (), torch.zeros(LAYERS, count), torch.zeros(ROWS, count))
        values = torch.randn(LAYERS, len(rows), TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))
        gates = row_gates(ROWS, {"c0": rows}, [f"c{index}" for index in range(count)], own_rows_only=True)
        return ConceptPrompt(
            context, (PlacedTokens("c0", rows, values),), torch.tensor(weights).repeat(LAYERS, 1), gates
        )

    return make


@pytest.fixture
def training(backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    """As Learn Concept does: ComfyUI's fast rotary kernel has no gradient."""
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "in_training", True)


@pytest.fixture
def fresh_compiler(backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For torch.compile: nothing compiled before, and nothing in the way that a GPU would not have there."""
    import comfy.ldm.wan.model as wan
    from comfy.ldm.modules.attention import attention_pytorch

    # The compiler cannot look into the tests' checks of shapes, nor into how the CPU's attention asks for free memory.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.setattr(wan, "optimized_attention", attention_pytorch)
    torch._dynamo.reset()
    # PyTorch compiles eight versions of a function and then none any more. Nothing here may need them all.
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield
    torch._dynamo.reset()


@pytest.fixture(scope="session")
def doubles(backbones: dict[str, Backbone]) -> dict[str, Backbone]:
    """The tiny models again, in float64."""
    diffusers, comfy_ = backbones["diffusers"], backbones["comfy"]
    assert isinstance(diffusers, DiffusersWanBackbone) and isinstance(comfy_, ComfyWanBackbone)
    native = copy.deepcopy(comfy_._model).double()
    native.patch_embedding.float()  # ComfyUI gives it float32 whatever the latents are
    return {
        "diffusers": DiffusersWanBackbone(copy.deepcopy(diffusers._transformer).double(), diffusers.encode),
        "comfy": ComfyWanBackbone(native, comfy_.encode, torch.float64),
    }


@pytest.fixture(scope="session")
def double_unets(unets: dict[str, Backbone]) -> dict[str, Backbone]:
    """The tiny UNet again, in float64."""
    one = unets["unet"]
    assert isinstance(one, DiffusersUNet3DBackbone)
    unet = copy.deepcopy(one._unet).double()
    kinds = {"unet": "epsilon", "unet v": "v_prediction"}
    return {name: DiffusersUNet3DBackbone(unet, one.encode, {"prediction_type": kind}) for name, kind in kinds.items()}


@pytest.fixture(params=["diffusers", "comfy", "unet", "unet v"])
def double(
    request: pytest.FixtureRequest, doubles: dict[str, Backbone], double_unets: dict[str, Backbone], training: None
) -> Backbone:
    return {**doubles, **double_unets}[request.param]


@pytest.fixture
def one(make_prompt: Callable[..., ConceptPrompt]) -> ConceptPrompt:
    return make_prompt("a dog runs", (1.0, 0.4))


@pytest.fixture
def other(make_prompt: Callable[..., ConceptPrompt]) -> ConceptPrompt:
    return make_prompt("a red cat", (0.0, 0.7), rows=(1, 2), seed=2)
