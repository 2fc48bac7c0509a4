"""Our learning loop against ComfyUI's TrainLoraNode and a plain diffusers + PEFT loop: same model, data, batch, rank.

The three take turns in one process. "Same work" is ours without what the others lack: no concept tokens, no row gates,
no retention. The node trains every weight of the model; in the rows named `train_lora_cross_attention` it is given only
the Linears that a subject adapts, without their biases. One clip per step: with more, the node asks the model about
every caption of the batch on every clip of it (16 clips for a batch of 4), which is not the same work.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from base import LATENT_SHAPE, WEIGHTS, DemoBase
from native import use_comfyui
from peft import LoraConfig
from timing import Row, median_ratio
from torch import Tensor, nn

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.backbones.noise_path import FlowPath
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.step import LearningSettings

ROUNDS, STEPS, CLIPS, BATCH, RANK = 6, 8, 8, 1, 16
CAPTION = "a dog moving right on green grass"
PLAIN = LearningSettings(steps=1000, rank=RANK, lr=1e-3, batch=BATCH, retention=0.0, tokens=False, own_words_only=False)
CROSS_ATTENTION = re.compile(r"blocks\.\d+\.cross_attn\.[qkvo]$")

Loop = Callable[[], float]
"""Trains STEPS steps and answers the median seconds of one, the first left out."""


def clips() -> Tensor:
    return torch.randn(CLIPS, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0))


def ours(backbone: Backbone, settings: LearningSettings) -> Loop:
    examples = [Example(clip, CAPTION.replace("dog", "<new>")) for clip in clips()]
    learner = ConceptLearner(backbone, examples, "new", "subject", "dog", settings)

    def train() -> float:
        with Attachment(backbone, [learner.live_adapters()]) as attachment:
            return pace([step_seconds(lambda: learner.step(attachment)) for _ in range(STEPS)])

    return train


def step_seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def pace(seconds: list[float]) -> float:
    return median(seconds[1:])


def peft_loop(base: DemoBase) -> Loop:
    """What one would write with diffusers and PEFT alone."""
    model = copy.deepcopy(base.transformer)
    model.add_adapter(
        LoraConfig(r=RANK, lora_alpha=RANK, target_modules=r".*attn2\.(to_q|to_k|to_v|to_out\.0)", lora_dropout=0.0)
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    data, context = clips(), base.encode_text(CAPTION).context.expand(BATCH, -1, -1)

    def step() -> None:
        clean = data[torch.randint(CLIPS, (BATCH,))]
        t = torch.sigmoid(torch.randn(BATCH))
        noise, path = torch.randn_like(clean), FlowPath()
        noisy, target = path.mix(clean, noise, t), path.target(clean, noise, t)
        loss = F.mse_loss(model(noisy, t * 1000, context, return_dict=False)[0], target)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return lambda: pace([step_seconds(step) for _ in range(STEPS)])


def native_model() -> Any:
    """The demo base as ComfyUI's own objects, loaded for training."""
    use_comfyui()
    import comfy.model_management
    import comfy.sd

    model = comfy.sd.load_diffusion_model(str(WEIGHTS / "ccvd_demo_model.safetensors"))
    comfy.model_management.load_models_gpu([model])
    model.model.requires_grad_(False)
    return model


def train_lora(model: Any, context: Tensor, only_cross_attention: bool, bypass: bool) -> Loop:
    """ComfyUI's node in fp32, without checkpointing; steps are timed by its own progress bar."""
    import comfy.utils
    import comfy_extras.nodes_train as nodes_train

    stock = nodes_train._setup_lora_adapters_bypass if bypass else nodes_train._setup_lora_adapters
    inputs = {
        "latents": {"samples": clips()},
        "positive": [[context[None], {}]],
        "batch_size": BATCH,
        "grad_accumulation_steps": 1,
        "steps": STEPS,
        "learning_rate": 1e-3,
        "rank": RANK,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": "fp32",
        "lora_dtype": "fp32",
        "quantized_backward": False,
        "algorithm": "LoRA",
        "gradient_checkpointing": False,
        "checkpoint_depth": 1,
        "offloading": False,
        "existing_lora": "[None]",
        "bucket_mode": False,
        "bypass_mode": bypass,
    }

    def train() -> float:
        moments: list[float] = []
        comfy.utils.set_progress_bar_global_hook(lambda *_, **__: moments.append(time.perf_counter()))
        name = stock.__name__
        if only_cross_attention:
            setattr(nodes_train, name, restricted(stock))
        try:
            nodes_train.TrainLoraNode.execute(model=[model], **{key: [value] for key, value in inputs.items()})
        finally:
            setattr(nodes_train, name, stock)
            comfy.utils.set_progress_bar_global_hook(None)
        return pace([0.0, *(after - before for before, after in pairwise(moments))])

    return train


def restricted(stock: Callable[..., Any]) -> Callable[..., Any]:
    """The node's set-up of adapters, shown only the cross-attentions' Linears, and those without a bias."""

    def setup(patcher: Any, *rest: Any) -> Any:
        chosen = [
            (name, SimpleNamespace(weight=module.weight, weight_function=module.weight_function))
            for name, module in patcher.model.named_modules()
            if CROSS_ATTENTION.search(name)
        ]
        model = SimpleNamespace(named_modules=lambda: chosen)
        return stock(SimpleNamespace(model=model, add_weight_wrapper=patcher.add_weight_wrapper), *rest)

    return setup


def loop_rows(base: DemoBase) -> Iterator[Row]:
    """Seconds per step of our loop as a ratio to the others' (at most 1: not slower)."""
    native_base = native_model()
    import comfy.model_management as memory

    full = replace(PLAIN, tokens=True, own_words_only=True)
    context = base.encode_text(CAPTION).context
    native = ComfyWanBackbone(native_base.model.diffusion_model, base.encode_text)
    loops = {
        "ours_diffusers": ours(base.backbone(), PLAIN),
        "ours_diffusers_tokens": ours(base.backbone(), full),
        "peft": peft_loop(base),
        "ours_native": ours(native, PLAIN),
        "ours_native_tokens": ours(native, full),
        "train_lora_cross_attention": train_lora(native_base, context, True, False),
        "train_lora_cross_attention_bypass": train_lora(native_base, context, True, True),
        "train_lora_all_weights": train_lora(native_base, context, False, False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(ROUNDS):
        for name, loop in loops.items():
            memory.in_training = True  # the node switches it off when it is done
            try:
                seconds[name].append(loop())
            finally:
                memory.in_training = False
    for name, found in seconds.items():
        yield f"loop_{name}", "seconds_per_step", median(found)
    for suffix in ("", "_tokens"):
        yield f"loop_ours_diffusers{suffix}", "peft", median_ratio(seconds[f"ours_diffusers{suffix}"], seconds["peft"])
        for rival in (name for name in loops if name.startswith("train_lora")):
            yield f"loop_ours_native{suffix}", rival, median_ratio(seconds[f"ours_native{suffix}"], seconds[rival])
