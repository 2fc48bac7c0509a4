"""The converter from saved workflows to prompts, on small handmade workflows."""

from __future__ import annotations

from typing import Any

import pytest
from workflow import WorkflowError, set_widgets, to_prompt, widget_values

INFO: dict[str, dict[str, Any]] = {
    "Loader": {"input": {"required": {"image": [["a.png", "b.png"], {"image_upload": True}]}}},
    "Sampler": {
        "input": {
            "required": {
                "model": ["MODEL", {}],
                "seed": ["INT", {"default": 0, "control_after_generate": True}],
                "cfg": ["FLOAT", {"default": 8.0}],
                "name": ["COMBO", {"options": ["euler", "heun"]}],
                "latent": ["LATENT", {}],
            },
            "optional": {"note": ["STRING", {"default": "nothing"}], "strength": ["FLOAT", {"forceInput": True}]},
        }
    },
    "Saver": {
        "input": {
            "required": {
                "images": ["IMAGE", {}],
                "codec": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "auto", "inputs": {}},
                            {"key": "h264", "inputs": {"required": {"crf": ["FLOAT", {"default": 23.0}]}}},
                        ]
                    },
                ],
                "prefix": ["STRING", {}],
            }
        }
    },
    "Video": {"input": {"required": {"images": ["IMAGE", {}], "filename_prefix": ["STRING", {}]}}},
    "Boxes": {"input": {"required": {"boxes": ["BOXES", {"widgetType": "BOX_EDITOR"}]}}},
    "Filter": {"input": {"required": {"images": ["IMAGE", {}], "amount": ["FLOAT", {}]}}},
}


def node(number: int, type_: str, values: Any = (), links: dict[str, int | None] | None = None, **more: Any) -> Any:
    inputs = [{"name": name, "type": "IMAGE", "link": link} for name, link in (links or {}).items()]
    outputs = [{"name": "out", "type": "IMAGE"}]
    values = list(values) if isinstance(values, tuple) else values
    return {"id": number, "type": type_, "widgets_values": values, "inputs": inputs, "outputs": outputs, **more}


def named(type_: str, values: Any) -> dict[str, Any]:
    return widget_values(node(1, type_, values), INFO[type_])


def test_values_are_named_by_position_required_first() -> None:
    assert named("Sampler", [7, "randomize", 1.5, "heun", "text"]) == {
        "seed": 7,
        "cfg": 1.5,
        "name": "heun",
        "note": "text",
    }


def test_a_seed_saved_without_its_control_value_is_read_too() -> None:
    assert named("Sampler", [7, 1.5, "heun", "text"])["cfg"] == 1.5


def test_missing_values_get_their_defaults() -> None:
    assert named("Sampler", [7]) == {"seed": 7, "cfg": 8.0, "name": "euler", "note": "nothing"}


@pytest.mark.parametrize("extra", [["image"], [""], [None], []])
def test_the_value_of_an_upload_button_is_ignored(extra: list[Any]) -> None:
    assert named("Loader", ["b.png", *extra]) == {"image": "b.png"}


def test_a_choice_brings_its_own_inputs_along() -> None:
    assert named("Saver", ["h264", 18.0, "clip"]) == {"codec": "h264", "codec.crf": 18.0, "prefix": "clip"}
    assert named("Saver", ["auto", "clip"]) == {"codec": "auto", "prefix": "clip"}


def test_values_saved_by_name_need_no_position() -> None:
    assert named("Saver", {"codec": "auto", "prefix": "x"}) == {"codec": "auto", "prefix": "x"}


def test_too_many_values_are_refused() -> None:
    with pytest.raises(WorkflowError, match=r"Node 1 \(Filter\).*more widget values"):
        named("Filter", [0.5, "left over"])


