"""One learned concept: what it is, its adapters, concept tokens and keys. `file.py` writes and reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import CCVDError, shorten
from .kinds import ANY_KIND, AnyKind

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MAX_CLASS_WORDS = 500
"""Characters: as many as text encoders read."""
TokenInjection = Literal["output", "encoder"]
"""Where concept tokens are added: to what the text encoder gives, or to the word embeddings that it reads, as in the
paper."""
TOKEN_INJECTIONS: tuple[TokenInjection, ...] = get_args(TokenInjection)
WINDOWS_NAMES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def check_name(name: str) -> str:
    """The concept's name, if it can be written `<name>` in a prompt and be a file's name everywhere.

    Raises CCVDError otherwise.
    """
    if name.split(".")[0] in WINDOWS_NAMES:
        raise CCVDError(
            f"The concept name {shorten(name)} cannot be used: Windows keeps it for a device. Choose another name."
        )
    if not NAME_PATTERN.fullmatch(name):
        raise CCVDError(
            f"The concept name {shorten(name)} cannot be used: expected 1 to 64 of the characters a-z, 0-9, _ and -, "
            "starting with a letter or digit, because it becomes a file name and is written <name> in prompts."
        )
    return name


def check_class_words(words: str, name: str = "") -> str:
    """The class words of `name` with single spaces. Raises CCVDError if a text encoder could not read them."""
    whose = f" of <{name}>" if name else ""
    if not words.strip():
        raise CCVDError(f"Class words{whose} are missing: say what kind of thing it is, for example `dog`.")
    if len(words) > MAX_CLASS_WORDS:
        raise CCVDError(
            f"The class words{whose} are too long: expected at most {MAX_CLASS_WORDS} characters; got {len(words)}. "
            "A few words are enough, for example `little dog`."
        )
    try:
        words.encode()
    except UnicodeEncodeError:
        raise CCVDError(
            f"The class words{whose} have half a character in them, of an emoji perhaps: {words!a}. Write them again."
        ) from None
    return " ".join(words.split())


@dataclass(frozen=True)
class LowRank:
    """One adapter on one Linear: dW = scale * B A (LoRA, Hu et al. 2021)."""

    a: Float[Tensor, "rank in"]
    b: Float[Tensor, "out rank"]
    scale: float = 1.0
    """alpha / rank."""

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2 or self.a.shape[0] != self.b.shape[1] or self.a.shape[0] < 1:
            raise CCVDError(
                f"An adapter needs A [rank, in] and B [out, rank] of one rank >= 1; got {list(self.a.shape)} and "
                f"{list(self.b.shape)}."
            )

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True)
class BaseFingerprint:
    """Identifies a base model whatever precision its file has.

    `architecture` is compared exactly; `signature` holds a few dozen weights that change between models but not between
    bf16 and fp8 files of one model, compared within a tolerance.
    """

    architecture: str
    signature: tuple[float, ...]

    def matches(self, other: BaseFingerprint) -> bool:
        if self.architecture != other.architecture or len(self.signature) != len(other.signature):
            return False
        mine, theirs = torch.tensor(self.signature), torch.tensor(other.signature)
        scale = torch.linalg.vector_norm(mine).clamp_min(1e-12)
        return bool(torch.linalg.vector_norm(mine - theirs) <= 0.1 * scale)


@dataclass(frozen=True)
class Concept:
    """A learned concept (DESIGN 2.1).

    `adapters` maps a Linear's canonical id (`blocks.3.cross_attn.k`) to its LoRA. `tokens` is y: one vector per layer
    and text row of the class words, [layers, rows, width]; an imported LoRA has none, its rows are 0. `keys` is h: the
    unit-length concept embedding per layer, [layers, width]; `class_keys` is the same for the bare class words, so that
    relevance can be scored against them, and zero where there are none to tell it from.
    """

    name: str
    kind: AnyKind
    class_words: str
    adapters: Mapping[str, LowRank]
    tokens: Float[Tensor, "layers rows width"]
    keys: Float[Tensor, "layers width"]
    class_keys: Float[Tensor, "layers width"]
    base: BaseFingerprint
    order: int = 0
    """Position in learning order, 1 for the first concept of a library; 0 until it joins one."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it was learned: plain JSON values only."""
    preview: bytes | None = None
    """A small WebP or PNG picture."""
    token_injection: TokenInjection = "output"
    """Where `tokens` are added."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in ANY_KIND:
            raise CCVDError(
                f"The kind of {self.name!r} must be one of {', '.join(ANY_KIND)}; got {shorten(self.kind)}."
            )
        if self.token_injection not in TOKEN_INJECTIONS:
            raise CCVDError(
                f"The token injection of {self.name!r} must be one of {', '.join(TOKEN_INJECTIONS)}; got "
                f"{shorten(self.token_injection)}."
            )
        check_class_words(self.class_words, self.name)
        layers, rows, width = self.tokens.shape
        if (rows == 0) != (self.kind == "lora"):
            raise CCVDError(
                f"A concept that was learned has tokens, an imported LoRA has none; {self.name!r} is a {self.kind} "
                f"with tokens for {rows} text rows."
            )
        for what, keys in (("keys", self.keys), ("class keys", self.class_keys)):
            if keys.shape != (layers, width):
                raise CCVDError(f"The {what} of {self.name!r} must be [{layers}, {width}]; got {list(keys.shape)}.")

    @property
    def rank(self) -> int:
        """Largest rank of its adapters; 0 without adapters."""
        return max((adapter.rank for adapter in self.adapters.values()), default=0)
