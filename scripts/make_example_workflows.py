"""Make the example workflow and its picture from the running UI (for maintainers).

    npm install playwright-core && python scripts/make_example_workflow.py

Runs in the environment of `run_tests.py`. The concept is the demo's fox, which the demo base has never seen.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from comfy_server import REPOSITORY, ComfyServer, sigterm_is_ctrl_c
from environment import ensure_environment
from trial import demo_lesson

FOLDER = "my_concept"
"""Input folder that the workflow names."""


def main() -> int:
    with (
        sigterm_is_ctrl_c(),
        tempfile.TemporaryDirectory() as scratch,
        ComfyServer(ensure_environment().comfyui) as server,
    ):
        lesson = demo_lesson("subject", None, Path(scratch))
        for file in lesson.files:
            server.put_input(file, FOLDER)
        script = REPOSITORY / "scripts" / "make_example_workflow.mjs"
        return subprocess.run(["node", script, server.address, REPOSITORY / "example_workflows"]).returncode


if __name__ == "__main__":
    sys.exit(main())
