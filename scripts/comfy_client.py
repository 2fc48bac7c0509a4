"""What a running ComfyUI is asked, over HTTP and websocket. `comfy_server.py` says when it counts as stuck or ended."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from abc import ABC, abstractmethod
from typing import Any

import aiohttp
from comfy_messages import CLOSED, ComfyError, Graph, OnEvent, is_end, read_event, validation_error
from patience import INTERVAL, Patience, StuckError

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The server is on this machine: a proxy that the user has set must not see the requests."""


class ComfyClient(ABC):
    """Asks a server that runs at `address`, and waits for as long as anything moves there."""

    @property
    @abstractmethod
    def address(self) -> str:
        """For example `http://127.0.0.1:8188`."""

    @abstractmethod
    def _patience(self, what: str) -> Patience:
        """How to wait; `what` is said when nothing moves any more."""

    @abstractmethod
    def _check(self, patience: Patience) -> None:
        """ComfyError when the server has ended or nothing moves any more."""

    @abstractmethod
    def _check_that_it_runs(self) -> None:
        """ComfyError when the server has ended."""

    @abstractmethod
    def _log_tail(self, lines: int = 40) -> str:
        """The end of the server's log."""

    def _get(self, path: str) -> Any:
        return json.loads(self._ask(self.address + path))

    def _post(self, path: str, content: dict[str, Any]) -> Any:
        body = json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, body, {"Content-Type": "application/json"})
        text = self._ask(request)
        return json.loads(text) if text else None

    def _ask(self, request: str | urllib.request.Request) -> bytes:
        """The answer to a request, however long the server is busy with other work."""

        def ask() -> bytes:
            with NO_PROXY.open(request) as answer:
                return answer.read()

        what = request if isinstance(request, str) else request.full_url
        try:
            return self._patience(f"ComfyUI does not answer {what}").wait_for(ask)
        except StuckError as error:
            raise ComfyError(f"{error}.\n{self._log_tail()}") from None

    def object_info(self) -> dict[str, dict[str, Any]]:
        """All node classes with their inputs and outputs."""
        return self._get("/object_info")

    def post_prompt(self, graph: Graph, client_id: str) -> str:
        """Queue a graph; returns its id. Raises ComfyError if ComfyUI finds a fault in it."""
        try:
            answer = self._post("/prompt", {"prompt": graph, "client_id": client_id})
        except urllib.error.HTTPError as error:
            raise validation_error(json.load(error)) from None
        if answer["node_errors"]:
            # ComfyUI runs the faultless part of a graph; half a result helps nobody here.
            self.interrupt(answer["prompt_id"])
            raise validation_error(answer)
        return answer["prompt_id"]

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Cancel one run, waiting or running; without an id, what runs now."""
        if prompt_id is None:
            self._post("/interrupt", {})
        else:
            self._post("/queue", {"delete": [prompt_id]})
            self._post("/interrupt", {"prompt_id": prompt_id})

    def cancel_and_wait(self) -> None:
        """Cancel all runs and wait until none is left: a lesson that is cancelled keeps its progress first."""
        self._post("/queue", {"clear": True})
        self.interrupt()
        patience = self._patience("The cancelled run does not end")
        while self._get("/queue")["queue_running"]:
            time.sleep(0.1)
            self._check(patience)

    def run(self, graph: Graph, on_event: OnEvent | None = None) -> dict[str, Any]:
        """Run a graph to its end; returns its history entry ("outputs": node id -> what the node showed).

        Raises ComfyError when the graph is refused, a node fails or nothing moves any more, however long that takes,
        and ComfyInterruptedError when the run is cancelled.
        """
        return asyncio.run(self._run(graph, on_event or (lambda kind, data: None)))

    async def _run(self, graph: Graph, on_event: OnEvent) -> dict[str, Any]:
        client_id = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession() as session,
            # Node errors carry the node's inputs: there is no useful limit.
            session.ws_connect(f"{self.address}/ws?clientId={client_id}", max_msg_size=0) as socket_,
        ):
            prompt_id = await asyncio.to_thread(self.post_prompt, graph, client_id)
            patience = self._patience("The run does not end")
            while True:
                try:
                    message = await socket_.receive(INTERVAL)
                except TimeoutError:
                    self._check(patience)
                    continue
                if message.type in CLOSED:
                    break
                patience.moved()
                event = read_event(message)
                if event is None:
                    continue
                kind, data = event
                on_event(kind, data)
                if data.get("prompt_id") == prompt_id and is_end(kind, data):
                    return await self._history(prompt_id)
        self._check_that_it_runs()
        raise ComfyError(f"ComfyUI closed the connection.\n{self._log_tail()}")

    async def _history(self, prompt_id: str) -> dict[str, Any]:
        """The entry of a finished run; ComfyUI writes it a moment after the last event."""
        while True:
            history = await asyncio.to_thread(self._get, f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            await asyncio.sleep(0.05)
