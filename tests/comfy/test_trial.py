"""What `scripts/try_it.py` does around the nodes: material in, progress, results out, and where it goes on."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from .graphs import nodes_of

if TYPE_CHECKING:
    from comfy_server import ComfyServer

DEMO = Path(__file__).resolve().parents[2] / "demo" / "pictures"


def shipped() -> dict[str, Any]:
    """The example workflow that is run."""
    import trial

    return json.loads(trial.WORKFLOW.read_text(encoding="utf-8"))


def own(folder: Path, kind: str = "subject", name: str = "rex", captions: Path | None = None) -> Any:
    return SimpleNamespace(images=folder, name=name, class_words="dog", kind=kind, captions=captions, prompt=None)


def quick(server: ComfyServer, lesson: Any, folder: str | None = None, steps: int = 2) -> dict[str, Any]:
    """The example workflow with a lesson in it and two sampling steps."""
    from material import put_into
    from workflow import set_widgets

    workflow, info = shipped(), server.object_info()
    put_into(workflow, info, lesson, folder, steps)
    set_widgets(workflow, info, "KSampler", steps=2)
    set_widgets(workflow, info, "CCVD_LearnConcept", preview_every=0)
    return workflow


def test_it_learns_and_leaves_a_video_its_frames_and_the_concept(
    server: ComfyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second time nothing is overwritten, and what is learned already is not learned again."""
    import trial
    from material import demo_lesson

    lesson = demo_lesson("subject", "a <fox> still on blue sky")
    for _ in range(2):
        trial.learn_and_use(server, quick(server, lesson), lesson, tmp_path)
    names = ["fox.mp4", "fox_frames.png", "fox.safetensors"]
    assert {path.name for path in tmp_path.iterdir()} == {*names, *(name.replace("fox", "fox_2") for name in names)}
    with Image.open(tmp_path / "fox_frames.png") as picture:
        assert picture.size == (9 * 132 + 4, 2 * 128 + 12), "the pictures above, the frames below"
    assert (tmp_path / "fox.safetensors").read_bytes() == (tmp_path / "fox_2.safetensors").read_bytes()
    assert "Save Video" in capsys.readouterr().out


def test_results_are_numbered_together(tmp_path: Path) -> None:
    from results import free_names

    for name in ("rex_frames.png", "rex_2.safetensors"):
        (tmp_path / name).touch()
    assert [path.name for path in free_names(tmp_path, "rex")] == ["rex_3.mp4", "rex_3_frames.png", "rex_3.safetensors"]


def test_the_video_is_named_after_the_concept(server: ComfyServer) -> None:
    from material import own_lesson
    from workflow import to_prompt

    lesson = own_lesson(own(DEMO / "wolf", name="Mimi"), Path())
    prompt = to_prompt(quick(server, lesson), server.object_info())
    (saver,) = nodes_of(prompt, "SaveVideo")
    assert prompt[saver]["inputs"]["filename_prefix"] == "ccvd/mimi"


def test_a_taken_name_says_which_file_and_leaves_it(server: ComfyServer, tmp_path: Path) -> None:
    import trial
    from material import own_lesson, put_material
    from results import concept_files

    lesson = own_lesson(own(DEMO / "raccoon", name="raccoon"), Path())
    folder = put_material(server, lesson)
    trial.learn_and_use(server, quick(server, lesson, folder), lesson, tmp_path)
    (file,) = concept_files(server.base, "raccoon")
    before = file.read_bytes()
    with pytest.raises(trial.NameTakenError) as caught:
        trial.learn_and_use(server, quick(server, lesson, folder, steps=3), lesson, tmp_path)
    assert str(file) in str(caught.value) and "--name raccoon2" in str(caught.value)
    assert file.read_bytes() == before


