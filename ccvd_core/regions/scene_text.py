"""A scene as one sentence: the regions' prompts and the whole frame's, read by the text encoder together.

Each region then keeps the rows of its own words and of what all share, so that `a dog` inside it has been read as part
of `a dog and a cat on grass`: the model knows that the scene has two subjects. Cross-attention has no positions, so
rows can be left out without a change to the others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from ..prompts.concept_tokens import PlacedTokens
from .region import RegionError

JOINER = "and"


@dataclass(frozen=True)
class SceneText:
    """`text` is the sentence; `owners` says for each of its `parts`, which are joined by spaces, whose words they are:
    region k's (from 1), or everybody's (0)."""

    text: str
    parts: tuple[str, ...]
    owners: tuple[int, ...]


def join_scene(whole: str, regions: Sequence[str]) -> SceneText:
    """`a <rex> runs` and `a <kit>` over `on green grass` make `a <rex> runs and a <kit> on green grass`."""
    parts: list[str] = []
    owners: list[int] = []
    for number, text in enumerate(regions, 1):
        if number > 1:
            parts.append(JOINER)
            owners.append(0)
        parts.append(text.strip())
        owners.append(number)
    if whole.strip():
        parts.append(whole.strip())
        owners.append(0)
    return SceneText(" ".join(parts), tuple(parts), tuple(owners))


def row_owners(pieces: Sequence[str], parts: Sequence[str], owners: Sequence[int]) -> list[int]:
    """Whose word each of the encoder's `pieces` is: the owner of the part in which the piece ends.

    A row that stands for no part of the text is everybody's. Letters are counted without spaces and in compatibility
    form (NFKC), to which encoders normalise them. Raises RegionError when the encoder reads other letters, or cut the
    sentence off.
    """
    ends, letters = [], 0
    for part in parts:
        letters += len(plain_letters(part))
        ends.append(letters)
    found, read = [], 0
    for piece in pieces:
        read += len(plain_letters(piece))
        part = next((number for number, end in enumerate(ends) if read <= end), len(ends) - 1)
        found.append(owners[part] if piece else 0)
    if read != letters:
        raise RegionError(
            f"The text encoder reads {read} letters of the scene's prompts where {letters} are written. Shorten the "
            "prompts or leave out unusual characters (emoji, for example), or set region_prompts to 'alone'."
        )
    return found


def plain_letters(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def keep_rows(
    context: Float[Tensor, "rows width"], placed: Sequence[PlacedTokens], kept: Sequence[int]
) -> tuple[Float[Tensor, "rows width"], tuple[PlacedTokens, ...]]:
    """A context of only these rows, in front, as long as before with zeros; the mentions that lie in them, and what is
    moved of other words in them."""
    place = {row: number for number, row in enumerate(kept)}
    shorter = context.new_zeros(context.shape)
    shorter[: len(kept)] = context[list(kept)]
    moved = []
    for tokens in placed:
        inside = [number for number, row in enumerate(tokens.rows) if row in place]
        if len(inside) == len(tokens.rows) or (inside and tokens.concept is None):
            rows = tuple(place[tokens.rows[number]] for number in inside)
            moved.append(replace(tokens, rows=rows, values=tokens.values[:, inside]))
    return shorter, tuple(moved)
