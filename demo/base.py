"""The trained demo base in diffusers, for headless use: tests, benchmarks, evaluation."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers
from full_sequence_vae import STOCK_SHAPE, decode, encode_moments
from safetensors.torch import load_file
from text import TEXT_WIDTH, build_encoder, encode, tokenize, vocabulary_size
from torch import Tensor, nn
from world.scenes import Choices

sys.path.append(str(Path(__file__).parent.parent))  # the scripts of this folder run without an installed pack

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import EncodedText
from ccvd_core.backbones.clip_text import added_to_embeddings
from ccvd_core.backbones.diffusers_wan import DiffusersWanBackbone
from ccvd_core.backbones.text_pieces import sentencepiece_pieces
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.sampling import sample

WEIGHTS = Path(__file__).parent / "weights"
NEXT = WEIGHTS / "next"
"""Where the training of the next base has got to, for whoever goes on with it."""
VAE_FILE = "ccvd_demo_vae.safetensors"
TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 3,
    "attention_head_dim": 64,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": TEXT_WIDTH,
    "freq_dim": 256,
    "ffn_dim": 768,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 64,
}
"""`WanTransformer3DModel` arguments, but for the number of layers, which the file tells."""
LATENT_SHAPE = (16, 3, 16, 16)
"""Channels, latent frames, height, width of a clip."""


KNOWN = Choices(
    words=("dog", "cat", "frog", "pig", "panda", "car", "apple", "ball", "flower", "mushroom", "fish", "star"),
    motions=("still", "moving left", "moving right", "moving up", "moving down"),
    styles=("plain",),
    backgrounds=("green grass", "blue sky", "yellow sand", "dark night", "pink wall"),
    speeds=("",),
    described=False,
)
"""What of the world the committed weights have been trained on."""


@dataclass(frozen=True)
class DemoBase:
    """The three parts of the base, in fp32 on the CPU, frozen."""

    transformer: WanTransformer3DModel
    encoder: nn.Module
    tokenizer: bytes
    vae: AutoencoderKLWan

    @torch.no_grad()
    def encode_text(self, text: str) -> EncodedText:
        """Context rows and pieces of one prompt, in fp32 inside autocast too."""
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor(model_proto=self.tokenizer)
        pieces = sentencepiece_pieces(processor.encode(text, out_type=str))
        with torch.autocast("cpu", enabled=False):
            return EncodedText(encode(self.encoder, tokenize(self.tokenizer, [text]))[0], pieces)

    def encode_with(self, text: str, rows: Sequence[int], values: Tensor) -> Tensor:
        """See `Backbone.encode_with`: contexts [layers, TEXT_ROWS, TEXT_WIDTH], gradients to `values`."""
        numbers = tokenize(self.tokenizer, [text]).expand(len(values), -1)
        # T5's `get_input_embeddings` is another module with the same weights, which the encoder does not call.
        embeddings: Any = self.encoder.encoder.embed_tokens  # type: ignore[union-attr]
        with torch.autocast("cpu", enabled=False), added_to_embeddings(embeddings, rows, values):
            return encode(self.encoder, numbers)

    def backbone(self) -> DiffusersWanBackbone:
        return DiffusersWanBackbone(self.transformer, self.encode_text, self.encode_with)

    @torch.no_grad()
    def draw(self, captions: Sequence[str], seeds: Sequence[int], steps: int = 20, cfg: float = 3.0) -> Tensor:
        """Clips [n, frames, height, width, 3] in 0..1 of plain captions; a seed decides a clip's noise."""
        backbone, noise = self.backbone(), starting_noise(seeds)
        *prompts, negative = (aggregate(backbone, text, ()).prompt for text in (*captions, ""))
        attachment = Attachment(backbone, [])
        return self.to_clips(sample(backbone, attachment, prompts, negative, noise, steps, cfg))

    @torch.no_grad()
    def to_latents(self, clips: Tensor) -> Tensor:
        """Model latents of clips [batch, 3, frames, height, width] in -1..1."""
        mean, std = self._statistics()
        return (encode_moments(self.vae, clips)[:, : len(mean)] - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)

    @torch.no_grad()
    def to_clips(self, latents: Tensor) -> Tensor:
        """Clips [batch, frames, height, width, 3] in 0..1 of model latents."""
        mean, std = self._statistics()
        raw = latents * std.view(1, -1, 1, 1, 1) + mean.view(1, -1, 1, 1, 1)
        parts = [decode(self.vae, part).float() for part in raw.split(8)]
        return torch.cat(parts).clamp(-1, 1).add(1).div(2).permute(0, 2, 3, 4, 1)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        config: Any = self.vae.config
        return torch.tensor(config.latents_mean), torch.tensor(config.latents_std)


def layers_of(state: Iterable[str]) -> int:
    """How many blocks the parameters of a transformer have."""
    return 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))


def starting_noise(seeds: Iterable[int]) -> Tensor:
    """Noise of latents [n, *LATENT_SHAPE] that sampling starts from; each seed decides one clip's."""
    return torch.stack([torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def load_base(weights: Path = WEIGHTS) -> DemoBase:
    """The demo base from its three files; a folder without a VAE of its own has the committed one."""
    state = convert_wan_transformer_to_diffusers(load_file(weights / "ccvd_demo_model.safetensors"))
    transformer = WanTransformer3DModel(**TRANSFORMER, num_layers=layers_of(state))
    transformer.load_state_dict(state)
    vae = AutoencoderKLWan(**STOCK_SHAPE)
    folder = weights if (weights / VAE_FILE).is_file() else WEIGHTS
    vae.load_state_dict(convert_wan_vae_to_diffusers(load_file(folder / VAE_FILE)))
    text = load_file(weights / "ccvd_demo_text_encoder.safetensors")
    tokenizer = text.pop("spiece_model").numpy().tobytes()
    encoder = build_encoder(vocabulary_size(tokenizer))
    encoder.load_state_dict({**text, "encoder.embed_tokens.weight": text["shared.weight"]})
    for module in (transformer, encoder, vae):
        module.float().eval().requires_grad_(False)
    return DemoBase(transformer, encoder, tokenizer, vae)
