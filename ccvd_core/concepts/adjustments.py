"""Which concepts of a library are on and how strongly, from lines that an artist writes."""

from __future__ import annotations

from ..errors import CCVDError, shorten

NUMBER = frozenset("+-.0123456789")
LONGEST_NUMBER = 20


def parse_adjustments(text: str) -> tuple[frozenset[str], dict[str, float]]:
    """(concepts that are off, strengths) from lines like `rex 0.8`, `<kit>: off` and `fox = on`; later lines win.

    Raises CCVDError for a line that means nothing, with its number.
    """
    values: dict[str, str | float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace(":", " ").replace("=", " ").replace(">", "> ").split()
        if not words:
            continue
        name, value = words[0].removeprefix("<").removesuffix(">").lower(), "".join(words[1:2]).lower() or "on"
        if not name or len(words) > 2 or not (value in ("on", "off") or is_number(value)):
            raise CCVDError(
                f"Line {number} of the adjustments, {shorten(line)}, should read `name 0.8`, `name off` or `name on`."
            )
        values[name] = value if value in ("on", "off") else check_strength(name, float(value))
    off = frozenset(name for name, value in values.items() if value == "off")
    return off, {name: value for name, value in values.items() if isinstance(value, float)}


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
