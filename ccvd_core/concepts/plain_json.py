"""JSON from a file that anyone may have made, in bounded time and memory."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

MAX_PARTS = 200_000
"""Values that a text may have: thousands of adapters fit, and no text makes more than some megabytes of objects."""
MAX_DIGITS = 20
"""Of a whole number: any size of a file fits. Products of a few such numbers are quick and can be written."""
MAX_FLOAT_CHARACTERS = 400


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for what is not JSON, nested too deeply or too much of it."""
    data = np.frombuffer(text.encode("utf-8", "replace") if isinstance(text, str) else text, np.uint8)
    if sum(int(np.count_nonzero(data == mark)) for mark in b"{[,") > MAX_PARTS:
        raise ValueError(f"more than {MAX_PARTS} values")
    try:
        return json.loads(text, parse_int=whole_number, parse_float=decimal_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def decimal_number(text: str) -> float:
    if len(text) > MAX_FLOAT_CHARACTERS:
        raise ValueError(f"a number of {len(text)} characters")
    return float(text)
