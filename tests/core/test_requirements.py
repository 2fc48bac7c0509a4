"""What the pack asks of a Python: requirements.txt for ComfyUI Manager, pyproject.toml for the registry."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FRONTEND = "comfyui-frontend-package"


def required() -> list[str]:
    lines = (REPOSITORY / "requirements.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def declared() -> list[str]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]


def test_both_lists_agree_but_for_the_frontend_that_comfyui_brings():
    assert [line for line in declared() if not line.startswith(FRONTEND)] == required()
    # ComfyUI's tools read a range of three numbers.
    assert [line for line in declared() if re.fullmatch(rf"{FRONTEND}>=\d+\.\d+\.\d+", line)]


def test_nobody_s_versions_are_moved():
    """No torch of any kind, and lower bounds only."""
    for line in required():
        assert re.fullmatch(r"[A-Za-z-]+>=[\d.]+", line), line
        assert not line.startswith("torch"), line
