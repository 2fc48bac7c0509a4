"""CONTRIBUTING.md: its map is the tree, in the order in which the core may import, and what it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAPPED = ("ccvd_core", "nodes")


def drawn_tree(text: str) -> dict[str, str]:
    """Path -> what its line says, from lines like `  base.py   the interface` below `backbones/`."""
    found, folders = {}, []
    for line in text.splitlines():
        indent, name, said = re.fullmatch(r"( *)(\S+)(?: +(.*))?", line).groups()  # type: ignore[union-attr]
        depth = len(indent) // 2
        del folders[depth:]
        found["".join([*folders, name])] = said or ""
        if name.endswith("/"):
            folders.append(name)
    return found


def map_of_page() -> dict[str, str]:
    (block,) = re.findall(r"## Map\n.*?```\n(.*?)```", PAGE, re.DOTALL)
    return drawn_tree(block)


def tree() -> set[str]:
    """Every module, and every folder with modules, without what only marks a package."""
    files = [path for folder in MAPPED for path in (ROOT / folder).rglob("*.py") if path.stem != "__init__"]
    folders = {parent for path in files for parent in path.relative_to(ROOT).parents if parent != Path()}
    return {path.relative_to(ROOT).as_posix() for path in files} | {f"{folder.as_posix()}/" for folder in folders}


def test_the_map_is_the_tree() -> None:
    drawn = map_of_page()
    assert sorted(tree() - drawn.keys()) == [], "files without a line in CONTRIBUTING.md's map"
    assert sorted(drawn.keys() - tree()) == [], "lines of CONTRIBUTING.md's map without a file"


def test_the_core_imports_only_what_stands_above_it_in_the_map() -> None:
    order = [path.split("/")[1].removesuffix(".py") for path in map_of_page() if path.startswith("ccvd_core/")]
    place = {chapter: number for number, chapter in reversed(list(enumerate(filter(None, order))))}
    against = []
    for path in sorted((ROOT / "ccvd_core").rglob("*.py")):
        own = path.relative_to(ROOT / "ccvd_core").parts[0].removesuffix(".py")
        for line in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            # `from ..errors import x` in a chapter, `from .errors import x` beside the chapters.
            if isinstance(line, ast.ImportFrom) and line.level == len(path.relative_to(ROOT).parts) - 1 and line.module:
                chapter = line.module.split(".")[0]
                if own != "__init__" and place[chapter] > place[own]:
                    against.append(f"{path.relative_to(ROOT).as_posix()} imports {line.module}")
    assert against == []


def test_every_line_of_the_map_says_something_in_one_line() -> None:
    block = map_of_page()
    assert [path for path, said in block.items() if len(said) < 8] == []
    assert max(map(len, PAGE.splitlines())) <= 140


def test_a_tree_is_read_by_its_indentation() -> None:
    text = "a/      first\n  b.py  second\n  c/    third\n    d.py\ne.py  last"
    assert drawn_tree(text) == {"a/": "first", "a/b.py": "second", "a/c/": "third", "a/c/d.py": "", "e.py": "last"}


def test_every_path_that_the_page_names_exists() -> None:
    named = re.findall(
        r"`((?:ccvd_core|nodes|tests|benchmarks|js|locales|scripts|demo|example_workflows)/[^`<> ]*)`", PAGE
    )
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []
