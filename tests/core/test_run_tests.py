"""The summary of the test command."""

from __future__ import annotations

from pathlib import Path

import pytest
import stage_outcomes
from installing import REPOSITORY
from stage_outcomes import Outcome

PYTEST = """<testsuites><testsuite tests="2" failures="1" errors="0" skipped="0">
<testcase classname="tests.core.test_media" name="test_slow[a-1]" time="31.5" />
<testcase classname="tests.comfy.test_starts" name="test_quick" time="0.25"><failure /></testcase>
</testsuite></testsuites>"""
NODE = f"""<testsuites><testcase name="top" time="0.5" classname="test" file="{REPOSITORY}/tests/js/boxes.test.mjs"/>
<testsuite><testcase name="nested" time="40" classname="test" file="{REPOSITORY}/tests/browser/e.test.mjs"/>
</testsuite></testsuites>"""


@pytest.fixture
def outcomes(tmp_path: Path) -> list[Outcome]:
    """Two stages whose reports are `PYTEST` and `NODE`."""
    reports = {"tests: core, comfy": (PYTEST, stage_outcomes.count), "browser": (NODE, stage_outcomes.count_cases)}
    found = []
    for number, (stage, (report, count)) in enumerate(reports.items()):
        (tmp_path / f"{number}.xml").write_text(report, "utf-8")
        found.append(count(Outcome(stage, ok=True), tmp_path / f"{number}.xml"))
    return [Outcome("lint", ok=True, seconds=3.0), *found]


def test_the_summary_names_the_slowest_tests_of_all_stages(
    outcomes: list[Outcome], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stage_outcomes, "SLOWEST", 3)
    stage_outcomes.summarise(outcomes)
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("the 3 slowest tests, with what was set up for them:")
    assert lines[start + 1 :] == [
        "  40.0 s  browser/e.test.mjs: nested",
        "  31.5 s  core/test_media: test_slow[a-1]",
        "   0.5 s  js/boxes.test.mjs: top",
        "",
        "3 passed, 1 failed",
    ]


def test_ten_are_named(capsys: pytest.CaptureFixture[str]):
    stage_outcomes.summarise(
        [Outcome("core", ok=True, passed=30, times=tuple((float(n), f"test {n}") for n in range(30)))]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" s  ")[1] for line in lines if " s  test " in line] == [f"test {n}" for n in range(29, 19, -1)]
