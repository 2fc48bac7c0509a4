"""results.csv: rows `method,seed,task,after_task,metric,value,number_type`, and what is computed from them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ccvd_core import number_types


@dataclass(frozen=True)
class Row:
    """One value of one task, measured when `after_task` tasks (1, 2, ...) had been learned."""

    method: str
    seed: int
    task: str
    after_task: int
    metric: str
    value: float
    number_type: str = field(default_factory=number_types.number_type)
    """What learned and drew it computed in."""


def read_rows(path: Path) -> list[Row]:
    """All rows of a file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Row(method, int(seed), task, int(after_task), metric, float(value), number_type)
            for method, seed, task, after_task, metric, value, number_type in list(csv.reader(file))[1:]
        ]


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write a file in one piece: an interruption leaves the old one."""
    draft = path.with_suffix(".part")
    with draft.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in fields(Row)])
        writer.writerows(astuple(replace(row, value=f"{row.value:.4f}")) for row in rows)
    draft.replace(path)


def store(new: Sequence[Row], path: Path) -> None:
    """Put the rows of finished (method, seed) pairs in the place of those that the file has of them."""
    pairs = {(row.method, row.seed) for row in new}
    kept = [row for row in read_rows(path) if (row.method, row.seed) not in pairs]
    write_rows([*kept, *new], path)


def finished(rows: Iterable[Row]) -> set[tuple[str, int]]:
    """The (method, seed) pairs in a file: they are stored only when they are complete."""
    return {(row.method, row.seed) for row in rows}


def check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings of a results file beside it; ValueError if it was begun with others."""
    beside = path.with_suffix(".settings.json")
    if beside.exists() and path.exists():
        begun = json.loads(beside.read_text())
        if begun != dict(settings):
            raise ValueError(
                f"{path.name} was measured with {begun}, this run asks for {dict(settings)}: give those settings, "
                "another --out, or delete the file."
            )
    beside.write_text(json.dumps(dict(settings), indent=2) + "\n")


Curve = dict[int, float]
"""Tasks learned -> value of one task."""


def curves(rows: Iterable[Row], metric: str) -> dict[tuple[str, int], dict[str, Curve]]:
    """(method, seed) -> task -> its values of a metric over time."""
    found: dict[tuple[str, int], dict[str, Curve]] = {}
    for row in rows:
        if row.metric == metric:
            found.setdefault((row.method, row.seed), {}).setdefault(row.task, {})[row.after_task] = row.value
    return found


def final(tasks: Mapping[str, Curve]) -> float:
    """Mean over tasks of the last value."""
    return sum(curve[max(curve)] for curve in tasks.values()) / len(tasks)


def forgetting(tasks: Mapping[str, Curve]) -> float:
    """Mean over tasks of the value right after learning minus the last one.

    The last task learned counts too, as 0; so does a task of a method that is measured once because nothing can change.
    """
    return sum(curve[min(curve)] - curve[max(curve)] for curve in tasks.values()) / len(tasks)


def all_measured(tasks: Mapping[str, Curve], after_task: int) -> bool:
    """Whether no task learned by then has an older value than that; those measured once never change."""
    return all(after_task in curve or len(curve) == 1 for curve in tasks.values() if min(curve) <= after_task)


def known_so_far(tasks: Mapping[str, Curve], after_task: int) -> float | None:
    """Mean of the tasks learned by then, each at its latest measurement; None before any."""
    latest = [curve[max(k for k in curve if k <= after_task)] for curve in tasks.values() if min(curve) <= after_task]
    return sum(latest) / len(latest) if latest else None
