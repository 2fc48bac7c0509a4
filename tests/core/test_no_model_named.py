"""No model has a name outside `ccvd_core/backbones` and three files of `nodes/host`: read as text, comments too."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = REPOSITORY / "nodes" / "host"
NAMED_HERE = (
    REPOSITORY / "ccvd_core" / "backbones",
    HOST / "backbone.py",  # the table of families
    HOST / "text_to_video.py",  # builds the model of one family, with ComfyUI's functions that say `unet`
    HOST / "search_words.py",  # what artists type
)
CORE, NODES = (
    [path for path in sorted((REPOSITORY / folder).rglob("*.py")) if not any(map(path.is_relative_to, NAMED_HERE))]
    for folder in ("ccvd_core", "nodes")
)

WAN = re.compile(r"(?<![A-Za-z])wan(?![a-z])|Wan(?![a-z])|(?<![A-Z])WAN(?![A-Z])")
"""Not in `wanted` or `swan`."""
OTHERS = re.compile(r"u-?net|model-?scope|dream-?video|umt5|sentence-?piece", re.IGNORECASE)
SIGNS = re.compile(r"▁|</[sw]>|\b4 ?\*? ?k ?\+ ?1\b|% 4 ?[!=]= ?1\b")
"""How one encoder marks its words, and how many frames one model's clips have."""
OF_ANY_MODEL = re.compile(r'lora_unet_|"unet\."')
"""What LoRA files begin the names of layers with, whatever the model: kohya's and diffusers'."""


def short(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def named(text: str) -> list[str]:
    """What names a model in a text, line by line."""
    return [
        f"{number}: {line.strip()}"
        for number, line in enumerate(OF_ANY_MODEL.sub("", text).splitlines(), 1)
        if any(pattern.search(line) for pattern in (WAN, OTHERS, SIGNS))
    ]


def without_schema_texts(code: str) -> str:
    """The code with the strings inside `define_schema`, which artists read, blanked out."""
    lines = [bytearray(line.encode()) for line in code.splitlines()]
    for function in ast.walk(ast.parse(code)):
        if not (isinstance(function, ast.FunctionDef) and function.name == "define_schema"):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.end_lineno is not None and node.end_col_offset is not None
                for number in range(node.lineno, node.end_lineno + 1):
                    line = lines[number - 1]
                    start = node.col_offset if number == node.lineno else 0
                    end = node.end_col_offset if number == node.end_lineno else len(line)
                    line[start:end] = b" " * (end - start)
    return "\n".join(line.decode() for line in lines)


def test_there_is_something_to_read() -> None:
    assert len(CORE) > 30 and len(NODES) > 20
    assert all(place.exists() for place in NAMED_HERE)


@pytest.mark.parametrize("path", CORE, ids=short)
def test_the_core_names_no_model(path: Path) -> None:
    assert named(f"{path.stem}\n{path.read_text('utf-8')}") == []


@pytest.mark.parametrize("path", NODES, ids=short)
def test_nodes_name_models_in_their_texts_only(path: Path) -> None:
    assert named(f"{path.stem}\n{without_schema_texts(path.read_text('utf-8'))}") == []


@pytest.mark.parametrize(
    "text",
    ["# as Wan has it", "comfy_wan", "import wan", "ComfyWanBackbone", "WAN21_HuMo", "Wan2.2", "wan_sites", "a UNet's",
     "unet3d", "ModelScope", "UMT5", "clip_umt5xxl", "SentencePiece", 'x.replace("▁", " ")', '"</s>"', "dog</w>",
     "(4k + 1)", "4 k + 1 frames", "4*k+1", "frames % 4 == 1", "lora_unet"],
)  # fmt: skip
def test_names_are_found(text: str) -> None:
    assert len(named(text)) == 1


@pytest.mark.parametrize(
    "text",
    ["wanted", "Wanted by none", "you want it", "swan", "taiwan", "t5x", "8k + 1", "</p>", "lora_unet_x", "x % 4"],
)
def test_other_words_are_not_taken_for_names(text: str) -> None:
    assert named(text) == []


def test_only_strings_of_the_schema_are_left_out() -> None:
    code = """def define_schema(cls):
    # for Wan
    return Schema("é Wan", tooltip="a "
                  "Wan model", wan=1)
def execute():
    raise Error("no Wan")
"""
    assert [line.split(":")[0] for line in named(without_schema_texts(code))] == ["2", "4", "6"]
