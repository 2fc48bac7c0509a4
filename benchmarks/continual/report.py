"""The table and the pictures of results.csv.

python benchmarks/continual/report.py [results.csv]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "demo"), str(HERE.parents[1] / "benchmarks/learning")]
sys.path.append(str(HERE.parents[1]))

from rows import Row, all_measured, curves, final, forgetting, known_so_far, read_rows  # noqa: E402

FORGOTTEN = "identity"
"""The metric whose fall is the forgetting of the table."""
CURVES = ("own_adapter", "ccvd", "ccvd_paper", "c_lora", "lora_m", "l2dm", "lwf", "ewc", "sequential", "base")
HEAT_MAPS = ("sequential", "c_lora", "ccvd_paper", "ccvd")
COLOURS = (
    "#444444", "#d62728", "#ff9896", "#1f77b4", "#17becf", "#9467bd", "#2ca02c", "#bcbd22", "#ff7f0e", "#aaaaaa",
)  # fmt: skip


def methods_of(rows: Sequence[Row]) -> list[str]:
    """In order of their first row."""
    return list(dict.fromkeys(row.method for row in rows))


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """Names of the metrics, routing last."""
    names = dict.fromkeys(row.metric for row in rows)
    return [name for name in names if not name.startswith("routing")] + [n for n in names if n.startswith("routing")]


def table(rows: Sequence[Row]) -> str:
    """A markdown table after the last task: mean over seeds of the means over tasks, and their spread (std)."""
    metrics = metrics_of(rows)
    heads = ["method", "seeds", *metrics[:1], f"forgetting ({FORGOTTEN})", *metrics[1:]]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for method in methods_of(rows):
        own = [row for row in rows if row.method == method]
        cells = [cell(list(map(final, curves(own, metric).values()))) for metric in metrics]
        lost = cell(list(map(forgetting, curves(own, FORGOTTEN).values())))
        seeds = str(len({row.seed for row in own}))
        lines.append("| " + " | ".join([f"`{method}`", seeds, *cells[:1], lost, *cells[1:]]) + " |")
    return "\n".join(lines)


def cell(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values) + 0.0:.3f}{spread}"


def draw_pictures(rows: Sequence[Row], folder: Path) -> None:
    """curves.png and forgetting.png of the methods that the rows have."""
    have = methods_of(rows)
    draw_curves(rows, [m for m in CURVES if m in have] or have, folder / "curves.png")
    draw_heat_maps(rows, [m for m in HEAT_MAPS if m in have] or have[:4], folder / "forgetting.png")


def mean_curve(rows: Sequence[Row], method: str, metric: str) -> list[tuple[int, float]]:
    """(tasks learned, mean over seeds of the mean over the tasks so far), where all of those were measured."""
    runs = list(curves([row for row in rows if row.method == method], metric).values())
    last = max(row.after_task for row in rows)
    points = []
    for count in range(1, last + 1):
        current = [tasks for tasks in runs if all_measured(tasks, count)]
        values = [value for tasks in current if (value := known_so_far(tasks, count)) is not None]
        if values:
            points.append((count, float(np.mean(values))))
    return points


def draw_curves(
    rows: Sequence[Row],
    methods: Sequence[str],
    path: Path,
    metric: str = FORGOTTEN,
    title: str = "Identity of all tasks learned so far",
) -> None:
    """A metric of the tasks so far, as tasks are added: one line per method."""
    width, height, left, top, bottom, right = 900, 520, 60, 40, 50, 170
    image = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    last = max(row.after_task for row in rows)

    def place(count: float, value: float) -> tuple[float, float]:
        across = (count - 1) / max(1, last - 1)
        return left + across * (width - left - right), height - bottom - value * (height - top - bottom)

    pen.text((left, 10), title, "black", font)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        pen.line([place(1, value), place(last, value)], "#dddddd")
        pen.text((place(1, value)[0] - 45, place(1, value)[1] - 8), f"{value:.2f}", "black", font)
    for count in range(1, last + 1):
        pen.text((place(count, 0)[0] - 4, height - bottom + 8), str(count), "black", font)
    pen.text((width // 2 - 90, height - 24), "tasks learned", "black", font)
    for index, method in enumerate(methods):
        colour = COLOURS[index % len(COLOURS)]
        line = [place(*point) for point in mean_curve(rows, method, metric)]
        if len(line) > 1:
            pen.line(line, colour, 9 if method == CURVES[0] else 3)  # the ceiling shows from under what reaches it
        for x, y in line:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
        pen.rectangle((width - right + 16, top + 22 * index + 4, width - right + 28, top + 22 * index + 16), colour)
        pen.text((width - right + 34, top + 22 * index), method, "black", font)
    image.save(path)


def draw_heat_maps(rows: Sequence[Row], methods: Sequence[str], path: Path) -> None:
    """Identity of every task (rows) after every task (columns), mean over seeds: white 0, dark blue 1."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    last, side, margin, top = max(row.after_task for row in rows), 30, 70, 50
    panel = margin + side * last + 20
    image = Image.new("RGB", (panel * len(methods), top + side * len(tasks) + 20), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    for index, method in enumerate(methods):
        left = panel * index + margin
        pen.text((left, 8), f"{method}: identity", "black", font)
        for count in range(1, last + 1):
            pen.text((left + side * (count - 1) + 10, 28), str(count), "black", font)
        for line, task in enumerate(tasks):
            pen.text((left - margin + 8, top + side * line + 8), task, "black", font)
            for count in range(1, last + 1):
                values = [
                    row.value
                    for row in rows
                    if (row.method, row.task, row.after_task, row.metric) == (method, task, count, FORGOTTEN)
                ]
                if values:
                    value = float(np.mean(values))
                    x, y = left + side * (count - 1), top + side * line
                    shade = tuple(round(255 + value * (dark - 255)) for dark in (20, 60, 140))
                    pen.rectangle((x, y, x + side - 2, y + side - 2), shade, "#cccccc")
                    pen.text((x + 4, y + 8), f"{value:.2f}", "white" if value > 0.5 else "black", font)
    image.save(path)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results.csv"
    rows = read_rows(path)
    if not rows:
        raise SystemExit(f"{path} has no rows yet: run benchmarks/continual/run.py first.")
    print(table(rows))
    draw_pictures(rows, path.parent)


if __name__ == "__main__":
    main()
