"""An ordinary LoRA as a concept: its adapters, no tokens, and a key made of its trigger words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..backbones.base import Backbone
from ..concepts.concept import Concept, check_class_words, check_name
from ..concepts.lora_file import LoraAdapters, read_lora
from ..errors import CCVDError
from .mentions import Mention, mention_rows

PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def read_adapters(path: Path, backbone: Backbone) -> LoraAdapters:
    """The adapters of a LoRA file, or of a PEFT folder or the weights in one. Raises LoraFileError, WrongBaseError."""
    folder = path if path.is_dir() else path.parent
    if path.is_dir() or (path.name == PEFT_WEIGHTS and (folder / PEFT_CONFIG).is_file()):
        from ..concepts.peft_folder import read_peft_folder  # imports PEFT, which takes seconds

        return read_peft_folder(folder, backbone.sites)
    return read_lora(path, backbone.sites)


@torch.inference_mode(False)
def lora_concept(
    name: str, trigger_words: str, lora: LoraAdapters, backbone: Backbone, settings: Mapping[str, Any] | None = None
) -> Concept:
    """A concept that the prompt names `<name>` and the model reads as `trigger_words`.

    Without tokens, every layer reads the same text, so that the key is the same for all. There are no bare class words
    to tell the trigger words from: the class key is zero, and what is relevant is what lies near the trigger words.
    Raises CCVDError for a name or words that cannot be used.
    """
    words = check_trigger_words(trigger_words, check_name(name))
    key = trigger_key(backbone, words, name).clone()
    layers, width = backbone.layers, backbone.text_width
    return Concept(
        name=name,
        kind="lora",
        class_words=words,
        adapters=lora.adapters,
        tokens=torch.zeros(layers, 0, width),
        keys=key.repeat(layers, 1),
        class_keys=torch.zeros(layers, width),
        base=backbone.fingerprint,
        settings=dict(settings or {}),
    )


def check_trigger_words(words: str, name: str) -> str:
    """The trigger words with single spaces. Raises CCVDError without any, or with what a text encoder cannot read."""
    if not words.strip():
        raise CCVDError(
            f"The trigger words of <{name}> are missing: write what the model is to read in place of <{name}>, the "
            "words on the LoRA's page or, if it has none, what it shows, for example `a woman` or `oil painting`."
        )
    return check_class_words(words, name)


def trigger_key(backbone: Backbone, words: str, name: str) -> Float[Tensor, " width"]:
    """h: the mean of the rows of the trigger words, as the text encoder reads them alone, at unit length."""
    encoded = backbone.encode(words)
    rows = mention_rows(encoded.pieces, Mention(name, words, 0))
    return F.normalize(encoded.context.float().cpu()[list(rows)].mean(0), dim=0)
