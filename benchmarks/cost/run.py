"""What learning and a growing library cost. Writes results.csv; `--only part` measures one part again.

`python benchmarks/cost/run.py [--only retention|files|library|loops|memory|places]`
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / folder) for folder in ("", "demo", "scripts", "benchmarks/cost")]

from accounting import memory_rows  # noqa: E402
from base import load_base  # noqa: E402
from file_cost import file_rows, library_rows  # noqa: E402
from loop_cost import loop_rows  # noqa: E402
from place_cost import place_rows  # noqa: E402
from retention_cost import penalty_rows, step_rows  # noqa: E402
from timing import Row  # noqa: E402

RESULTS = HERE / "results.csv"


def retention() -> Iterable[Row]:
    yield from step_rows(load_base())
    yield from penalty_rows()


PARTS: dict[str, tuple[tuple[str, ...], Callable[[], Iterable[Row]], str]] = {
    "retention": (("step_", "retention_"), retention, "float32"),
    "files": (("concept_file_",), file_rows, ""),
    "library": (("library_",), lambda: library_rows(load_base()), ""),
    "loops": (("loop_",), lambda: loop_rows(load_base()), "float32"),
    "memory": (("memory_", "flops_wan", "preset_"), memory_rows, ""),
    "places": (("place_", "flops_modelscope_"), lambda: place_rows(load_base()), "float32"),
}
"""How a part's rows begin, what measures them, and the number type that is timed (nothing is computed: none)."""


def earlier_rows(without: tuple[str, ...]) -> list[list[str]]:
    """Rows of the parts that are not measured again."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return [row for row in list(csv.reader(file))[1:] if not row[0].startswith(without)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(PARTS))
    only = parser.parse_args().only
    for name in [only] if only else list(PARTS):
        prefixes, measure, number_type = PARTS[name]
        rows = earlier_rows(prefixes)
        for what, baseline, value in measure():
            rows.append([what, baseline, f"{value:.4g}", number_type])
            print(f"{what:45} {baseline:35} {value:12.4g}", flush=True)
        with RESULTS.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([["what", "baseline", "ratio", "number_type"], *rows])


if __name__ == "__main__":
    main()
