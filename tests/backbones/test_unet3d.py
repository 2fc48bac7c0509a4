"""The 3D UNet backbone against plain statements of what it should do, and on ModelScope's published sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.diffusers_unet3d import DiffusersUNet3DBackbone
from ccvd_core.backbones.file_names import diffusers_names
from ccvd_core.backbones.grid import TokenGrid
from ccvd_core.backbones.unet3d import halved, unet_path, unet_units
from ccvd_core.errors import CCVDError
from ccvd_core.learning.plan import learning_need
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.regional_prompt import predict_prompts
from tests.backbones.scenes import LEFT, adapters, region, scene, two_concepts
from tests.reference import regions as reference

CPU = torch.device("cpu")
MakePrompt = Callable[..., ConceptPrompt]
SOFT = {"atol": 1e-6, "rtol": 1e-5}
"""Masks and weights are float32."""
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
MODELSCOPE = {
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"],
    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"],
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-05,
    "cross_attention_dim": 1024,
    "attention_head_dim": 64,
}
"""unet/config.json of damo-vilab/text-to-video-ms-1.7b."""


@pytest.fixture
def unet(double_unets: dict[str, Backbone]) -> DiffusersUNet3DBackbone:
    backbone = double_unets["unet"]
    assert isinstance(backbone, DiffusersUNet3DBackbone)
    return backbone


@pytest.fixture(scope="module")
def published() -> DiffusersUNet3DBackbone:
    """ModelScope's UNet without its weights."""
    from diffusers import UNet3DConditionModel

    with torch.device("meta"):
        model = UNet3DConditionModel.from_config(MODELSCOPE).eval()
    model.requires_grad_(False)
    return DiffusersUNet3DBackbone(model, lambda _: pytest.fail("no text is read"), SCHEDULE)


def predicted(backbone: Backbone, attachment: Attachment, latents: Tensor, *prompts: Any) -> Tensor:
    level = torch.tensor([3.0, 0.4], dtype=torch.float64)
    with attachment.activate(prompts, CPU, grid=backbone.grid(latents.shape[1:])):
        return predict_prompts(backbone, latents.double(), level, prompts)


