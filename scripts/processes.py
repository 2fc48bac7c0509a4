"""Starting and ending processes so that nothing stays behind. Standard library only: the set-up runs with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def say(message: str) -> None:
    """Print at once, also into a pipe."""
    print(message, flush=True)


def run_and_wait(command: Sequence[str | Path], **options: Any) -> int:
    """Run a command to its end; returns its exit code.

    `subprocess.run` kills the child a moment after Ctrl+C. A child that has ComfyUI to end needs longer, so this waits
    for it; a request to end (SIGTERM) is passed on.
    """
    interrupted = False
    process = subprocess.Popen(command, **options)
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                interrupted = True  # the child got it too
    finally:
        signal.signal(signal.SIGTERM, before)
    if interrupted:
        raise KeyboardInterrupt
    return process.returncode


def end_process_group(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Ask the process and its children to end; after `patience` seconds make them."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/PID", str(process.pid), "/T", "/F"], capture_output=True)
        process.wait()
        return
    signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    signal_group(process, signal.SIGKILL)
    process.wait()


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):  # when all of it has ended already
        os.killpg(process.pid, number)


@contextmanager
def sigterm_is_ctrl_c() -> Iterator[None]:
    """Let `with` blocks clean up when the script is told to end, for example by a CI that has run out of time."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
