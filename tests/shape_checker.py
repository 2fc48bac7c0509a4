"""Checks the shapes and types in signatures, but leaves values that the code itself validates to the code."""

from __future__ import annotations

from typing import Literal

from beartype import BeartypeConf, FrozenDict, beartype

check = beartype(
    conf=BeartypeConf(
        hint_overrides=FrozenDict(
            {
                float: float | int,
                Literal["named", "all"]: str,
                Literal["subspace", "trace"]: str,
                Literal["subject", "motion", "style"]: str,
            }
        )
    )
)
