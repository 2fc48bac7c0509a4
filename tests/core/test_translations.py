"""Translations and help pages name exactly what the nodes have. Reads the node files without importing ComfyUI."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LANGUAGES = ("en", "zh")
TROUBLESHOOTING = {"en": "## If something goes wrong", "zh": "## 出错时"}


@dataclass(frozen=True)
class Node:
    """What a `define_schema` says, in the form of ComfyUI's nodeDefs.json."""

    id: str
    display_name: str
    description: str
    tooltips: dict[str, str | None]
    """By input id, in the schema's order."""
    outputs: int


def option(call: ast.Call, name: str) -> Any:
    """A keyword's literal value; None if it is not given."""
    found = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return ast.literal_eval(found[0]) if found else None


def elements(call: ast.Call, name: str) -> list[ast.Call]:
    """A keyword's list of calls, such as `inputs=[io.Int.Input(...), ...]`."""
    found = [keyword.value for keyword in call.keywords if keyword.arg == name]
    if not found:
        return []
    return listed(found[0], f"line {call.lineno}: {name}")


def listed(value: ast.expr, where: str) -> list[ast.Call]:
    """The calls of a list; `*shared()` stands for the list that this function of the nodes returns."""
    assert isinstance(value, ast.List), f"{where} must be written as a list"
    calls = []
    for element in value.elts:
        if isinstance(element, ast.Starred) and isinstance(element.value, ast.Call):
            calls += shared_list(ast.unparse(element.value.func))
        else:
            assert isinstance(element, ast.Call), f"{where}: every one must be written as a call"
            calls.append(element)
    return calls


def shared_list(function: str) -> list[ast.Call]:
    (found,) = [
        statement
        for path in (ROOT / "nodes").rglob("*.py")
        for statement in parse(path).body
        if isinstance(statement, ast.FunctionDef) and statement.name == function
    ]
    last = found.body[-1]
    assert isinstance(last, ast.Return) and last.value is not None, f"{function} must end by returning its list"
    return listed(last.value, function)


def input_id(call: ast.Call) -> str:
    return ast.literal_eval(call.args[0]) if call.args else option(call, "id")


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def schemas(path: Path) -> Iterator[Node]:
    for call in ast.walk(parse(path)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "Schema":
            yield Node(
                option(call, "node_id"),
                option(call, "display_name"),
                option(call, "description"),
                {input_id(entry): option(entry, "tooltip") for entry in elements(call, "inputs")},
                len(elements(call, "outputs")),
            )


NODES = {node.id: node for path in sorted((ROOT / "nodes").rglob("*.py")) for node in schemas(path)}


@cache
def definitions(language: str) -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for inner in value.values():
            yield from texts(inner)


def help_page(node: str, language: str) -> str:
    folder = ROOT / "js" / "docs"
    path = folder / f"{node}.md" if language == "en" else folder / node / f"{language}.md"
    return path.read_text(encoding="utf-8")


@cache
def messages() -> str:
    """Every text in the code, with `…` where an f-string has a value."""
    found = []
    for path in (*(ROOT / "nodes").rglob("*.py"), *(ROOT / "ccvd_core").rglob("*.py")):
        for part in ast.walk(parse(path)):
            if isinstance(part, ast.JoinedStr):
                found.append("".join(v.value if isinstance(v, ast.Constant) else "…" for v in part.values))
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.append(part.value)
    return "\n".join(found)


def test_every_node_file_was_read() -> None:
    assert {"CCVD_DemoModel", "CCVD_LearnConcept", "CCVD_ConceptLibrary", "CCVD_AggregateAdapters"} <= set(NODES)
    assert all(node.tooltips for node in NODES.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_have_exactly_the_nodes(language: str) -> None:
    assert set(definitions(language)) == set(NODES)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_translations_have_exactly_the_inputs_and_outputs(node: str, language: str) -> None:
    entry = definitions(language)[node]
    assert set(entry) == {"display_name", "description", "inputs", "outputs"}
    assert list(entry["inputs"]) == list(NODES[node].tooltips)
    assert list(entry["outputs"]) == [str(index) for index in range(NODES[node].outputs)]
    assert all(set(input_) == {"name", "tooltip"} for input_ in entry["inputs"].values())
    assert all(text.strip() for text in texts(entry))


@pytest.mark.parametrize("node", NODES)
def test_english_says_what_the_schema_says(node: str) -> None:
    """ComfyUI shows nodeDefs.json instead of the schema: a changed tooltip must be changed in both."""
    entry, schema = definitions("en")[node], NODES[node]
    assert (entry["display_name"], entry["description"]) == (schema.display_name, schema.description)
    assert {name: input_["tooltip"] for name, input_ in entry["inputs"].items()} == schema.tooltips


@pytest.mark.parametrize("node", NODES)
def test_chinese_is_chinese(node: str) -> None:
    entry = definitions("zh")[node]
    explained = [entry["display_name"], entry["description"], *(i["tooltip"] for i in entry["inputs"].values())]
    assert all(re.search(r"[\u4e00-\u9fff]", text) for text in explained)


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_have_no_message_syntax(language: str) -> None:
    """ComfyUI's translator takes `{}`, `@` and `|` as placeholders, links and plurals."""
    assert not [text for text in texts(definitions(language)) if re.search(r"[{}@|]", text)]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_help_names_every_input_and_output(node: str, language: str) -> None:
    page, entry = help_page(node, language), definitions(language)[node]
    assert page.startswith(f"# {entry['display_name']}\n")
    assert not [name for name in NODES[node].tooltips if f"`{name}`" not in page]
    names = [value["name"] for group in ("inputs", "outputs") for value in entry[group].values()]
    assert not [name for name in names if name not in page]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_help_shows_concept_names(node: str, language: str) -> None:
    """Outside code, `<rex>` would be taken for an HTML tag and vanish."""
    assert not re.findall(r"<[^>\s]+>", re.sub(r"`[^`\n]*`", "", help_page(node, language)))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_help_has_no_wide_tables(node: str, language: str) -> None:
    """The page's info panel is narrow: it cuts off the third column."""
    rows = [line for line in help_page(node, language).splitlines() if line.startswith("|")]
    assert not [row for row in rows if len(row.strip("|").split("|")) > 2]


@pytest.mark.parametrize("path", sorted((ROOT / "example_workflows").glob("*.json")), ids=lambda path: path.stem)
def test_notes_in_workflows_have_no_inline_code(path: Path) -> None:
    """Nodes 2.0 shows it dark on dark."""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    notes = [node["widgets_values"][0] for node in nodes if node["type"] in ("Note", "MarkdownNote")]
    assert notes and not [note for note in notes if "`" in note]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_help_quotes_real_messages(node: str, language: str) -> None:
    """Each item of the troubleshooting list begins with words of a message in the code, `…` for what varies."""
    _, heading, section = help_page(node, language).partition(TROUBLESHOOTING[language])
    assert heading
    quotes = re.findall(r"^- `([^`]+)`", section.split("\n## ")[0], re.MULTILINE)
    assert quotes
    assert not [quote for quote in quotes if quote not in messages()]