@pytest.mark.parametrize("layer", range(4))
def test_every_resolution_attends_region_by_region(unet: DiffusersUNet3DBackbone, case, one, other, layer: int):
    """A layer's queries, keys and values as its own modules make them; then every token on its own."""
    module: Any = unet._layers[layer].spatial.attn2
    name = unet._layers[layer].name
    regional = scene([one, other], region(0.3, 0.0, 0.5, 0.6), blend=0.8)
    seen: dict[str, Tensor] = {}

    def keep(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen["x"], seen["out"] = args[0], output

    with two_concepts(unet) as attachment:
        handle = module.register_forward_hook(keep)
        predicted(unet, attachment, case.latents, regional, other)
        handle.remove()
        (active,) = (made for _, made in attachment._scenes.values())
        masks = active.runs[0].plans[active.grid_of[layer]].masks.double()
    grid = unet.layer_grids(unet.grid(case.latents.shape[1:]))[layer]
    assert masks.shape[1] == grid.tokens == (18 if name == "mid.0" else 72)
    banks = adapters(unet, 1), adapters(unet, 2)

    def linear(part: str, path: str, rows: Tensor, weight: Callable[[int, int], float]) -> Tensor:
        own = module.get_submodule(path)
        out = []
        for number, row in enumerate(rows):
            y = own(row)
            for concept, bank in enumerate(banks):
                lora = bank[f"{name}.cross_attn.{part}"]
                y = y + weight(number, concept) * (lora.b.double() @ (lora.a.double() @ row))
            out.append(y)
        return torch.stack(out)

    prompts, keys, values = regional.prompts, [], []
    with torch.no_grad():
        for prompt in prompts:
            context = prompt.context.double().clone()
            for tokens in prompt.placed:
                for place, row in enumerate(tokens.rows):
                    context[row] += tokens.values[layer, place].double()

            def text(row: int, concept: int, prompt: ConceptPrompt = prompt) -> float:
                return float(prompt.weights[layer, concept] * prompt.gates[row, concept])

            keys.append(linear("k", "to_k", context, text))
            values.append(linear("v", "to_v", context, text))

        def video(token: int, concept: int) -> float:
            return sum(float(masks[p, token] * prompts[p].weights[layer, concept]) for p in range(2))

        # (f) (h w) of the first clip, which is the batch's first three frames.
        q = linear("q", "to_q", seen["x"][:3].flatten(0, 1), video)
        attended = reference.region_attention(q, keys, values, masks, module.heads)
        expected = linear("o", "to_out.0", attended, video)
    torch.testing.assert_close(seen["out"][:3].flatten(0, 1), expected, **SOFT)


@pytest.mark.parametrize("role", ["subject", "motion"])
def test_adapters_on_all_rows_equal_merging_them_into_the_weights(
    unet: DiffusersUNet3DBackbone, case, make_prompt: MakePrompt, role: str
):
    """Text rows too, when no concept has rows of its own."""
    bank = adapters(unet, 4, role)
    prompt = replace(make_prompt("a dog runs", (0.6,), rows=()), gates=torch.ones(8, 1))
    with torch.no_grad():
        with Attachment(unet, [bank]) as attachment:
            attached = predicted(unet, attachment, case.latents, prompt, prompt)
        sites = [site for site in unet.sites if site.id in bank]
        kept: list[Tensor] = [site.module.weight.clone() for site in sites]
        try:
            for site in sites:
                site.module.weight += 0.6 * bank[site.id].b @ bank[site.id].a
            merged = predicted(unet, Attachment(unet, []), case.latents, *[make_prompt("a dog runs")] * 2)
        finally:
            for site, weight in zip(sites, kept, strict=True):
                site.module.weight.copy_(weight)
    torch.testing.assert_close(attached, merged, **SOFT)


@pytest.mark.parametrize("size", [(5, 7), (6, 3), (1, 1)])
def test_odd_sizes_have_the_grids_that_the_layers_run_on(
    unet: DiffusersUNet3DBackbone, one, other, size: tuple[int, int]
):
    latents = torch.randn(2, 4, 2, *size, generator=torch.Generator().manual_seed(1))
    found: list[int] = []
    with two_concepts(unet) as attachment:
        handles = [
            layer.spatial.register_forward_pre_hook(lambda _, args: found.append(args[0].shape[1]))
            for layer in unet._layers
        ]
        predicted(unet, attachment, latents, scene([one, other], LEFT), other)
        for handle in handles:
            handle.remove()
    grids = unet.layer_grids(unet.grid(latents.shape[1:]))
    assert found == [grid.height * grid.width for grid in grids]
    assert {grid.frames for grid in grids} == {2} and {grid.stride for grid in grids} == {1}


def test_tokens_that_stick_out_of_the_picture_are_known():
    grid = halved(TokenGrid(2, 5, 8, stride=1), 2)
    assert (grid.height, grid.width, grid.fill) == (2, 2, (5 / 8, 1.0))


def test_checkpointing_leaves_the_model_as_it_was(unet: DiffusersUNet3DBackbone):
    with unet.checkpointing():
        assert all("forward" in vars(unit) for unit, _ in unet_units(unet._unet))
    assert not any("forward" in vars(unit) for unit, _ in unet_units(unet._unet))


class Schedule:
    """A model call and the scheduler of diffusers that steps it, in float64 throughout."""

    def __init__(self, unet: Any, scheduler: Any, contexts: Tensor) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.unet, self.scheduler, self.contexts = unet, scheduler, contexts
        self.remaining = scheduler.alphas_cumprod = (1 - betas).cumprod(0)

    def sigma(self, step: int) -> Tensor:
        return ((1 - self.remaining[step]) / self.remaining[step]).sqrt()

    def predict(self, latents: Tensor, step: Any) -> Tensor:
        return self.unet(latents, step, self.contexts, return_dict=False)[0]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_step_is_the_ddim_step_of_diffusers(double_unets: dict[str, Backbone], case, make_prompt, kind: str):
    """In its latents, which are scaled to unit variance, at its timesteps; down to clean latents."""
    from diffusers import DDIMScheduler

    backbone = double_unets["unet" if kind == "epsilon" else "unet v"]
    assert isinstance(backbone, DiffusersUNet3DBackbone)
    path, prompt = backbone.noise_path, make_prompt("a dog runs")
    scheduler = DDIMScheduler(
        **SCHEDULE, prediction_type=kind, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading"
    )
    theirs = Schedule(backbone._unet, scheduler, prompt.context.double().expand(2, -1, -1))
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(5)
    steps = scheduler.timesteps.tolist()
    levels = [*(theirs.sigma(step) for step in steps), torch.zeros((), dtype=torch.float64)]
    scaled = case.latents.double()
    ours = scaled * (1 + levels[0] ** 2).sqrt()
    with torch.no_grad():
        for number, step in enumerate(steps):
            t, next_t = levels[number], levels[number + 1]
            prediction = predict_prompts(backbone, ours, t.expand(2), [prompt, prompt])
            ours = path.step(ours, prediction, t, next_t)
            scaled = scheduler.step(theirs.predict(scaled, step), step, scaled, return_dict=False)[0]
            torch.testing.assert_close(ours / (1 + next_t**2).sqrt(), scaled, atol=1e-6, rtol=1e-6)
            assert float(path.step_at(t[None])) == pytest.approx(step, abs=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_sampling_is_the_euler_sampling_of_diffusers(double_unets: dict[str, Backbone], case, make_prompt, kind: str):
    from diffusers import EulerDiscreteScheduler

    backbone = double_unets["unet" if kind == "epsilon" else "unet v"]
    assert isinstance(backbone, DiffusersUNet3DBackbone)
    path, prompt = backbone.noise_path, make_prompt("a dog runs")
    scheduler = EulerDiscreteScheduler(**SCHEDULE, prediction_type=kind, timestep_spacing="linspace")
    scheduler.set_timesteps(4)
    contexts = prompt.context.double().expand(2, -1, -1)
    theirs = case.latents.double() * scheduler.init_noise_sigma
    ours = case.latents.double() * scheduler.init_noise_sigma
    with torch.no_grad():
        for number, step in enumerate(scheduler.timesteps):
            t, next_t = scheduler.sigmas[number].double(), scheduler.sigmas[number + 1].double()
            prediction = predict_prompts(backbone, ours, t.expand(2), [prompt, prompt])
            ours = path.step(ours, prediction, t, next_t)
            seen = scheduler.scale_model_input(theirs, step)
            made = backbone._unet(seen, step, contexts, return_dict=False)[0]
            theirs = scheduler.step(made, step, theirs, return_dict=False)[0]
            # Its sigmas are float32.
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_what_is_learned_is_what_diffusers_trains(kind: str):
    """Noisy latents and targets of DDPM training, in their own scale."""
    from diffusers import DDPMScheduler

    path = unet_path({**SCHEDULE, "prediction_type": kind})
    scheduler = DDPMScheduler(**SCHEDULE)
    clean, noise = torch.randn(2, 3, 4, 2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    steps = torch.tensor([3, 400, 999])
    level = path.level_at(steps.double())
    scale = (1 + level**2).rsqrt().view(-1, 1, 1, 1, 1)
    noisy = scheduler.add_noise(clean, noise, steps)
    target = noise if kind == "epsilon" else scheduler.get_velocity(clean, noise, steps)
    torch.testing.assert_close(scale * path.mix(clean, noise, level), noisy, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(path.target(clean, noise, level), target, atol=1e-5, rtol=1e-5)
    noisy = path.mix(clean, noise, level)
    torch.testing.assert_close(path.clean(noisy, target, level), clean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(path.towards(noisy, clean, level), target, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "change", [{"beta_schedule": "squaredcos_cap_v2"}, {"prediction_type": "sample"}, {"rescale_betas_zero_snr": True}]
)
def test_other_schedulers_are_refused(change: dict[str, Any]):
    with pytest.raises(CCVDError, match=str(next(iter(change.values())))):
        unet_path({**SCHEDULE, **change})


def test_another_model_is_refused():
    with pytest.raises(CCVDError, match=r"Expected a 3D UNet .*got Linear"):
        DiffusersUNet3DBackbone(nn.Linear(2, 2), lambda _: pytest.fail("no text is read"))


def test_modelscopes_unet_is_all_accounted_for(published: DiffusersUNet3DBackbone):
    """Every Linear in its transformers is a site, or left alone for a reason that is said here."""
    sites = {id(site.module): site for site in published.sites}
    left = Counter(
        "spatial self-attention and feed-forward: the look of a single frame, which no concept adapts"
        if ".attentions." in name and (".attn1." in name or ".ff." in name)
        else name.rsplit(".", 1)[-1]
        for name, module in published._unet.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in sites
    )
    assert left == {
        "spatial self-attention and feed-forward: the look of a single frame, which no concept adapts": 16 * 6,
        "proj_in": 33,
        "proj_out": 33,
        "time_emb_proj": 22,
        "linear_1": 1,
        "linear_2": 1,
    }
    assert (published.layers, published.text_width, len(published.sites)) == (16, 1024, 234)
    assert (len(published.site_ids("subject")), len(published.site_ids("motion"))) == (64, 170)
    assert published.fingerprint.architecture == "unet3d-16x320-640-1280-1280-text1024-c4"
    assert sum(parameter.numel() for parameter in published._unet.parameters()) == 1_411_233_860
    assert len(published._unet.state_dict()) == 1480
    grids = published.layer_grids(published.grid((4, 16, 32, 32)))
    assert [(g.height, g.width) for g in grids] == [
        (s, s) for s in (32, 32, 16, 16, 8, 8, 4, *[8] * 3, *[16] * 3, *[32] * 3)
    ]
    widths = [site.out_features for site in published.sites if site.id.endswith("cross_attn.q")]
    assert widths == [320, 320, 640, 640, 1280, 1280, 1280, *[1280] * 3, *[640] * 3, *[320] * 3]
    assert all(site.in_features == 1024 for site in published.sites if site.rows == "b text")


@pytest.mark.parametrize("frames", [1, 16])
def test_the_memory_of_learning_is_what_autograd_keeps(published: DiffusersUNet3DBackbone, frames: int):
    """Counted on ModelScope's sizes at 256 x 256: the inputs of all units, and what the largest unit keeps inside."""
    unet = published._unet
    inputs: list[int] = []
    inside: list[int] = []
    weights = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
    watching: list[Any] = []
    handles = []

    def begin(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs.append(args[0].numel())
        kept: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                kept[storage._cdata] = storage
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        watching.append((hooks, kept))
        hooks.__enter__()

    def end(_: nn.Module, __: tuple[Tensor, ...], ___: Any) -> None:
        hooks, kept = watching.pop()
        hooks.__exit__(None, None, None)
        inside.append(sum(storage.nbytes() // 4 for storage in kept.values()))

    for unit, _ in unet_units(unet):
        handles += [unit.register_forward_pre_hook(begin), unit.register_forward_hook(end)]
    for site in published.sites:
        a = torch.zeros(site.in_features, 16, device="meta", requires_grad=True)
        b = torch.zeros(16, site.out_features, device="meta", requires_grad=True)
        handles.append(site.module.register_forward_hook(lambda _, args, out, a=a, b=b: out + args[0] @ a @ b))
    try:
        latents = torch.zeros(1, 4, frames, 32, 32, device="meta", requires_grad=True)
        unet(latents, torch.zeros(1, device="meta"), torch.zeros(1, 77, 1024, device="meta", requires_grad=True))
    finally:
        for handle in handles:
            handle.remove()
    need = learning_need(published, "motion", 16, (4, frames, 32, 32), 1, 2)
    assert need.activation_bytes == pytest.approx(2 * (sum(inputs) + max(inside)), rel=0.1)


def test_learning_modelscope_fits_a_small_card(published: DiffusersUNet3DBackbone):
    """At 16 x 256 x 256 in half precision, beside 2.8 GB of weights."""
    gib = 1024**3
    needs = {kind: learning_need(published, kind, 16, (4, 16, 32, 32), 1, 2) for kind in ("subject", "motion")}  # type: ignore[arg-type]
    assert needs["subject"].activation_bytes == needs["motion"].activation_bytes
    assert 0.85 * gib < needs["subject"].activation_bytes < 0.95 * gib
    assert needs["subject"].total_bytes < 1.05 * gib and needs["motion"].total_bytes < 1.35 * gib


def test_linears_have_the_names_that_lora_files_give_them(published: DiffusersUNet3DBackbone) -> None:
    unet: Any = published._unet
    for site in published.sites:
        assert site.names == (diffusers_names(published.fingerprint)(site.id),)
        assert unet.get_submodule(site.names[0]) is site.module
