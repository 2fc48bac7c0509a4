"""Turns a workflow as the ComfyUI page saves it into the prompt that its API runs. Pure functions on JSON values.

The page does this in JavaScript. A saved workflow keeps the values of a node's widgets as a bare list, so their names
come from `/object_info`: required inputs first, then optional ones, with values that only the page uses in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Prompt = dict[str, Json]
"""Node id -> {"class_type": ..., "inputs": {name: value or [node id, output]}}."""

MUTED, BYPASSED = 2, 4
PAGE_ONLY = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
"""Nodes that exist on the page alone; the last two pass something on."""

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
CHOICE_WITH_INPUTS = "COMFY_DYNAMICCOMBO_V3"
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize", "increment-wrap"}
SEEDS = {"seed", "noise_seed"}
"""Inputs that get the `control after generate` widget by their name alone."""
FILE_NAME = "filename_prefix"
"""The input of nodes that save, in which the page replaces `%Node.widget%`."""
WIDGET_IN_NAME = re.compile(r"%(?P<node>[^%.]+)\.(?P<widget>[^%.]+)%")
NOT_IN_FILE_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload")


class WorkflowError(ValueError):
    """The workflow cannot be turned into a prompt; the message names the node."""


@dataclass(frozen=True)
class Link:
    """From output number `slot` of node `node`."""

    node: str
    slot: int


def to_prompt(workflow: Json, object_info: Mapping[str, Json]) -> Prompt:
    """The prompt of a saved workflow. `object_info` is the answer of a running ComfyUI's `/object_info`."""
    if workflow.get("definitions", {}).get("subgraphs"):
        raise WorkflowError("The workflow has subgraphs, which are not supported here: unpack them on the page.")
    nodes = {str(node["id"]): node for node in workflow["nodes"]}
    links = dict(_links(workflow["links"]))
    prompt: Prompt = {}
    for node_id, node in nodes.items():
        if node["type"] in PAGE_ONLY or node.get("mode") in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            raise WorkflowError(f"Node {node_id} is a {node['type']}, which this ComfyUI does not have.")
        values = widget_values(node, object_info[node["type"]])
        if isinstance(values.get(FILE_NAME), str):
            values[FILE_NAME] = _with_widgets(values[FILE_NAME], nodes.values(), object_info)
        inputs = {name: _as_api_value(value) for name, value in values.items()}
        inputs |= _linked_inputs(node, nodes, links)
        prompt[node_id] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _with_widgets(text: str, nodes: Iterable[Json], object_info: Mapping[str, Json]) -> str:
    """A file name with `%Node.widget%` replaced by what that widget says, as the page does it; other `%` stay.

    `Node` is a class of nodes, or a title; of several nodes the first is meant.
    """
    known = [node for node in nodes if node["type"] in object_info]

    def value(match: re.Match[str]) -> str:
        called = [node for node in known if match["node"] in (node["type"], node.get("title"))]
        values = widget_values(called[0], object_info[called[0]["type"]]) if called else {}
        if match["widget"] not in values:
            return match[0]
        return NOT_IN_FILE_NAMES.sub("_", str(values[match["widget"]]))

    return WIDGET_IN_NAME.sub(value, text)


def widget_values(node: Json, info: Json) -> Json:
    """Widget name -> value of one node."""
    saved = node.get("widgets_values") or []
    if isinstance(saved, dict):
        return dict(saved)
    return _read_widgets(node, info, _Values(saved))


def _read_widgets(node: Json, info: Json, values: _Values) -> Json:
    named: Json = {}
    for group in ("required", "optional"):
        specs: Json = info["input"].get(group, {})
        for name, spec in specs.items():
            named |= _take(name, spec, values)
        # The page adds an upload button after the required inputs, and saves a value for it.
        if group == "required" and any(_option(spec, key) for spec in specs.values() for key in UPLOADS):
            values.skip({"image", "video", "audio", "", None})
    left = [value for value in values.rest() if value not in (None, "")]
    if left:
        raise WorkflowError(
            f"Node {node['id']} ({node['type']}) has {len(left)} more widget values than inputs: {left!r}. The "
            "workflow was saved with another version of the node: open it on the page and save it again."
        )
    return named


