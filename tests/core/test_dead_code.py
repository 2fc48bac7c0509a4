"""Nothing is defined that only tests use. Read from the syntax trees, without importing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ccvd_core", "nodes", "scripts", "demo", "benchmarks")

CALLED_FROM_OUTSIDE = {
    # ComfyUI
    "CCVDExtension",
    "define_schema",
    "execute",
    "fingerprint_inputs",
    "get_node_list",
    "on_load",
    "unet_config",
    "unet_extra_config",
    "validate_inputs",
    # Python's own protocols
    "find_spec",
    "repr_int",
}
"""Names that Python and ComfyUI look up."""
KINDS_OF_MODEL = {"ClipText", "DiffusersUNet3DBackbone", "VelocityPath", "bpe_pieces", "step_at"}
"""What `backbones/` offers to whoever loads a model headlessly, whether or not something here does."""


def names(tree: ast.AST) -> Iterator[str]:
    """Names that are read, outside the definitions of the same name: recursion keeps nothing alive."""

    def walk(node: ast.AST, inside: frozenset[str]) -> Iterator[str]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside |= {node.name}
        match node:
            case ast.Name(id=text, ctx=ast.Load()) | ast.Attribute(attr=text, ctx=ast.Load()):
                found = text
            case ast.Constant(value=str(text)) if text.isidentifier():
                found = text
            case _:
                found = None
        if found is not None and found not in inside:
            yield found
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(tree, frozenset())


def definitions(tree: ast.Module) -> Iterator[str]:
    """Functions, classes, methods and fields, and the constants of the module."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=text) | ast.AsyncFunctionDef(name=text) | ast.ClassDef(name=text):
                yield text
            case ast.AnnAssign(target=ast.Name(id=text)):
                yield text
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def unused(trees: dict[str, ast.Module]) -> list[str]:
    read = {name for tree in trees.values() for name in names(tree)}
    return [
        f"{path}: {name}"
        for path, tree in trees.items()
        for name in sorted(set(definitions(tree)))
        if name not in read and not name.startswith("__")
    ]


def test_everything_defined_is_used_by_something_other_than_tests() -> None:
    trees = {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    kept = CALLED_FROM_OUTSIDE | KINDS_OF_MODEL
    assert [found for found in unused(trees) if found.split(": ")[1] not in kept] == []


def test_what_is_unused_is_found() -> None:
    code = """
LIMIT = 3
SPARE = 4
def used(): return LIMIT
def again(): return again()
class Thing:
    field: int
    spare: int
print(used(), Thing(1, 2).field)
"""
    assert unused({"a.py": ast.parse(code)}) == ["a.py: SPARE", "a.py: again", "a.py: spare"]
