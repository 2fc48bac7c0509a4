"""The real ComfyUI as a context manager: starts it with this pack and ends it. `comfy_client.py` asks it things.

Runs in the environment's Python (`environment.py`). Everything ComfyUI reads and writes lies in one base directory, a
temporary one unless given, so that nothing of the user's own ComfyUI is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from comfy_client import ComfyClient
from comfy_messages import ComfyError
from patience import QUIET, Life, Patience, StuckError, cpu_seconds
from processes import end_process_group
from server_place import free_port, has_cuda, link_pack, unlink_pack

PACK = "ccvd"

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class ComfyServer(ComfyClient):
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

    def put_input(self, path: Path, subfolder: str = "") -> str:
        """Copy a file into ComfyUI's input folder; returns the name that load nodes know it by."""
        folder = self.base / "input" / subfolder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
        return f"{subfolder}/{path.name}" if subfolder else path.name

    def output_path(self, entry: dict[str, str]) -> Path:
        """Where the file of a history entry ({"filename", "subfolder", "type"}) lies."""
        return self.base / entry["type"] / entry["subfolder"] / entry["filename"]
