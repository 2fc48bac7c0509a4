"""The real ComfyUI as a context manager: starts it with this pack, talks to it over HTTP and websocket, ends it.

Runs in the environment's Python (`environment.py`). Everything ComfyUI reads and writes lies in one base directory, a
temporary one unless given, so that nothing of the user's own ComfyUI is touched.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from comfy_messages import CLOSED, ComfyError, Graph, OnEvent, is_end, read_event, validation_error
from patience import INTERVAL, QUIET, Life, Patience, StuckError, cpu_seconds
from processes import end_process_group
from server_place import free_port, has_cuda, link_pack, unlink_pack

PACK = "ccvd"

COLOURS = re.compile(r"\x1b\[[0-9;]*m")

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The server is on this machine: a proxy that the user has set must not see the requests."""


class ComfyServer:
    """A running ComfyUI with this pack. Use it as a context manager; its process group ends with the block."""

    def __init__(
        self,
        comfyui: Path,
        *,
        base_directory: Path | None = None,
        port: int | None = None,
        quiet: float = QUIET,
    ) -> None:
        """`quiet`: seconds without a sign of life after which ComfyUI counts as stuck."""
        self._comfyui = comfyui
        self._given_base = base_directory
        self._quiet = quiet
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or free_port()
        self.base = Path()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process."""
        if self._process is None:
            raise ComfyError("ComfyUI does not run.")
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything the server has printed, without colours."""
        return COLOURS.sub("", self._log_file.read_text(encoding="utf-8", errors="replace"))

    @property
    def _log_file(self) -> Path:
        return self.base / "comfyui.log"

    def __enter__(self) -> Self:
        self.base = self._given_base or Path(tempfile.mkdtemp(prefix="ccvd-comfyui-"))
        try:
            for folder in ("custom_nodes", "input", "output", "models"):
                (self.base / folder).mkdir(parents=True, exist_ok=True)
            link_pack(self.base / "custom_nodes" / PACK)
            self._start()
            self._wait_until_it_answers()
            self._check_that_the_pack_loaded()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def _start(self) -> None:
        command = [
            sys.executable,
            str(self._comfyui / "main.py"),
            *([] if has_cuda() else ["--cpu"]),
            *("--listen", "127.0.0.1"),
            *("--port", str(self.port)),
            "--disable-auto-launch",
            "--disable-api-nodes",
            *("--database-url", "sqlite:///:memory:"),
            *("--base-directory", str(self.base)),
        ]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"}
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._comfyui,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own, so that whatever ComfyUI starts ends with it.
                start_new_session=sys.platform != "win32",
                creationflags=subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0,
            )

    def _wait_until_it_answers(self) -> None:
        patience = self._patience("ComfyUI does not start")
        while True:
            self._check_that_it_runs()
            try:
                self._get("/system_stats")
            except OSError:
                time.sleep(0.25)
                self._check(patience)
            else:
                return

    def _patience(self, what: str) -> Patience:
        return Patience(self._life, what, self._quiet)

    def _life(self) -> Life:
        """What the server has used and printed."""
        printed = self._log_file.stat().st_size if self._log_file.is_file() else 0
        return Life(cpu_seconds(self._process.pid) if self._process else 0.0, printed)

    def _check(self, patience: Patience) -> None:
        """ComfyError when the server has ended or nothing moves any more."""
        self._check_that_it_runs()
        try:
            patience.check()
        except StuckError as error:
            raise ComfyError(f"{error}.\n{self._log_tail()}") from None

    def _check_that_it_runs(self) -> None:
        code = self._process.poll() if self._process else None
        if code is not None:
            raise ComfyError(f"ComfyUI ended with exit code {code}.\n{self._log_tail()}")

    def _check_that_the_pack_loaded(self) -> None:
        if str(self.base / "custom_nodes" / PACK) in "".join(self.import_failures()):
            raise ComfyError(f"ComfyUI could not import this pack.\n{self._log_tail(80)}")

    def import_failures(self) -> list[str]:
        """The log's lines about node packs or nodes that could not be imported."""
        return [line for line in self.log.splitlines() if "IMPORT FAILED" in line]

    def _log_tail(self, lines: int = 40) -> str:
        return "The end of its log:\n" + "\n".join(f"    {line}" for line in self.log.splitlines()[-lines:])

    def _clean_up(self) -> None:
        if self._process is not None:
            end_process_group(self._process)
            self._process = None
        # The link goes first, so that removing the folder cannot reach into the repository.
        unlink_pack(self.base / "custom_nodes" / PACK)
        if self._given_base is None:
            shutil.rmtree(self.base, ignore_errors=True)

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

    def put_input(self, path: Path, subfolder: str = "") -> str:
        """Copy a file into ComfyUI's input folder; returns the name that load nodes know it by."""
        folder = self.base / "input" / subfolder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
        return f"{subfolder}/{path.name}" if subfolder else path.name

    def output_path(self, entry: dict[str, str]) -> Path:
        """Where the file of a history entry ({"filename", "subfolder", "type"}) lies."""
        return self.base / entry["type"] / entry["subfolder"] / entry["filename"]
