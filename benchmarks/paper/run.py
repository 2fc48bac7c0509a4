"""The paper's own experiment, for whoever has the weights: its tasks in order, all so far judged after each.

    python benchmarks/paper/run.py --model Wan2.1-T2V-1.3B-Diffusers --data CVC --clip clip-vit-large-patch14 \\
        --dino dinov2-base --out paper_results

`--model` is any folder that `python -m ccvd_core` takes: Wan 2.1 or ModelScope in diffusers' layout, or the demo base
(`--model demo/weights --tasks benchmarks/paper/tasks_demo.json`). `--data` has a folder of pictures or clips for each
task of `--tasks`, which names them in learning order with class words, captions and prompts. CLIP and DINOv2 are
folders in transformers' format; `stand_ins.py` makes small ones to try it with. What it takes is said before the
first step. An interrupted run goes on when the command is repeated: concepts, lessons and rows are kept in `--out`.

Rows (`results.csv`): `ccvd`, the pack's defaults; `paper`, the paper's aggregation over the same concepts.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "demo", "benchmarks/learning", "benchmarks/continual", "benchmarks/paper")
sys.path[:0] = [str(ROOT / folder) for folder in FOLDERS]

from study import main  # noqa: E402

from ccvd_core.errors import CCVDError  # noqa: E402

if __name__ == "__main__":
    try:
        main(about=__doc__ or "")
    except CCVDError as error:
        sys.exit(f"ccvd: {error}")
