"""What `scripts/try_it.py` does around the nodes: material in, progress, results out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from comfy_server import ComfyServer


def folder_to_video(folder: str) -> dict[str, dict[str, Any]]:
    """Pictures of a folder, one after another, as a video. Stock nodes only."""
    return {
        "1": {"class_type": "LoadImageDataSetFromFolder", "inputs": {"folder": folder}},
        "2": {"class_type": "RebatchImages", "inputs": {"images": ["1", 0], "batch_size": 64}},
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["2", 0], "fps": 8}},
        "4": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["3", 0], "filename_prefix": "try", "format": "mp4", "codec": "h264"},
        },
    }


def test_pictures_go_in_and_a_video_with_its_contact_sheet_comes_out(
    server: ComfyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import trial

    lesson = trial.demo_lesson("subject", None, tmp_path)
    folder = trial.put_material(server, lesson)
    prompt = folder_to_video(folder)
    history = server.run(prompt, trial.Progress(prompt, server.object_info()))
    video, sheet = trial.save_results(server, history, lesson, tmp_path / "out")
    assert video.name == "fox.mp4"
    with Image.open(sheet) as picture:
        assert picture.size == (len(lesson.files) * 132 - 4, 2 * 128 + 12), "the pictures above, the frames below"
    assert "Save Video" in capsys.readouterr().out


def test_captions_lie_beside_the_pictures(server: ComfyServer, tmp_path: Path) -> None:
    import trial

    lesson = trial.demo_lesson("subject", None, tmp_path)
    folder = server.base / "input" / trial.put_material(server, lesson)
    texts = [(folder / file.name).with_suffix(".txt").read_text(encoding="utf-8") for file in lesson.files]
    assert texts == list(lesson.captions)


def test_captions_of_a_folder_are_read(tmp_path: Path) -> None:
    import trial

    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    (tmp_path / "b.txt").write_text("a <rex>\non grass\n", encoding="utf-8")
    assert trial.own_lesson(own(tmp_path, "subject"), tmp_path).captions == ("", "a <rex> on grass")


@pytest.mark.parametrize("kind", ["subject", "motion", "style"])
def test_every_kind_has_a_demo_lesson(kind: Any, tmp_path: Path) -> None:
    import trial

    lesson = trial.demo_lesson(kind, None, tmp_path)
    assert all(f"<{lesson.name}>" in text for text in (lesson.prompt, *lesson.captions))
    assert all(file.stat().st_size > 0 for file in lesson.files)
    assert len(lesson.files) == len(lesson.captions)


def own(folder: Path, kind: str, captions: Path | None = None) -> Any:
    return SimpleNamespace(
        images=folder, name="rex", class_words="dog", kind=kind, captions=captions, prompt="a <rex>", steps=None
    )


def test_a_gif_becomes_a_clip(tmp_path: Path) -> None:
    import av
    import trial

    frames = [Image.fromarray(np.full((33, 47, 3), 60 * number, np.uint8)) for number in range(4)]
    frames[0].save(tmp_path / "wave.gif", save_all=True, append_images=frames[1:], duration=125)
    (tmp_path / "made").mkdir()
    lesson = trial.own_lesson(own(tmp_path, "motion"), tmp_path / "made")
    with av.open(lesson.files[0]) as clip:
        shapes = [frame.to_ndarray(format="rgb24").shape for frame in clip.decode(clip.streams.video[0])]
    assert shapes == [(32, 46, 3)] * 4


def test_a_folder_without_the_right_files_is_refused(tmp_path: Path) -> None:
    import trial

    (tmp_path / "notes.txt").write_text("nothing to see", encoding="utf-8")
    with pytest.raises(trial.MaterialError, match="no pictures: a subject is learned from pictures"):
        trial.own_lesson(own(tmp_path, "subject"), tmp_path)
    with pytest.raises(trial.MaterialError, match="no clips: a motion is learned from clips"):
        trial.own_lesson(own(tmp_path, "motion"), tmp_path)


def test_captions_must_fit_the_files(tmp_path: Path) -> None:
    import trial

    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    captions = tmp_path / "captions.txt"
    captions.write_text("a <rex>\n\na <rex> again\n", encoding="utf-8")
    with pytest.raises(trial.MaterialError, match="2 captions for 1 files"):
        trial.own_lesson(own(tmp_path, "subject", captions), tmp_path)


@pytest.mark.parametrize(
    ("kind", "loader", "used"),
    [
        ("subject", "LoadImageTextDataSetFromFolder", "images"),
        ("motion", "LoadVideoTextDataSetFromFolder", "video"),
    ],
)
def test_the_lesson_is_put_into_the_workflow(kind: Any, loader: str, used: str, tmp_path: Path) -> None:
    import trial

    own_inputs = {"name": "", "class_words": "", "kind": "", "captions": "", "steps": 1, "images": ["1", 0]}
    prompt = {
        "1": {"class_type": "LoadImageTextDataSetFromFolder", "inputs": {"folder": "x"}},
        "2": {"class_type": trial.LEARN, "inputs": own_inputs},
        "3": {"class_type": trial.AGGREGATE, "inputs": {"prompt": ""}},
    }
    lesson = trial.demo_lesson(kind, "something else", tmp_path)
    trial.prepare(prompt, lesson, "folder", steps=7)
    assert prompt["1"] == {"class_type": loader, "inputs": {"folder": "folder"}}
    assert prompt["2"]["inputs"] == {
        "name": lesson.name,
        "class_words": lesson.class_words,
        "kind": kind,
        "captions": ["1", 1],
        "steps": 7,
        used: ["1", 0],
    }
    assert prompt["3"]["inputs"] == {"prompt": "something else"}
