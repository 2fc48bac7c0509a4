"""What a configuration of PEFT's LoRA says of the adapters beside it: its meaning is PEFT's to say.

PEFT takes seconds to import: whoever needs this module imports it when it is needed.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from peft import LoraConfig

from ..errors import LoraFileError, shorten
from .plain_json import parse_json

OTHER_FORMS: Mapping[str, str] = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "alora_invocation_tokens": "activated LoRA",
    "lora_bias": "biases",
    "modules_to_save": "whole weights (modules_to_save)",
    "trainable_token_indices": "embeddings",
    "target_parameters": "adapters of bare parameters",
    "layer_replication": "repeated layers",
    "megatron_config": "Megatron's layers",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
}
"""Options of PEFT's LoRA that make it another thing than B A beside a frozen weight."""
CHANGED_BASE = re.compile(r"pissa\w*|olora|corda|loftq|lora_ga", re.IGNORECASE)
"""Ways to start that change the model's own weights: the adapter alone is then not what was trained."""
PLAIN_PATTERN = re.compile(r"[\w.\-^$\\]{1,300}")
"""Of the patterns for ranks and alphas, those that take no time to match."""


def diffusers_scales(text: str, what: str) -> Callable[[str, int], float]:
    """The scales that diffusers wrote into a LoRA file's metadata: {"transformer.lora_alpha": 8, ...}.

    By a Linear's name in the file and its rank.
    """
    parts: dict[str, dict[str, Any]] = {}
    for key, value in config_values(text, what).items():
        component, _, field = key.partition(".")
        parts.setdefault(component, {})[field] = value
    configs = {component: lora_config(values, what) for component, values in parts.items()}

    def scale_of(name: str, rank: int) -> float:
        component = name.partition(".")[0]
        return scale(configs[component], name, rank, f"{component}.", what) if component in configs else 1.0

    return scale_of


def config_values(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        values = parse_json(text)
    except ValueError as error:
        raise LoraFileError(
            f"{what} has an adapter configuration that is not JSON ({shorten(str(error))}). Save it again."
        ) from None
    if not isinstance(values, dict):
        raise LoraFileError(f"{what} has an adapter configuration that is not a table. Save it again.")
    return values


def lora_config(values: Mapping[str, Any], what: str) -> LoraConfig:
    """A configuration as PEFT understands it. Raises LoraFileError for all but plain LoRA, naming what it is."""
    method = str(values.get("peft_type", "LORA")).rpartition(".")[2]
    forms = [name for option, name in OTHER_FORMS.items() if values.get(option)]
    if method != "LORA":
        forms.insert(0, f"PEFT's method {shorten(method)}")
    if values.get("bias", "none") != "none":
        forms.append("biases")
    start = values.get("init_lora_weights", True)
    if isinstance(start, str) and CHANGED_BASE.fullmatch(start):
        forms.append(f"a LoRA on changed weights of the model (init_lora_weights {start})")
    if forms:
        raise LoraFileError(
            f"{what} cannot be imported: expected plain LoRA; got {', '.join(forms)}. Convert it to plain LoRA with "
            "PEFT, or use ComfyUI's Load LoRA in front of Aggregate Adapters."
        )
    known = {field.name for field in dataclasses.fields(LoraConfig)} - {"peft_type", "task_type", "runtime_config"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = LoraConfig(**{key: value for key, value in values.items() if key in known})
        except (TypeError, ValueError, AttributeError) as error:
            raise LoraFileError(f"{what} has a configuration that PEFT refuses: {error}. Save it again.") from error
    tables = [table or {} for table in (config.rank_pattern, config.alpha_pattern)]
    if not all(isinstance(table, dict) for table in tables):
        raise LoraFileError(f"{what} has rank or alpha patterns that are not a table. Save it again.")
    patterns = [pattern for table in tables for pattern in table.items()]
    numbers = (config.r, config.lora_alpha, *(number for _, number in patterns))
    if not all(type(number) in (int, float) and abs(number) < 1e9 for number in numbers):
        raise LoraFileError(f"{what} has ranks or alphas that are not numbers. Save it again.")
    for pattern, _ in patterns:
        if not PLAIN_PATTERN.fullmatch(pattern):
            raise LoraFileError(
                f"{what} has a rank or alpha for {shorten(pattern)}: expected names of layers, not patterns of them. "
                "Save it with names."
            )
    return config


def scale(config: LoraConfig, name: str, rank: int, prefix: str, what: str) -> float:
    """alpha / rank of the layer `name` in the file, or alpha / sqrt(rank) as rank-stabilised LoRA has it."""
    layer = name.removeprefix(prefix)
    said = of_layer(config.rank_pattern or {}, layer, config.r)
    if said != rank:
        raise LoraFileError(
            f"{what} says rank {said} for {shorten(layer)}, but the adapter there has rank {rank}. Save it again."
        )
    return of_layer(config.alpha_pattern or {}, layer, config.lora_alpha) / (rank**0.5 if config.use_rslora else rank)


def of_layer(patterns: Mapping[str, Any], layer: str, otherwise: Any) -> Any:
    """The value of the first pattern that fits the end of a layer's name, as in PEFT."""
    for pattern, value in patterns.items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", layer):
                return value
        except re.error:
            continue
    return otherwise
