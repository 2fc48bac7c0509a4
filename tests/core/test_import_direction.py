"""nodes -> ccvd_core -> torch, and nothing the other way (DESIGN 3). Read from the syntax tree, without importing."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CORE = sorted((REPOSITORY / "ccvd_core").rglob("*.py"))
NODES = sorted((REPOSITORY / "nodes").rglob("*.py"))

NOT_FOR_CORE = re.compile(r"comfy\w*|nodes|folder_paths|server|execution|latent_preview|node_helpers|demo")
NOT_FOR_THE_PACK = re.compile(r"scripts|benchmarks|tests")


def short(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def imported(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, also inside functions; relative ones from the repository's root."""
    folder = path.relative_to(REPOSITORY).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = folder[: len(folder) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            # `from .. import nodes` imports a module that only the alias names.
            yield from ((node.lineno, module or alias.name) for alias in node.names)


def offences(path: Path, forbidden: re.Pattern[str]) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        f"{short(path)}:{line} imports {name}"
        for line, name in imported(tree, path)
        if forbidden.fullmatch(name.split(".")[0])
    ]


def test_there_is_something_to_check() -> None:
    assert CORE
    assert NODES


@pytest.mark.parametrize("path", CORE, ids=short)
def test_core_knows_neither_comfyui_nor_the_nodes(path: Path) -> None:
    assert offences(path, NOT_FOR_CORE) == []


@pytest.mark.parametrize("path", [*CORE, *NODES], ids=short)
def test_the_pack_does_not_need_its_workshop(path: Path) -> None:
    assert offences(path, NOT_FOR_THE_PACK) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import comfy.utils", ["comfy.utils"]),
        ("from comfy_api.latest import io", ["comfy_api.latest"]),
        ("from .. import nodes", ["nodes"]),
        ("from ..nodes import io", ["nodes"]),
        ("from .base import Backbone", ["ccvd_core.base"]),
        ("def f():\n    import nodes", ["nodes"]),
    ],
)
def test_imports_are_found(code: str, expected: list[str]) -> None:
    names = [name for _, name in imported(ast.parse(code), REPOSITORY / "ccvd_core" / "concept.py")]
    assert names == expected


def test_scripts_that_share_a_search_path_have_names_of_their_own() -> None:
    """Or the first found hides the others. Only `run.py` is always started, never imported."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    folders = [REPOSITORY / folder for folder in settings["tool"]["pytest"]["ini_options"]["pythonpath"]]
    names = Counter(path.stem for folder in folders for path in folder.glob("*.py"))
    assert [name for name, count in names.items() if count > 1 and name != "run"] == []
