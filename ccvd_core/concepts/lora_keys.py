"""What the keys of other tools' LoRA files mean: which Linear, which part of its adapter, or which other adapter type.

kohya's scripts and musubi-tuner write `lora_unet_blocks_0_ffn_2.lora_down.weight`, PEFT and diffusers
`transformer.blocks.0.ffn.net.2.lora_A.weight`, ai-toolkit and diffusion-pipe
`diffusion_model.blocks.0.ffn.2.lora_A.weight`. The names of a model's own Linears come from its backbone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from ..errors import LoraFileError, shorten

Part = Literal["a", "b", "alpha"]


def ending(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern})\Z")


PARTS: tuple[tuple[Part, re.Pattern[str]], ...] = (
    ("a", ending(r"\.lora_A(\.\w+)?\.weight|\.lora_A|\.lora_down\.weight|[._]lora\.down\.weight")),
    ("b", ending(r"\.lora_B(\.\w+)?\.weight|\.lora_B|\.lora_up\.weight|[._]lora\.up\.weight")),
    ("alpha", ending(r"\.alpha")),
)
"""How a key ends. PEFT may write the adapter's name in it (`lora_A.default.weight`)."""

OTHER_TYPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("LoKr", ending(r"\.lokr_\w+")),
    ("LoHa", ending(r"\.hada_\w+")),
    ("DoRA", ending(r"\.dora_scale|\.lora_magnitude_vector(\.\w+){0,2}|\.magnitude")),
    ("GLoRA", ending(r"\.[ab][12]\.weight")),
    ("OFT or BOFT", ending(r"\.b?oft_\w+(\.\w+){0,2}")),
    ("(IA)3", ending(r"\.ia3_l(\.\w+){0,2}|\.on_input")),
    ("VeRA", ending(r"\bvera_\w+(\.\w+){0,2}")),
    ("LoCon (convolutions)", ending(r"\.lora_mid\.weight")),
    ("embeddings", ending(r"\.lora_embedding_[AB](\.\w+){0,2}|\Aemb_params|\Abundle_emb.*")),
    ("biases", ending(r"\.lora_\w+(\.\w+)?\.bias|\.bias|\.diff_b")),
    ("norms", ending(r"\.[wb]_norm|norm\w*\.(weight|diff|set_weight)")),
    ("full differences of the weights", ending(r"\.diff|\.set_weight|\.reshape_weight")),
    ("whole weights", ending(r"\.weight|\.modulation|\.scale_weight|\.scale_shift_table")),
)
"""What else a file may hold and how its keys end, the most special first."""

DOTTED = ("base_model.model.", "diffusion_model.", "transformer.", "pipe.dit.", "unet.", "model.")
UNDERSCORED = ("lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_", "diffusion_model_")
PREFIXES = (*DOTTED, *UNDERSCORED)
"""In front of a Linear's name."""


class Place(Protocol):
    """A Linear of the model that a LoRA may adapt."""

    @property
    def id(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def in_features(self) -> int: ...
    @property
    def out_features(self) -> int: ...


def sorted_keys(keys: Iterable[str], what: str) -> dict[str, dict[Part, str]]:
    """{the Linear's name in the file: {part: key}}, each with A and B.

    Raises LoraFileError naming every adapter type in the file that is not LoRA, for half an adapter, and for an adapter
    that is there twice. `what` is the file for messages.
    """
    modules: dict[str, dict[Part, str]] = {}
    others: dict[str, str] = {}
    for key in sorted(keys):
        found = part_of(key)
        if found is None:
            others.setdefault(other_type(key), key)
            continue
        name, part = found
        if part in modules.setdefault(name, {}):
            raise LoraFileError(
                f"{what} has two adapters for {shorten(name)}: {shorten(modules[name][part])} and {shorten(key)}. Save "
                "each in a file of its own."
            )
        modules[name][part] = key
    # The weight beside `on_input` belongs to it, and LoKr and LoHa have an alpha too.
    if others:
        raise LoraFileError(refusal(what, others))
    if not modules:
        raise LoraFileError(f"{what} has nothing in it: expected adapters such as …lora_A.weight. Use another file.")
    for name, parts in modules.items():
        if not {"a", "b"} <= parts.keys():
            have = ", ".join(shorten(key) for key in parts.values())
            raise LoraFileError(
                f"{what} is not complete: an adapter needs A and B (lora_A and lora_B, or lora_down and lora_up); of "
                f"{shorten(name)} it has {have} only. Download or save it again."
            )
    return modules


def part_of(key: str) -> tuple[str, Part] | None:
    """(the Linear's name in the file, the part) of a LoRA's key; None for any other."""
    for part, pattern in PARTS:
        if (match := pattern.search(key)) and match.start():
            return key[: match.start()], part
    return None


def other_type(key: str) -> str:
    """What a key that is not a LoRA's belongs to."""
    return next((name for name, pattern in OTHER_TYPES if pattern.search(key)), "something unknown")


def refusal(what: str, others: Mapping[str, str]) -> str:
    found = "; ".join(f"{name} ({shorten(key, 90)})" for name, key in list(others.items())[:4])
    return (
        f"{what} cannot be imported: expected LoRA adapters only (A, B and alpha); got {found}. As a concept it would "
        "act without them, and not as it was made. Put ComfyUI's Load LoRA in front of Aggregate Adapters for this "
        "file; it then acts on the whole video."
    )


def without_prefix(name: str) -> str:
    """A Linear's name in a file without what tools put in front of it."""
    while True:
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return name
        name = name.removeprefix(prefix)


def places_by_name(places: Iterable[Place]) -> dict[str, Place]:
    """Every name under which a file may have a Linear, without prefix, with dots and with underscores."""
    known = {}
    for place in places:
        for name in (place.id, *place.names):
            known[name] = known[name.replace(".", "_")] = place
    return known
