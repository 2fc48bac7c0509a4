"""A killed benchmark leaves no worker behind."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from patience import Life, Patience, cpu_seconds

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "benchmarks" / "continual" / "run.py"


def test_workers_end_with_the_run_that_started_them(tmp_path: Path):
    """Killed outright, as by a lack of memory: it cannot say goodbye."""
    small = ["--methods", "base", "--seeds", "0", "--tasks", "1", "--steps", "1", "--clips", "1", "--jobs", "1"]
    run = subprocess.Popen([sys.executable, RUN, *small, "--out", tmp_path / "out.csv"], stdout=subprocess.DEVNULL)
    try:
        wait_until_it_starts_workers(run.pid)
        children = psutil.Process(run.pid).children(recursive=True)
    finally:
        run.kill()
        run.wait()
    assert children
    for child in children:
        # What looks after shared resources ends after the worker, which may be busy until then.
        life = Patience(
            lambda: Life(sum(cpu_seconds(one.pid) for one in children)), "The worker does not end", quiet=20.0
        )
        try:
            life.wait_for(child.wait)
        finally:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    assert not (tmp_path / "out.csv").exists()


def wait_until_it_starts_workers(pid: int) -> None:
    """Beside the worker there is a process of Python's that looks after shared resources."""
    patience = Patience(lambda: Life(cpu_seconds(pid)), "It starts no worker")
    while not any("spawn_main" in " ".join(child.cmdline()) for child in psutil.Process(pid).children()):
        patience.check()
        time.sleep(0.1)