class _Values:
    """A node's saved values, taken one after the other."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values
        self._next = 0
        self.places: dict[str, int] = {}
        """Where the value of each widget is."""

    def take(self, name: str, default: Any) -> Any:
        if self._next >= len(self._values):
            return default
        self.places[name] = self._next
        self._next += 1
        return self._values[self._next - 1]

    def skip(self, expected: set[Any]) -> None:
        """Pass over the next value if it is one of the expected ones."""
        rest = self.rest()
        if rest and not isinstance(rest[0], list | dict) and rest[0] in expected:
            self._next += 1

    def rest(self) -> list[Any]:
        return self._values[self._next :]


def _take(name: str, spec: list[Any], values: _Values) -> Json:
    """The value of one input, if it is a widget, with those of the inputs that a choice brings along."""
    kind = _kind(spec)
    if kind == CHOICE_WITH_INPUTS:
        return _take_choice(name, spec, values)
    if not _is_widget(spec):
        return {}
    named = {name: values.take(name, _default(spec))}
    if _option(spec, "control_after_generate") or (kind == "INT" and name in SEEDS):
        values.skip(AFTER_GENERATE)
    return named


def _take_choice(name: str, spec: list[Any], values: _Values) -> Json:
    options = {option["key"]: option["inputs"] for option in spec[1]["options"]}
    chosen = values.take(name, next(iter(options)))
    named: Json = {name: chosen}
    for group in ("required", "optional"):
        for inner, inner_spec in options.get(chosen, {}).get(group, {}).items():
            named |= _take(f"{name}.{inner}", inner_spec, values)
    return named


def _kind(spec: list[Any]) -> str:
    """The type of an input; the old way to write a choice is a list in its place."""
    return "COMBO" if isinstance(spec[0], list) else spec[0]


def _option(spec: list[Any], key: str) -> Any:
    return spec[1].get(key) if len(spec) > 1 else None


def _is_widget(spec: list[Any]) -> bool:
    own_widget = _option(spec, "widgetType") is not None
    return (own_widget or _kind(spec) in WIDGET_TYPES) and not _option(spec, "forceInput")


def _default(spec: list[Any]) -> Any:
    default = _option(spec, "default")
    if default is None and _kind(spec) == "COMBO":
        options = spec[0] if isinstance(spec[0], list) else _option(spec, "options") or []
        return options[0] if options else None
    return default


def _as_api_value(value: Any) -> Any:
    """A bare list would be read as a link."""
    return {"__value__": value} if isinstance(value, list) else value


def _links(links: list[Any]) -> Iterator[tuple[int, Link]]:
    """Both ways in which pages have saved links: lists and objects."""
    for link in links:
        if isinstance(link, dict):
            yield link["id"], Link(str(link["origin_id"]), link["origin_slot"])
        else:
            yield link[0], Link(str(link[1]), link[2])


def _linked_inputs(node: Json, nodes: Mapping[str, Json], links: Mapping[int, Link]) -> Json:
    inputs: Json = {}
    for socket in node.get("inputs", []):
        if socket.get("link") is None:
            continue
        source = _source(links[socket["link"]], nodes, links)
        if source is None:
            continue
        if nodes[source.node]["type"] == "PrimitiveNode":
            inputs[socket["name"]] = _as_api_value(nodes[source.node]["widgets_values"][0])
        else:
            inputs[socket["name"]] = [source.node, source.slot]
    return inputs


def _source(link: Link, nodes: Mapping[str, Json], links: Mapping[int, Link]) -> Link | None:
    """Where a link really comes from: reroutes and bypassed nodes pass on, muted nodes give nothing."""
    node = nodes[link.node]
    if node.get("mode") == MUTED:
        return None
    if node["type"] == "Reroute":
        before = node["inputs"][0].get("link")
    elif node.get("mode") == BYPASSED:
        before = _passed_through(node, link.slot)
    else:
        return link
    return None if before is None else _source(links[before], nodes, links)


def _passed_through(node: Json, slot: int) -> int | None:
    """The link that a bypassed node hands on at an output: its input of the same type, at the same place if it can."""
    wanted = node["outputs"][slot]["type"]
    sockets = node.get("inputs", [])
    for socket in [*sockets[slot : slot + 1], *sockets]:
        if socket["type"] == wanted and socket.get("link") is not None:
            return socket["link"]
    return None


def set_widgets(workflow: Json, object_info: Mapping[str, Json], class_type: str, /, **values: Any) -> None:
    """Set widgets of every node of a class in a saved workflow. Raises WorkflowError without such a node or widget."""
    nodes = [node for node in workflow["nodes"] if node["type"] == class_type]
    if not nodes:
        raise WorkflowError(f"The workflow has no {class_type} node.")
    for node in nodes:
        saved = _Values(node["widgets_values"])
        _read_widgets(node, object_info[class_type], saved)
        _check_names(class_type, values, saved.places)
        for name, value in values.items():
            node["widgets_values"][saved.places[name]] = value


def _check_names(class_type: str, wanted: Mapping[str, Any], have: Mapping[str, Any]) -> None:
    unknown = wanted.keys() - have.keys()
    if unknown:
        raise WorkflowError(f"{class_type} has no input {', '.join(sorted(unknown))}; it has {', '.join(have)}.")
