"""What concept tokens before the text encoder cost against those after it: per learning step, and per prompt.

Timed on the demo base, whose encoder has two layers, and counted in FLOPs at ModelScope's sizes on the meta device: its
UNet at 256 x 256 x 16 frames with recomputation, and CLIP's text encoder of ViT-H without its last layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from base import DemoBase
from diffusers import UNet3DConditionModel
from loop_cost import PLAIN, ROUNDS, ours
from timing import Row, median_ratio, seconds_of, take_turns
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from ccvd_core.backbones.clip_text import added_to_embeddings
from ccvd_core.backbones.unet3d import unet_layers
from ccvd_core.concepts.concept import TOKEN_INJECTIONS, Concept
from ccvd_core.learning.learner import FORWARDS_PER_STEP
from ccvd_core.prompts.aggregate import aggregate

TEXT_ROWS, TEXT_WIDTH = 77, 1024
LATENTS = (1, 4, 16, 32, 32)
PROMPT = "a <new> moving right on green grass"


def place_rows(base: DemoBase) -> Iterator[Row]:
    """Ratios of `encoder` to `output`, and the shares of FLOPs."""
    backbone = base.backbone()
    learned = replace(PLAIN, tokens=True, own_words_only=True)
    steps = {place: ours(backbone, replace(learned, token_injection=place)) for place in TOKEN_INJECTIONS}
    yield from compared("place_step", take_turns(steps, ROUNDS))
    keys = torch.ones(backbone.layers, backbone.text_width)
    concept = Concept("new", "subject", "dog", {}, keys[:, None], keys, keys, backbone.fingerprint)
    prompts = {
        place: partial(seconds_of, partial(aggregate, backbone, PROMPT, [replace(concept, token_injection=place)]))
        for place in TOKEN_INJECTIONS
    }
    yield from compared("place_prompt", take_turns(prompts, 4 * ROUNDS))
    yield from modelscope_rows()


def compared(what: str, seconds: dict[str, list[float]]) -> Iterator[Row]:
    for place, found in seconds.items():
        yield f"{what}_{place}", "seconds", median(found)
    yield f"{what}_encoder", f"{what}_output", median_ratio(seconds["encoder"], seconds["output"])


def modelscope_rows() -> Iterator[Row]:
    """FLOPs that a step and a prompt have more with tokens before the encoder."""
    with torch.device("meta"):
        unet: Any = UNet3DConditionModel(cross_attention_dim=TEXT_WIDTH, attention_head_dim=64).eval()
        config = CLIPTextConfig(
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=23,
            num_attention_heads=16,
            hidden_act="gelu",
        )
        encoder: Any = CLIPTextModel(config).eval().requires_grad_(False)
        numbers = torch.zeros(1, TEXT_ROWS, dtype=torch.long)
        values = torch.zeros(len(unet_layers(unet)), 1, TEXT_WIDTH, requires_grad=True)
        latents, context = torch.zeros(LATENTS), torch.zeros(1, TEXT_ROWS, TEXT_WIDTH)
    with torch.no_grad(), FlopCounterMode(display=False) as step:
        unet(latents, 500, context)
    with torch.no_grad(), FlopCounterMode(display=False) as once:
        encoder(numbers)
    table = encoder.get_input_embeddings()
    with FlopCounterMode(display=False) as learned, added_to_embeddings(table, [1], values):
        encoder(numbers.expand(len(values), -1))[0].sum().backward()
    forward = step.get_total_flops()
    yield "flops_modelscope_step_output", "TFLOP", FORWARDS_PER_STEP * forward / 1e12
    yield "flops_modelscope_step_encoder", "TFLOP", (FORWARDS_PER_STEP * forward + learned.get_total_flops()) / 1e12
    more = learned.get_total_flops() / (FORWARDS_PER_STEP * forward)
    yield "flops_modelscope_step_encoder", "flops_modelscope_step_output", 1 + more
    # A video is sampled with 2 x 25 forward passes of the UNet, its prompt is read once.
    yield "flops_modelscope_prompt_encoder", "video_of_25_steps", len(values) * once.get_total_flops() / (50 * forward)