def test_with_ui_a_mistake_leaves_the_page_open_on_the_workflow(
    server: ComfyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import trial
    from comfy_messages import ComfyError
    from material import demo_lesson

    def fail(*_: Any) -> None:
        raise ComfyError("the name is taken")

    opened: list[tuple[str, Path]] = []
    monkeypatch.setattr(trial, "learn_and_use", fail)
    monkeypatch.setattr(trial, "keep_open", lambda *where: opened.append(where))
    lesson, arguments = demo_lesson("motion"), SimpleNamespace(steps=7, ui=True, out=tmp_path)
    trial.attempt(server, arguments, lesson)
    assert "error: the name is taken" in capsys.readouterr().err
    ((address, base),) = opened
    assert address == f"{server.address}/?template=hopping&source=try_it" and base == server.base
    kept = json.loads((base / "custom_nodes" / "try_it" / "example_workflows" / "hopping.json").read_text("utf-8"))
    (learn,) = [node for node in kept["nodes"] if node["type"] == "CCVD_LearnConcept"]
    assert learn["widgets_values"][:3] == ["hopping", "moving up", "motion"] and 7 in learn["widgets_values"]
    arguments.ui = False
    with pytest.raises(ComfyError, match="the name is taken"):
        trial.attempt(server, arguments, lesson)


def test_an_interrupted_lesson_goes_on_from_its_progress(
    server: ComfyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trial
    from material import demo_lesson

    class PressesCtrlC(trial.Progress):
        def __call__(self, kind: str, data: dict[str, Any]) -> None:
            if kind == "progress" and data["max"] == 12 and data["value"] >= 4:
                raise KeyboardInterrupt

    class Listens(trial.Progress):
        heard: list[str] = []  # noqa: RUF012 - one for all

        def __call__(self, kind: str, data: dict[str, Any]) -> None:
            if kind == "progress_text":
                self.heard.append(data["text"])

    lesson = demo_lesson("style")
    workflow = quick(server, lesson, steps=12)
    monkeypatch.setattr(trial, "Progress", PressesCtrlC)
    with pytest.raises(KeyboardInterrupt):
        trial.learn_and_use(server, copy.deepcopy(workflow), lesson, tmp_path)
    assert trial.has_progress(server.base, "noir")
    monkeypatch.setattr(trial, "Progress", Listens)
    trial.learn_and_use(server, workflow, lesson, tmp_path)
    (line,) = [text for text in Listens.heard if text.startswith("Going on with")]
    assert int(line.split()[-1]) >= 4


def in_progress(base: Path, name: str) -> None:
    folder = base / "models" / "ccvd" / "my_concepts" / ".progress"
    folder.mkdir(parents=True)
    (folder / f"{name}.safetensors").touch()


def stop(_: None, error: BaseException) -> None:
    raise error


def test_the_working_folder_stays_only_while_there_is_something_to_go_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import trial
    from material import demo_lesson

    lesson, arguments = demo_lesson("subject"), SimpleNamespace(out=tmp_path, ui=False)
    base = tmp_path / "unfinished_fox"
    with pytest.raises(KeyboardInterrupt), trial.working_folder(arguments, lesson):
        stop(in_progress(base, "fox"), KeyboardInterrupt())
    assert base.is_dir() and str(base) in capsys.readouterr().err
    with trial.working_folder(arguments, lesson) as again:
        assert again == base and trial.has_progress(again, "fox")
    assert not base.exists(), "all is done: nothing is left behind"
    with pytest.raises(OSError, match="no"), trial.working_folder(arguments, lesson):
        stop(base.mkdir(), OSError("no"))
    assert not base.exists()
    arguments.ui = True
    with trial.working_folder(arguments, lesson) as base:
        base.mkdir()
    assert base == tmp_path / "comfyui" and base.is_dir(), "the artist goes on working in it"


def test_captions_of_a_folder_are_read(tmp_path: Path) -> None:
    from material import own_lesson

    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    (tmp_path / "b.txt").write_text("a <rex>\non grass\n", encoding="utf-8")
    assert own_lesson(own(tmp_path), tmp_path).captions == ("", "a <rex> on grass")


@pytest.mark.parametrize("kind", ["subject", "motion", "style"])
def test_every_kind_has_a_demo_lesson(kind: Any) -> None:
    from material import demo_lesson

    lesson = demo_lesson(kind)
    assert all(f"<{lesson.name}>" in text for text in (lesson.prompt, *lesson.captions))
    assert all(file.stat().st_size > 0 for file in lesson.files)
    assert len(lesson.files) == len(lesson.captions) >= 3


def test_a_gif_becomes_a_clip(tmp_path: Path) -> None:
    import av
    from material import own_lesson

    frames = [Image.fromarray(np.full((33, 47, 3), 60 * number, np.uint8)) for number in range(4)]
    frames[0].save(tmp_path / "wave.gif", save_all=True, append_images=frames[1:], duration=125)
    (tmp_path / "made").mkdir()
    lesson = own_lesson(own(tmp_path, "motion"), tmp_path / "made")
    with av.open(lesson.files[0]) as clip:
        shapes = [frame.to_ndarray(format="rgb24").shape for frame in clip.decode(clip.streams.video[0])]
    assert shapes == [(32, 46, 3)] * 4


def test_a_folder_without_the_right_files_is_refused(tmp_path: Path) -> None:
    from material import MaterialError, own_lesson

    (tmp_path / "notes.txt").write_text("nothing to see", encoding="utf-8")
    with pytest.raises(MaterialError, match="no pictures: a subject is learned from pictures"):
        own_lesson(own(tmp_path), tmp_path)
    with pytest.raises(MaterialError, match="no clips: a motion is learned from clips"):
        own_lesson(own(tmp_path, "motion"), tmp_path)


@pytest.mark.parametrize("name", ["my dog", "../rex", "", "rex/2"])
def test_a_name_that_no_concept_can_have_is_refused(name: str) -> None:
    from material import MaterialError, own_lesson

    with pytest.raises(MaterialError, match="cannot be a concept's name"):
        own_lesson(own(DEMO / "wolf", name=name), Path())


def test_captions_must_fit_the_files(tmp_path: Path) -> None:
    from material import MaterialError, own_lesson

    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    captions = tmp_path / "captions.txt"
    captions.write_text("a <rex>\n\na <rex> again\n", encoding="utf-8")
    with pytest.raises(MaterialError, match="2 captions for 1 files"):
        own_lesson(own(tmp_path, captions=captions), tmp_path)


@pytest.mark.parametrize(("what", "kind", "used"), [("wolf", "subject", "images"), ("zigzag", "motion", "video")])
def test_own_files_take_the_place_of_the_demo_pictures(
    server: ComfyServer, what: str, kind: str, used: str, tmp_path: Path
) -> None:
    """The workflow as the page will show it, and as it runs."""
    import trial
    from material import LOADERS, own_lesson, put_material
    from workflow import to_prompt

    lesson = own_lesson(own(DEMO / what, kind, name=what), tmp_path)
    folder = put_material(server, lesson)
    workflow = quick(server, lesson, folder)
    prompt = to_prompt(workflow, server.object_info())
    (loader,) = nodes_of(prompt, LOADERS[lesson.medium].node)
    (learn,) = nodes_of(prompt, "CCVD_LearnConcept")
    inputs = prompt[learn]["inputs"]
    assert prompt[loader]["inputs"] == {"folder": folder}
    assert inputs[used] == [loader, 0] and inputs["captions"] == [loader, 1]
    assert len({"images", "video"} & inputs.keys()) == 1, "nothing hangs on the other input"
    assert not nodes_of(prompt, "CCVD_DemoPictures")
    trial.learn_and_use(server, workflow, lesson, tmp_path)
    assert (tmp_path / f"{what}.mp4").is_file() and (tmp_path / f"{what}.safetensors").is_file()
