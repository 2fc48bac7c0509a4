"""PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`.

PEFT takes seconds to import: whoever needs this module imports it when it is needed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import safetensors.torch
from peft import LoraConfig
from torch import Tensor

from ..errors import LoraFileError
from .concept import Concept, LowRank
from .lora_export import is_export, lora_metadata
from .lora_file import LoraAdapters, read_lora
from .lora_keys import Place
from .peft_config import config_values, lora_config, scale
from .whole_files import advice, write_whole

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
MAX_CONFIG_BYTES = 4 * 1024**2


def read_peft_folder(folder: Path, places: Iterable[Place]) -> LoraAdapters:
    """The adapters of a PEFT folder. Raises as `read_lora` does; other methods of PEFT are refused by name."""
    what = f"The PEFT folder {folder.name}"
    try:
        with open(folder / CONFIG, "rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise LoraFileError(f"{what} has no {CONFIG} that can be read: {advice(error)}") from error
    if len(text) > MAX_CONFIG_BYTES:
        raise LoraFileError(f"{what} has a {CONFIG} of more than {MAX_CONFIG_BYTES // 1024**2} MB. Save it again.")
    config = lora_config(config_values(text, what), what)
    return read_lora(folder / WEIGHTS, places, lambda name, rank: scale(config, name, rank, PEFT_PREFIX, what))


def write_peft_folder(concept: Concept, folder: Path, name_of: Callable[[str], str]) -> None:
    """Write a concept's adapters as a PEFT folder, over an earlier export of that concept only.

    `name_of` gives a Linear's name in the model that PEFT is to put them on by its id; there
    `PeftModel.from_pretrained(model, folder)` loads them. Concept tokens are not in it. Raises LoraFileError.
    """
    if not concept.adapters:
        raise LoraFileError(f"<{concept.name}> has no adapters to write.")
    if any((folder / name).exists() for name in (CONFIG, WEIGHTS)) and not is_export(folder / WEIGHTS, concept.name):
        raise LoraFileError(f"There is already another adapter in {folder}, and it is never overwritten. Move it.")
    adapters = {name_of(site): adapter for site, adapter in concept.adapters.items()}
    rank, alpha = (
        Counter(value(adapter) for adapter in adapters.values()).most_common(1)[0][0]
        for value in (lambda adapter: adapter.rank, lambda adapter: adapter.scale * adapter.rank)
    )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=sorted(adapters),
        rank_pattern={name: a.rank for name, a in adapters.items() if a.rank != rank},
        alpha_pattern={name: a.scale * a.rank for name, a in adapters.items() if a.scale * a.rank != alpha},
        inference_mode=True,
    )
    values = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    state = {PEFT_PREFIX + key: tensor for key, tensor in adapter_state(adapters).items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / WEIGHTS, safetensors.torch.save(state, lora_metadata(concept)))
        write_whole(folder / CONFIG, json.dumps(values, indent=2, sort_keys=True).encode())
    except OSError as error:
        raise LoraFileError(f"Cannot write the PEFT folder {folder}: {advice(error)}") from error


def adapter_state(adapters: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """The tensors of adapters, each on its own memory, as safetensors wants them."""
    return {
        key: tensor.detach().cpu().contiguous().clone()
        for site, adapter in sorted(adapters.items())
        for key, tensor in ((f"{site}.lora_A.weight", adapter.a), (f"{site}.lora_B.weight", adapter.b))
    }
