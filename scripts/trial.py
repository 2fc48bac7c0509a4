"""The part of `try_it.py` that runs in the environment: ComfyUI, the example workflow, progress and results."""

from __future__ import annotations

import html
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comfy_messages import ComfyError
from comfy_server import ComfyServer
from environment import ensure_environment
from installing import REPOSITORY, SetupError
from material import DEMO_LIMITS, Lesson, MaterialError, choose_lesson, put_into, put_material
from processes import sigterm_is_ctrl_c
from results import concept_files, keep_thumbnail, keep_workflow, save_results, shelf_of_runs
from try_it import parse_arguments
from workflow import Json, Prompt, WorkflowError, to_prompt

WORKFLOW = REPOSITORY / "example_workflows" / "1 Learn a concept and make a video.json"
TAKEN = "already has a concept"
"""What Learn Concept says when the name is taken."""

SECONDS_BETWEEN_LINES = 20.0
"""In a file, where a line cannot be overwritten."""


class Progress:
    """One line on the terminal that says which node runs, how far it is and what it says."""

    def __init__(self, prompt: Prompt, object_info: dict[str, dict[str, Any]]) -> None:
        self._titles = {
            node_id: object_info[node["class_type"]]["display_name"] or node["class_type"]
            for node_id, node in prompt.items()
        }
        self._start = time.monotonic()
        self._node = self._step = self._text = ""
        self._printed, self._printed_at = "", 0.0

    def __call__(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "executing" and data.get("node"):
            self._node, self._step, self._text = self._titles.get(data["node"], data["node"]), "", ""
        elif kind == "progress_state":
            running = [state for state in data["nodes"].values() if state["state"] == "running" and state["max"] > 1]
            self._step = "".join(f"{state['value']:.0f}/{state['max']:.0f}" for state in running[-1:])
        elif kind == "progress_text":
            self._text = " ".join(html.unescape(data["text"]).split())
        else:
            return
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        parts = (f"{now - self._start:5.0f} s", self._node, self._step, self._text)
        line = "  ".join(part for part in parts if part)
        if sys.stdout.isatty():
            print(f"\r\x1b[2K{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
        elif self._node != self._printed or now - self._printed_at > SECONDS_BETWEEN_LINES:
            print(line, flush=True)
            self._printed, self._printed_at = self._node, now

    def end(self) -> None:
        if sys.stdout.isatty():
            print()


def learn_and_use(server: ComfyServer, workflow: Json, lesson: Lesson, out: Path) -> None:
    """Run the workflow and keep its results. Cancelled, the lesson keeps its progress before ComfyUI may be ended."""
    start = time.monotonic()
    object_info = server.object_info()
    prompt = to_prompt(workflow, object_info)
    print(f"Learning <{lesson.name}> from {len(lesson.files)} {lesson.medium}, then making: {lesson.prompt}")
    progress = Progress(prompt, object_info)
    try:
        history = server.run(prompt, progress)
    except KeyboardInterrupt:
        print("\nStopping ...", flush=True)
        server.cancel_and_wait()
        raise
    except ComfyError as error:
        if TAKEN in error.message:
            raise NameTakenError(taken(lesson, server.base)) from error
        raise
    finally:
        progress.end()
    written = save_results(server, history, lesson.name, lesson.files, out)
    keep_thumbnail(server.base, lesson.name, written[1])
    for path in written:
        print(f"  {path}")
    print(f"Learned and used <{lesson.name}> in {time.monotonic() - start:.0f} s.")


class NameTakenError(ComfyError):
    """The library has another concept of this name."""


def taken(lesson: Lesson, base: Path) -> str:
    """What to do about a name that is taken, with the file that is really meant."""
    files = ", ".join(map(str, concept_files(base, lesson.name)))
    another = "" if lesson.is_demo else f"take another name (--name {lesson.name}2, also in the captions), or "
    return (
        f"<{lesson.name}> is there already, learned with other pictures or settings, and is not overwritten: "
        f"{another}delete {files} to learn it again."
    )


@contextmanager
def working_folder(arguments: Any, lesson: Lesson) -> Iterator[Path]:
    """ComfyUI's base directory. With --ui the artist goes on working, so it stays. Otherwise it stays while there is
    something to go on from: the same command then finds its progress."""
    out = arguments.out.resolve()
    if arguments.ui:
        yield out / "comfyui"
        return
    base = out / f"unfinished_{lesson.name}"
    try:
        yield base
    except BaseException:
        if has_progress(base, lesson.name):
            print(f"What was learned so far is in {base}: the same command goes on from there.", file=sys.stderr)
        else:
            shutil.rmtree(base, ignore_errors=True)
        raise
    shutil.rmtree(base, ignore_errors=True)


def has_progress(base: Path, name: str) -> bool:
    """Whether a lesson has been begun, or finished, in this base directory."""
    begun = (base / "models" / "ccvd").glob(f"*/.progress/*{name}*")
    return bool(concept_files(base, name)) or any(begun)


def keep_open(address: str, base: Path) -> None:
    print(f"ComfyUI shows the workflow at\n  {address}\n(its files: {base}). Press Ctrl+C to end it.", flush=True)
    while True:
        time.sleep(3600)


def attempt(server: ComfyServer, arguments: Any, lesson: Lesson) -> None:
    """The whole trial in a running ComfyUI; with --ui the page stays open, also after a mistake, with the workflow."""
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    folder = None if lesson.is_demo else put_material(server, lesson)
    put_into(workflow, server.object_info(), lesson, folder, arguments.steps)
    address = keep_workflow(server.base, lesson.name, workflow, server.address)
    try:
        learn_and_use(server, workflow, lesson, arguments.out)
    except ComfyError as error:
        if not arguments.ui:
            raise
        print(f"error: {error}", file=sys.stderr)
    if arguments.ui:
        keep_open(address, server.base)


def main() -> int:
    arguments = parse_arguments()
    try:
        with tempfile.TemporaryDirectory() as folder, sigterm_is_ctrl_c():
            lesson = choose_lesson(arguments, Path(folder))
            if not lesson.is_demo:
                print(DEMO_LIMITS)
            print("Starting ComfyUI ...", flush=True)
            with working_folder(arguments, lesson) as base:
                shelf_of_runs(base)  # ComfyUI looks for it when it starts
                with ComfyServer(ensure_environment().comfyui, base_directory=base, port=arguments.port) as server:
                    attempt(server, arguments, lesson)
    except (SetupError, ComfyError, WorkflowError, MaterialError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
