"""Which concepts of a library are on, how strongly and at which noise, from lines that an artist writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..errors import CCVDError, shorten

NUMBER = frozenset("+-.0123456789")
LONGEST_NUMBER = 20
ALL_NOISE = (0.0, 1.0)
NoiseRange = tuple[float, float]
"""Least and largest training time at which a concept acts, in 0..1 (1 = pure noise, where sampling begins)."""


@dataclass(frozen=True)
class Adjustments:
    """What differs from a concept that is on, at strength 1 and at all noise, by its name."""

    off: frozenset[str] = frozenset()
    strengths: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    ranges: Mapping[str, NoiseRange] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name, strength in self.strengths.items():
            check_strength(name, strength)
        for name, limits in self.ranges.items():
            check_range(name, limits)

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts that they are about."""
        return tuple(dict.fromkeys((*self.off, *self.strengths, *self.ranges)))


NO_ADJUSTMENTS = Adjustments()


def parse_adjustments(text: str) -> Adjustments:
    """From lines like `rex 0.8`, `<kit>: off`, `fox = on` and `hop 0.8 from 0.5 to 1`; later lines win.

    Raises CCVDError for a line that means nothing, with its number.
    """
    values: dict[str, str | float] = {}
    ranges: dict[str, NoiseRange] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace(":", " ").replace("=", " ").replace(">", "> ").lower().split()
        if not words:
            continue
        name, told = words[0].removeprefix("<").removesuffix(">"), words[1:]
        value = told.pop(0) if told and told[0] not in ALL_WORDS else "on"
        limits = read_range(told)
        if not name or limits is None or not (value in ("on", "off") or is_number(value)):
            raise CCVDError(
                f"Line {number} of the adjustments, {shorten(line)}, should read `name 0.8`, `name off`, `name on` or "
                "`name 0.8 from 0.5 to 1`."
            )
        values[name], ranges[name] = value if value in ("on", "off") else float(value), limits
    return Adjustments(
        frozenset(name for name, value in values.items() if value == "off"),
        {name: value for name, value in values.items() if isinstance(value, float)},
        {name: limits for name, limits in ranges.items() if limits != ALL_NOISE},
    )


ALL_WORDS = ("from", "to")
"""Before the ends of a range of noise, in this order."""


def read_range(words: list[str]) -> NoiseRange | None:
    """From `from 0.5 to 1`, either end of which may be missing; None for words that mean nothing."""
    if len(words) % 2 or not all(is_number(value) for value in words[1::2]):
        return None
    ends = dict(zip(words[::2], map(float, words[1::2]), strict=True))
    if len(ends) != len(words) // 2 or not ends.keys() <= set(ALL_WORDS):
        return None
    low, high = (ends.get(word, usual) for word, usual in zip(ALL_WORDS, ALL_NOISE, strict=True))
    return low, high


def check_range(name: str, limits: NoiseRange) -> NoiseRange:
    """The range of a concept. Raises CCVDError for one in which there is no noise."""
    low, high = limits
    if not 0 <= low < high <= 1:
        raise CCVDError(
            f"The noise at which {shorten(name)} acts must go from a smaller to a larger number between 0 and 1; got "
            f"{low:g} to {high:g}."
        )
    return limits


def is_number(text: str) -> bool:
    if len(text) > LONGEST_NUMBER or not NUMBER.issuperset(text):
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_strength(name: str, strength: float) -> float:
    """The strength of a concept. Raises CCVDError for one that no model could compute with."""
    if not -4.0 <= strength <= 4.0:  # not so for NaN either
        raise CCVDError(f"The strength of {shorten(name)} must be between -4 and 4; got {strength:g}.")
    return strength
