"""nodes/*.py -> nodes/host/*.py -> ccvd_core, and nothing the other way. Read from the syntax trees alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODES = sorted((ROOT / "nodes").glob("*.py"))
HOST = sorted((ROOT / "nodes" / "host").rglob("*.py"))
MOST_LINES = 260
"""About 250."""


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """The pack's own modules that a file imports, dotted from the repository's root; also inside functions."""
    folder = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = folder[: len(folder) - node.level + 1]
            module = ".".join([*start, *([node.module] if node.module else [])])
            # `from .host import pictures` imports a module that only the alias names.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_node(path: Path) -> bool:
    """Whether a file defines a node: a class with a schema."""
    return any(
        isinstance(node, ast.FunctionDef) and node.name == "define_schema"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def test_there_is_something_to_check() -> None:
    assert len(NODES) > 1 and len(HOST) > 1
    assert "nodes.host.libraries.LibraryType" in set(imported(ROOT / "nodes" / "learn_concept.py"))


@pytest.mark.parametrize("path", HOST, ids=short)
def test_what_nodes_share_knows_no_node(path: Path) -> None:
    allowed = ("nodes.host.", "ccvd_core.")
    assert [name for name in imported(path) if not name.startswith(allowed)] == []


@pytest.mark.parametrize("path", [path for path in NODES if path.stem != "__init__"], ids=short)
def test_a_node_knows_no_other_node(path: Path) -> None:
    allowed = ("nodes.host.", "ccvd_core.")
    assert [name for name in imported(path) if not name.startswith(allowed)] == []


@pytest.mark.parametrize("path", [path for path in NODES if path.stem != "__init__"], ids=short)
def test_one_file_per_node_and_nothing_else_in_it(path: Path) -> None:
    """Plumbing lies in nodes/host: a node's file has its class, and what it says about its own inputs."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1 and is_node(path)
    assert [node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)] == []


@pytest.mark.parametrize("path", [path for path in NODES if path.stem != "__init__"], ids=short)
def test_a_node_parses_calls_and_wraps(path: Path) -> None:
    """`execute` is a few statements, and none of them a loop."""
    (execute,) = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "execute"
    ]
    assert not [node for node in ast.walk(execute) if isinstance(node, ast.For | ast.While | ast.Try)]
    assert len(execute.body) <= 8, "what is more than parse, call and wrap belongs to nodes/host"


@pytest.mark.parametrize("path", HOST, ids=short)
def test_no_node_lies_in_host(path: Path) -> None:
    assert not is_node(path)


@pytest.mark.parametrize("path", [*NODES, *HOST, *sorted((ROOT / "ccvd_core").rglob("*.py"))], ids=short)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{lines} lines: split it by concept"
