"""`python -m ccvd_core` as somebody types it, on the demo base."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from base import WEIGHTS

from ccvd_core.headless import lesson
from ccvd_core.headless.commands import main

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "demo" / "pictures"
MODEL = ["--model", str(WEIGHTS), "--device", "cpu"]
QUICK = ["--steps", "3", "--area", "4096", "--still-frames", "5"]


class Shell:
    """Runs commands and reads what they print."""

    def __init__(self, library: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._library, self._capsys = library, capsys

    def run(self, *words: str, status: int = 0) -> tuple[list[dict[str, Any]], str]:
        """The JSON objects of one command, and its error stream."""
        self._capsys.readouterr()
        assert main([*words, "--library", str(self._library), "--json"]) == status
        out, err = self._capsys.readouterr()
        return [json.loads(line) for line in out.splitlines()], err

    def learn(self, what: str, *more: str, status: int = 0) -> tuple[list[dict[str, Any]], str]:
        media = PICTURES / what
        return self.run("learn", str(media), *MODEL, *QUICK, *more, status=status)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "library", capsys)


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(file.streams.video[0])])


def test_a_concept_is_learned_listed_shown_and_drawn(shell: Shell, tmp_path: Path):
    told, _ = shell.learn("fox", "--name", "fox", "--class-words", "dog")
    assert [line["step"] for line in told[:-1]] == [1, 2, 3] and all(line["loss"] > 0 for line in told[:-1])
    assert told[-1] == {"learned": "fox", "file": str(tmp_path / "library" / "fox.safetensors")}
    (listed,), _ = shell.run("list")
    assert listed == {"concepts": [{"name": "fox", "kind": "subject", "class_words": "dog"}], "problems": []}
    (shown,), _ = shell.run("show", "fox")
    assert shown["class_words"] == "dog" and shown["settings"]["steps_done"] == 3 and shown["adapters"] > 0
    video = tmp_path / "made" / "fox.mp4"
    size = ["--width", "48", "--height", "32", "--length", "5", "--steps", "2"]
    told, _ = shell.run("generate", *MODEL, "--prompt", "a <fox> on green grass", "--out", str(video), *size)
    assert told[-1] == {"video": str(video), "frames": 5}
    assert frames_of(video).shape == (5, 32, 48, 3)


def test_a_video_is_edited_inside_its_regions_alone(shell: Shell, tmp_path: Path):
    layout = {
        "version": 1, "width": 64, "height": 64,
        "regions": [{"name": "", "prompt": "a star", "color": "#ffffff", "strength": 1,
                     "keyframes": [{"t": 0, "box": [0.5, 0.0, 0.5, 1.0]}]}],
    }  # fmt: skip
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    source, edited = tmp_path / "source.mp4", tmp_path / "edited.mp4"
    size = ["--width", "64", "--height", "64", "--length", "5", "--steps", "2"]
    shell.run("generate", *MODEL, "--prompt", "a dog on blue sky", "--out", str(source), *size)
    words = ["--prompt", "on blue sky", "--layout", str(tmp_path / "layout.json"), "--out", str(edited), "--steps", "2"]
    shell.run("edit", str(source), *MODEL, *words, "--area", "4096", "--length", "5")
    before, after = (frames_of(path).astype(int) for path in (source, edited))
    change = np.abs(before - after)
    assert change[:, :, :28].mean() < 3, "only what the codec changes"
    assert change[:, :, 36:].mean() > 3 * change[:, :, :28].mean()


def test_a_stopped_lesson_goes_on_and_a_finished_one_is_not_learned_again(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Stops:
        def __init__(self) -> None:
            self.steps = 0

        def __call__(self, *_: object) -> None:
            self.steps += 1
            if self.steps == 2:
                raise KeyboardInterrupt

    usual = lesson.LessonLoop.run
    monkeypatch.setattr(lesson.LessonLoop, "run", lambda self, on_step: usual(self, Stops()))
    _, said = shell.learn("fox", "--name", "fox", "--class-words", "dog", status=130)
    assert "the same command goes on from here" in said
    monkeypatch.setattr(lesson.LessonLoop, "run", usual)
    told, _ = shell.learn("fox", "--name", "fox", "--class-words", "dog")
    assert [line["step"] for line in told[:-1]] == [3]
    again, _ = shell.learn("fox", "--name", "fox", "--class-words", "dog")
    assert len(again) == 1 and again[0]["learned"] == "fox"
    told, said = shell.learn("wolf", "--name", "fox", "--class-words", "dog", status=1)
    assert "already has a concept <fox>, learned from other pictures" in told[-1]["error"]
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["learn", "nowhere", *MODEL, "--name", "rex", "--class-words", "dog"], "There is no folder nowhere"),
        (["learn", str(PICTURES / "fox"), *MODEL, "--name", "a/b", "--class-words", "dog"], "cannot be used"),
        (["learn", str(PICTURES / "fox"), *MODEL, "--name", "fox", "--class-words", " "], "Class words are missing"),
        (
            ["learn", str(PICTURES / "fox"), *MODEL, "--name", "hop", "--class-words", "moving up", "--kind", "motion"],
            "learned from clips; 1.png is a picture",
        ),
        (["show", "rex"], "rex"),
        (["generate", "--model", "nowhere", "--prompt", "a dog"], "There is no folder nowhere"),
        (["generate", *MODEL, "--prompt", "a <rex>"], "<rex>"),
        (["generate", *MODEL, "--prompt", "a dog", "--layout", "nowhere.json"], "There is no layout file nowhere.json"),
        (["edit", "nowhere.mp4", *MODEL, "--prompt", "a dog"], "There is no video nowhere.mp4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_one_line_and_a_status(shell: Shell, words: Sequence[str], message: str):
    told, said = shell.run(*words, status=1)
    assert message in told[-1]["error"]
    assert len(said.strip().splitlines()) == 1 and said.startswith("ccvd: ")


def test_a_concept_is_taught_further_as_a_new_version(shell: Shell, tmp_path: Path):
    shell.learn("fox", "--name", "fox", "--class-words", "dog")
    first = (tmp_path / "library" / "fox.safetensors").read_bytes()
    more = ["--name", "fox", "--class-words", "dog", "--go-on-from", "fox", "--seed", "1"]
    told, _ = shell.learn("fox", *more)
    assert told[-1]["learned"] == "fox_2" and len(told) == 4
    assert (tmp_path / "library" / "fox.safetensors").read_bytes() == first
    (shown,), _ = shell.run("show", "fox_2")
    assert shown["settings"]["went_on_from"] == ["fox"] and shown["settings"]["seed"] == 1
    again, _ = shell.learn("fox", *more)
    assert len(again) == 1 and again[0]["learned"] == "fox_2", "nothing to do"
    told, _ = shell.learn("fox", *more[:-2], "--rank", "3", status=1)
    assert "Going on from <fox> keeps its rank" in told[-1]["error"]


def test_a_motion_is_learned_from_clips(shell: Shell):
    told, _ = shell.learn(
        "hopping", "--name", "hopping", "--class-words", "moving up", "--kind", "motion", "--length", "5"
    )
    assert told[-1]["learned"] == "hopping"


def test_it_runs_from_a_shell(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "ccvd_core", "list", "--library", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "has no concepts yet" in done.stdout
