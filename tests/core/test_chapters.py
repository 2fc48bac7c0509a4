"""The core reads like a book: every folder a chapter, and imports go back to earlier ones only (DESIGN 3)."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CORE = REPOSITORY / "ccvd_core"
FILES = [path for folder in ("ccvd_core", "nodes") for path in sorted((REPOSITORY / folder).rglob("*.py"))]

CHAPTERS: tuple[frozenset[str], ...] = (
    frozenset({"concepts"}),
    frozenset({"backbones"}),
    frozenset({"prompts"}),
    frozenset({"regions"}),
    frozenset({"attaching"}),
    frozenset({"sampling"}),
    frozenset({"learning"}),
    frozenset({"headless"}),
    frozenset({"__main__"}),
)
"""In their order. Other files beside the folders come before them all."""
MOST_LINES = 250

Arrow = tuple[str, str]
"""(file, file that it imports), dotted from the core: `regions.masks`."""


def modules(folder: Path) -> dict[str, Path]:
    """The files below a folder by dotted name; a package by its folder's."""
    named = {path.relative_to(folder).with_suffix("").parts: path for path in sorted(folder.rglob("*.py"))}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for parts, path in named.items()}


def arrows(sources: Mapping[str, str], packages: Iterable[str] = ()) -> set[Arrow]:
    """Every import of one of the files by another, also inside functions; `sources` are texts by dotted name."""
    packages, found = set(packages), set()
    for name, text in sources.items():
        parts = name.split(".") if name else []
        inside = parts if name in packages else parts[:-1]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level:
                start = inside[: len(inside) - node.level + 1]
                module = ".".join([*start, *([node.module] if node.module else [])])
                for alias in node.names:
                    # `from .regions import masks` imports a file that only the alias names.
                    deeper = f"{module}.{alias.name}" if module else alias.name
                    target = deeper if deeper in sources else module
                    if target in sources and target != name:
                        found.add((name, target))
    return found


def chapter(name: str) -> str:
    return name.split(".")[0]


def level(name: str) -> int:
    return next((number for number, names in enumerate(CHAPTERS, 1) if chapter(name) in names), 0)


def runs_up(arrow: Arrow) -> bool:
    """Whether an import leads to a later chapter, or to one beside its own."""
    here, there = (level(name) for name in arrow)
    return there > here or (there == here > 0 and chapter(arrow[0]) != chapter(arrow[1]))


def circle(found: Iterable[Arrow]) -> list[str]:
    """Files that import each other in a circle, if any do."""
    graph: dict[str, set[str]] = {}
    for source, target in found:
        graph.setdefault(source, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def counted(found: Iterable[Arrow], files: int) -> str:
    """How many arrows there are, and between which chapters."""
    found = list(found)
    between = Counter((chapter(a), chapter(b)) for a, b in found if level(a) and level(b) and chapter(a) != chapter(b))
    lines = [f"  {a} -> {b}: {count}" for (a, b), count in sorted(between.items())]
    return "\n".join([f"{len(found)} arrows between {files} files, {len(between)} between chapters:", *lines])


PATHS = modules(CORE)
PACKAGES = [name for name, path in PATHS.items() if path.name == "__init__.py"]
ARROWS = arrows({name: path.read_text("utf-8") for name, path in PATHS.items()}, PACKAGES)


def test_every_chapter_is_there_and_has_its_place() -> None:
    folders = {path.name for path in CORE.iterdir() if (path / "__init__.py").exists()}
    assert folders | {"sampling", "__main__"} == set().union(*CHAPTERS)
    assert ("sampling", "regions.modes") in ARROWS and ("regions.masks", "backbones.grid") in ARROWS


def test_imports_go_back_to_earlier_chapters_only() -> None:
    up = sorted(f"{source} imports {target}" for source, target in filter(runs_up, ARROWS))
    assert not up, "\n".join([*up, counted(ARROWS, len(PATHS))])


def test_no_files_import_each_other_in_a_circle() -> None:
    found = circle(ARROWS)
    assert not found, "\n".join([" -> ".join(found), counted(ARROWS, len(PATHS))])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_a_file_is_short_enough_to_be_read_at_once(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MOST_LINES, f"{lines} lines: split it by concept, into files of at most {MOST_LINES}"


def test_imports_in_the_wrong_direction_are_found() -> None:
    sources = {
        "errors": "from .prompts.mentions import name",
        "prompts.mentions": "def f():\n    from .. import sampling",
        "attaching.call": "from ..sampling import sample\nfrom ..regions import masks",
        "sampling": "from .errors import CCVDError",
        "regions": "from . import masks",
        "regions.masks": "from ..errors import CCVDError",
    }
    found = arrows(sources, ["regions"])
    assert found == {
        ("errors", "prompts.mentions"),
        ("prompts.mentions", "sampling"),
        ("attaching.call", "sampling"),
        ("attaching.call", "regions.masks"),
        ("sampling", "errors"),
        ("regions", "regions.masks"),
        ("regions.masks", "errors"),
    }
    assert set(filter(runs_up, found)) == {
        ("errors", "prompts.mentions"),
        ("prompts.mentions", "sampling"),
        ("attaching.call", "sampling"),
    }
    assert set(circle(found)) == {"errors", "prompts.mentions", "sampling"}
    assert counted(found, 6).startswith("7 arrows between 6 files, 3 between chapters:\n  attaching -> regions: 1")
