"""What the stages of `run_tests.py` came to: counted from the reports of pytest and Node, and summed up."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path

from installing import REPOSITORY
from processes import say

SLOWEST = 10
"""How many tests the summary names."""


@dataclass(frozen=True)
class Outcome:
    """What one stage came to. The counts are of tests; lint and types have none."""

    stage: str
    ok: bool
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""
    times: tuple[tuple[float, str], ...] = ()
    """Seconds of each test with its set-up, and where it is."""

    def line(self) -> str:
        counts = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped" if self.has_tests else ""
        word = "FAILED" if not self.ok else "SKIPPED" if self.skipped and not self.passed else "ok    "
        parts = (f"{self.stage:<22}", word, f"{self.seconds:6.1f} s", counts, self.note)
        return "  ".join(part for part in parts if part)

    @property
    def has_tests(self) -> bool:
        return self.passed + self.failed + self.skipped > 0


def count_cases(outcome: Outcome, report: Path) -> Outcome:
    """Add the numbers from Node's report. A run that left none (it crashed) counts as one failure."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase")) if report.is_file() else []
    if not cases:
        return replace(outcome, ok=False, failed=1)
    failed = sum(case.find("failure") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - failed - skipped
    return replace(outcome, passed=passed, failed=failed, skipped=skipped, times=times_of(report))


def times_of(report: Path) -> tuple[tuple[float, str], ...]:
    """The seconds of every test in pytest's or Node's report."""
    cases = ElementTree.parse(report).getroot().iter("testcase")
    return tuple((float(case.get("time", 0)), f"{place_of(case)}: {case.get('name')}") for case in cases)


def place_of(case: ElementTree.Element) -> str:
    """The test's file: pytest reports a module, Node a path."""
    file = case.get("file")
    if file is None:
        return case.get("classname", "").removeprefix("tests.").replace(".", "/")
    return Path(file).relative_to(REPOSITORY / "tests").as_posix() if Path(file).is_relative_to(REPOSITORY) else file


def count(outcome: Outcome, report: Path) -> Outcome:
    """Add the numbers from pytest's report. A run that left none (it crashed) counts as one failure."""
    if not report.is_file():
        return replace(outcome, ok=False, failed=1)
    numbers = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        for key in numbers:
            numbers[key] += int(suite.get(key, 0))
    failed = numbers["failures"] + numbers["errors"]
    passed = max(0, numbers["tests"] - failed - numbers["skipped"])
    return replace(outcome, passed=passed, failed=failed, skipped=numbers["skipped"], times=times_of(report))


def summarise(outcomes: list[Outcome]) -> None:
    say("\n=== summary")
    for outcome in outcomes:
        say(outcome.line())
    times = sorted((time for outcome in outcomes for time in outcome.times), reverse=True)[:SLOWEST]
    if times:
        say(f"\nthe {len(times)} slowest tests, with what was set up for them:")
        for seconds, place in times:
            say(f"{seconds:6.1f} s  {place}")
        say("")
    passed, failed = (sum(getattr(outcome, key) for outcome in outcomes) for key in ("passed", "failed"))
    skipped = sum(outcome.skipped for outcome in outcomes)
    say(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