def test_links_reroutes_and_primitives() -> None:
    workflow = {
        "nodes": [
            node(1, "Loader", ("a.png", "image")),
            node(2, "Reroute", links={"": 10}),
            node(3, "PrimitiveNode", (0.25, "fixed")),
            node(4, "Filter", (0.5,), links={"images": 11, "amount": 12}),
            node(5, "MarkdownNote", ("read me",)),
        ],
        "links": [[10, 1, 0, 2, 0, "IMAGE"], [11, 2, 0, 4, 0, "IMAGE"], [12, 3, 0, 4, 1, "FLOAT"]],
    }
    assert to_prompt(workflow, INFO) == {
        "1": {"class_type": "Loader", "inputs": {"image": "a.png"}},
        "4": {"class_type": "Filter", "inputs": {"images": ["1", 0], "amount": 0.25}},
    }


@pytest.mark.parametrize(("mode", "images"), [(0, ["2", 0]), (4, ["1", 0]), (2, None)], ids=["on", "bypass", "mute"])
def test_bypassed_nodes_pass_on_and_muted_ones_do_not(mode: int, images: Any) -> None:
    workflow = {
        "nodes": [
            node(1, "Loader", ("a.png", "image")),
            node(2, "Filter", (0.5,), links={"images": 10}, mode=mode),
            node(3, "Saver", ("auto", "x"), links={"images": 11}),
        ],
        "links": [
            {"id": 10, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "IMAGE"},
            {"id": 11, "origin_id": 2, "origin_slot": 0, "target_id": 3, "target_slot": 0, "type": "IMAGE"},
        ],
    }
    prompt = to_prompt(workflow, INFO)
    assert prompt["3"]["inputs"].get("images") == images
    assert ("2" in prompt) == (mode == 0)


def test_lists_are_wrapped_so_that_they_are_not_read_as_links() -> None:
    workflow = {"nodes": [node(1, "Boxes", [["1", 0]])], "links": []}
    assert to_prompt(workflow, INFO)["1"]["inputs"] == {"boxes": {"__value__": ["1", 0]}}


def test_an_unknown_node_is_named() -> None:
    with pytest.raises(WorkflowError, match="Node 9 is a Nowhere"):
        to_prompt({"nodes": [node(9, "Nowhere")], "links": []}, INFO)


def test_subgraphs_are_refused() -> None:
    with pytest.raises(WorkflowError, match="subgraphs"):
        to_prompt({"nodes": [], "links": [], "definitions": {"subgraphs": [{}]}}, INFO)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("ccvd/%Sampler.note%", "ccvd/rex"),
        ("%Learning.cfg%/%Sampler.note%_x", "2.5/rex_x"),
        ("%Other.note%", "a_b_"),
        ("%year%_%Sampler.nothing%_%Nobody.note%_%date:yyyy%", "%year%_%Sampler.nothing%_%Nobody.note%_%date:yyyy%"),
    ],
)
def test_file_names_say_what_a_widget_says(prefix: str, expected: str) -> None:
    """As the page does it: by class or title, the first of several, without what a file name cannot have."""
    workflow = {
        "nodes": [
            node(1, "Sampler", (7, "fixed", 2.5, "heun", "rex"), title="Learning"),
            node(2, "Sampler", (7, "fixed", 1.5, "heun", "a/b>"), title="Other"),
            node(3, "MarkdownNote", ("read me",), title="Nobody"),
            node(4, "Video", (prefix,)),
        ],
        "links": [],
    }
    assert to_prompt(workflow, INFO)["4"]["inputs"]["filename_prefix"] == expected


def test_widgets_of_a_saved_workflow_are_set_by_name() -> None:
    workflow = {
        "nodes": [node(1, "Sampler", (7, "randomize", 1.5, "heun", "a")), node(2, "Saver", ("h264", 18.0, "x"))]
    }
    set_widgets(workflow, INFO, "Sampler", note="b", cfg=4.0)
    set_widgets(workflow, INFO, "Saver", prefix="y")
    assert [one["widgets_values"] for one in workflow["nodes"]] == [
        [7, "randomize", 4.0, "heun", "b"],
        ["h264", 18.0, "y"],
    ]
    with pytest.raises(WorkflowError, match="Sampler has no input nte; it has seed, cfg, name, note"):
        set_widgets(workflow, INFO, "Sampler", nte="b")
    with pytest.raises(WorkflowError, match="no Filter node"):
        set_widgets(workflow, INFO, "Filter", amount=0.1)
