"""What ComfyUI says over HTTP and its websocket, as events and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aiohttp

Graph = dict[str, dict[str, Any]]
"""ComfyUI's API format: node id -> {"class_type": ..., "inputs": {...}}."""
PREVIEW_MESSAGE, TEXT_MESSAGE = 1, 3
"""`BinaryEventTypes.PREVIEW_IMAGE` and `.TEXT` of ComfyUI's protocol."""

CLOSED = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)

OnEvent = Callable[[str, dict[str, Any]], None]
"""Receives every websocket event: its type and its data."""


class ComfyError(RuntimeError):
    """ComfyUI did not start, refused a graph, or a node failed. `node_type` is the node's class, where it is one."""

    def __init__(self, message: str, node_type: str | None = None) -> None:
        super().__init__(f"{node_type}: {message}" if node_type else message)
        self.node_type = node_type
        self.message = message


class ComfyInterruptedError(ComfyError):
    """The run was cancelled."""


def read_event(message: aiohttp.WSMessage) -> tuple[str, dict[str, Any]] | None:
    """Type and data of a websocket message.

    A node's progress text becomes ("progress_text", {"node", "text"}), its preview ("preview", {"picture": bytes}).
    """
    if message.type is aiohttp.WSMsgType.TEXT:
        event = json.loads(message.data)
        return event["type"], event["data"]
    if message.type is aiohttp.WSMsgType.BINARY and int.from_bytes(message.data[:4]) == TEXT_MESSAGE:
        length = int.from_bytes(message.data[4:8])
        node, text = message.data[8 : 8 + length], message.data[8 + length :]
        return "progress_text", {"node": node.decode(), "text": text.decode("utf-8", errors="replace")}
    if message.type is aiohttp.WSMsgType.BINARY and int.from_bytes(message.data[:4]) == PREVIEW_MESSAGE:
        return "preview", {"picture": message.data[8:]}
    return None


def is_end(kind: str, data: dict[str, Any]) -> bool:
    """Whether an event of the run is its last. Raises ComfyError for the sad endings."""
    if kind == "execution_error":
        raise ComfyError(data["exception_message"].strip(), data["node_type"])
    if kind == "execution_interrupted":
        raise ComfyInterruptedError("cancelled", data["node_type"])
    return kind == "execution_success"


def validation_error(answer: dict[str, Any]) -> ComfyError:
    """What ComfyUI says against a graph, the first faulty node in front."""
    for node_id, node in answer.get("node_errors", {}).items():
        faults = "; ".join(f"{fault['message']} ({fault['details']})" for fault in node["errors"])
        return ComfyError(f"node {node_id}: {faults}", node["class_type"])
    error = answer["error"]
    if isinstance(error, str):
        return ComfyError(error)
    return ComfyError(f"{error['message']} {error['details']}".strip())
