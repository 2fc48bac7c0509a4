"""Which browser the browser tests get, and what happens when there is none. Nothing is installed here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import browser
import pytest
import run_tests
from browser import NoBrowserError, ensure_browser, starts
from installing import Environment

HERE = Environment(Path(sys.executable), Path())
pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts stand in for programs")


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CCVD_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "ELSEWHERE", ())
    monkeypatch.setattr(browser, "BROWSER_FOLDER", tmp_path / "browser")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been installed from npm."""
    asked: list[str] = []

    def install(environment: Environment, packages: Sequence[str], report: object) -> None:
        asked.extend(packages)

    monkeypatch.setattr(browser, "install", install)
    return asked


def program(path: Path, code: int = 0) -> Path:
    path.write_text(f"#!/bin/sh\nexit {code}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_browser_on_the_path_is_used_if_it_starts(tmp_path: Path, installed: list[str]) -> None:
    program(tmp_path / "chromium", 1)
    chrome = program(tmp_path / "google-chrome")
    assert ensure_browser(HERE).chromium == chrome
    assert installed == [browser.PLAYWRIGHT]


def test_the_users_choice_comes_first(tmp_path: Path, installed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "chromium")
    monkeypatch.setenv("CCVD_CHROMIUM", str(program(tmp_path / "mine")))
    assert ensure_browser(HERE).chromium == tmp_path / "mine"
    monkeypatch.setenv("CCVD_CHROMIUM", str(tmp_path / "missing"))
    with pytest.raises(NoBrowserError, match="does not start"):
        ensure_browser(HERE)


def test_other_systems_are_told_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(NoBrowserError, match="Install one, or set CCVD_CHROMIUM"):
        ensure_browser(HERE)


def test_an_installation_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = program(tmp_path / "python")
    python.write_text("#!/bin/sh\necho no route to host >&2\nexit 1\n", encoding="utf-8")
    program(tmp_path / "chromium")
    with pytest.raises(NoBrowserError, match=r"npm could not install playwright-core(?s:.*)no route to host"):
        ensure_browser(Environment(python, Path()), lambda message: None)


def test_what_is_there_is_not_installed_again(tmp_path: Path) -> None:
    name, _, version = browser.PLAYWRIGHT.rpartition("@")
    folder = tmp_path / "browser" / "node_modules" / name
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(f'{{"version": "{version}"}}', encoding="utf-8")
    program(tmp_path / "chromium")
    ensure_browser(Environment(tmp_path / "no python", Path()))


def test_a_program_that_is_missing_does_not_start(tmp_path: Path) -> None:
    assert not starts(tmp_path / "missing")


def test_without_a_browser_the_stage_is_skipped_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(environment: Environment) -> None:
        raise NoBrowserError("no browser here\nand more")

    monkeypatch.setattr(run_tests, "ensure_browser", none)
    with run_tests.browser_beside(HERE, alone=False) as ended:
        outcome = ended()
    assert outcome.ok and outcome.skipped == 1
    run_tests.summarise([outcome])
    shown = capsys.readouterr().out
    assert "SKIPPED" in shown and "NO BROWSER, NOTHING CHECKED: no browser here" in shown
