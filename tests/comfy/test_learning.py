"""Learn Concept in the real ComfyUI: what it makes, what it shows meanwhile, and how it stops and goes on."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import safetensors
import torch
from PIL import Image

from .graphs import Graph, Node, Run, concept_file, files_below, put_clip, put_pictures, run

if TYPE_CHECKING:
    from comfy_server import ComfyServer

SIZES = [(64, 64), (96, 64), (48, 80)]
"""Different sizes and aspects, so that no two pictures fit into one batch."""
CAPTIONS = ["a <rex> on green grass", "a <rex>", "a <rex> moving right"]


@pytest.fixture(scope="module", autouse=True)
def pictures(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the pictures of `SIZES`, as LoadImageDataSetFromFolder knows it."""
    put_pictures(server, tmp_path_factory.mktemp("pictures"), "learn", SIZES)
    put_pictures(server, tmp_path_factory.mktemp("large"), "large", [(128, 128)] * 2)
    return "learn"


def learning(folder: str = "learn", **changes: Any) -> tuple[Graph, Node]:
    """A graph that learns from a folder of pictures."""
    graph = Graph()
    images = graph.add("LoadImageDataSetFromFolder", folder=folder)
    return graph, graph.learn(**{"images": images.out(), **changes})


def metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata()


def progress_file(server: ComfyServer, library: str, name: str = "rex") -> Path:
    return concept_file(server, f"{library}/.progress", name)


def test_learning_shows_how_far_it_is_and_leaves_a_concept(server: ComfyServer) -> None:
    graph, learn = learning(library="shown", captions="\n".join(CAPTIONS), preview_every=2)
    report = graph.show(learn.out(2))
    loss = graph.add("PreviewImage", images=learn.out(1))
    done = run(server, graph)
    assert done.steps(learn)[-1] == 6 and sorted(done.steps(learn)) == done.steps(learn)
    texts = done.texts(learn)
    announced = r"Learning <rex>: [\d.]+ million parameters, 6 steps, about [\d.]+ GB .* and \d+ s"
    assert any(re.match(announced, text) for text in texts)
    assert any(re.fullmatch(r"step 1/6 {2}loss \d+\.\d{4} {2}\d+ s left", text) for text in texts)
    assert any(re.fullmatch(r"step 5/6 {2}loss \d+\.\d{4} {2}\d+ s left", text) for text in texts)
    assert len(done.previews()) == 2, "after steps 2 and 4; step 6 is the last"
    for data in done.previews():
        width, height = Image.open(io.BytesIO(data)).size
        assert min(width, height) >= 40
    assert re.search(r"Learned <rex> \(subject, 'dog'\) in 6 steps.*Loss \d\S* -> \d", done.text(report), re.DOTALL)
    assert Image.open(done.pictures(server, loss)[0]).size == (640, 360)
    (thumbnail,) = done.pictures(server, learn)
    about = metadata(concept_file(server, "shown", "rex"))
    assert (about["ccvd.name"], about["ccvd.kind"], about["ccvd.class_words"]) == ("rex", "subject", "dog")
    assert thumbnail.read_bytes() == base64.b64decode(about["ccvd.preview"]), "the node shows the concept itself"
    assert not done.history["outputs"][learn.id].get("animated")
    assert about["ccvd.order"] == "1" and json.loads(about["ccvd.settings"])["steps_done"] == 6
    assert files_below(concept_file(server, "shown", "rex").parent).keys() == {"rex.safetensors"}


def test_sample_prompts_are_drawn_through_the_steps_as_one_picture(server: ComfyServer) -> None:
    samples = "a <rex> on blue sky\n<rex> moving left"
    graph, learn = learning(library="sampled", preview_every=2, sample_prompts=samples)
    done = run(server, graph)
    sizes = [Image.open(io.BytesIO(data)).size for data in done.previews()]
    assert len(sizes) == 2 and sizes[1][0] > sizes[0][0], "a column more"
    thumbnail, strip = (Image.open(path) for path in done.pictures(server, learn))
    assert strip.width > sizes[1][0] / 1536 * 100 and strip.width > 3 * 64 and strip.height > 2 * thumbnail.height / 4
    plain, _ = learning(library="not_sampled", preview_every=0)
    run(server, plain)
    one, other = (concept_file(server, name, "rex").read_bytes() for name in ("sampled", "not_sampled"))
    assert one[-4096:] == other[-4096:], "drawing changes nothing"
    refusing, _ = learning(library="refused", sample_prompts="a dog")
    from comfy_messages import ComfyError

    with pytest.raises(ComfyError, match="does not name the concept"):
        run(server, refusing)


def test_a_concept_is_taught_further_and_the_earlier_version_stays(server: ComfyServer) -> None:
    run(server, learning(library="versions", captions="\n".join(CAPTIONS))[0])
    first = concept_file(server, "versions", "rex").read_bytes()
    further = {"library": "versions", "captions": "\n".join(CAPTIONS), "go_on_from": "<Rex>"}
    graph, learn = learning(**further, preview_every=2, sample_prompts="<rex> moving left")
    report = graph.show(learn.out(2))
    assert "Learned <rex_2>" in run(server, graph).text(report)
    about = json.loads(metadata(concept_file(server, "versions", "rex_2"))["ccvd.settings"])
    assert about["went_on_from"] == ["rex"] and concept_file(server, "versions", "rex").read_bytes() == first
    graph, learn = learning(**further, preview_every=3)
    report = graph.show(learn.out(2))
    assert "<rex_2> was learned before" in run(server, graph).text(report)
    concept_file(server, "versions", "rex_2").unlink()
    assert "Learned <rex_2>" in run(server, graph).text(report), "a version that is gone is learned again"


@pytest.mark.parametrize(("percent", "size"), [(0, (144, 112)), (1, (112, 80))])
def test_large_pictures_are_learned_at_a_size_that_suits_the_base(
    server: ComfyServer, tmp_path: Path, percent: int, size: tuple[int, int]
) -> None:
    put_pictures(server, tmp_path, "huge", [(640, 480)])
    graph, _ = learning("huge", library=f"huge_{percent}", steps=2, preview_every=1, megapixels_percent=percent)
    width, height = Image.open(io.BytesIO(run(server, graph).previews()[0])).size
    assert width / height == pytest.approx(size[0] / size[1], abs=0.01), "previews are enlarged, their shape stays"


def test_the_same_inputs_give_the_same_file(server: ComfyServer) -> None:
    for library in ("same_1", "same_2"):
        run(server, learning(library=library)[0])
    first, second = (concept_file(server, library, "rex").read_bytes() for library in ("same_1", "same_2"))
    assert first == second
    run(server, learning(library="same_3", seed=1)[0])
    assert concept_file(server, "same_3", "rex").read_bytes() != first


def test_a_range_of_noise_is_learned_in_and_kept_in_the_file(server: ComfyServer) -> None:
    files = {}
    for library, changes in {
        "noise_all": {},
        "noise_high": {"noise_from": 0.875},
        "noise_low": {"noise_to": 0.875},
    }.items():
        run(server, learning(library=library, **changes)[0])
        files[library] = concept_file(server, library, "rex")
    ranges = []
    for path in files.values():
        settings = json.loads(metadata(path)["ccvd.settings"])
        ranges.append((settings["noise_from"], settings["noise_to"]))
    assert ranges == [(0, 1), (0.875, 1), (0, 0.875)]
    assert len({path.read_bytes() for path in files.values()}) == 3


def test_captions_longer_than_the_text_encoders_padding_are_learned(server: ComfyServer) -> None:
    """The demo model pads texts to 32 rows: a longer caption shares steps with shorter ones."""
    long = "a <rex> still " + "on very green grass with a blue sky and a red star " * 4
    graph, learn = learning(library="long", captions="\n".join([long, *CAPTIONS[1:]]), preview_every=2)
    done = run(server, graph)
    assert done.steps(learn)[-1] == 6 and len(done.previews()) == 2


def test_pictures_are_learned_as_still_clips_too(server: ComfyServer) -> None:
    libraries = {"still_demo": 0, "still_nine": 9, "still_none": 1}
    for library, frames in libraries.items():
        run(server, learning(library=library, still_frames=frames)[0])
    demo, nine, none = (concept_file(server, library, "rex").read_bytes() for library in libraries)
    assert demo == nine != none


def test_a_model_that_carries_concepts_is_learned_on_like_the_bare_one(server: ComfyServer) -> None:
    """Hooks of a sampled MODEL must not act on learning, nor what learning leaves behind on the next sampling.

    That holds whether the MODEL for learning is the bare one, after another with concepts was loaded, or that other.
    """
    run(server, learning(library="bare_1")[0])
    graph = Graph()
    used = graph.aggregate(graph.library("bare_1"), "a <rex> on green grass")
    saved = graph.save(graph.sample(used.out(0), used.out(1)))
    before = run(server, graph).latent(server, saved)
    run(server, learning(library="bare_2")[0])
    graph, learn = learning(library="bare_3")
    used = graph.aggregate(graph.library("bare_1"), "a <rex> on green grass")
    graph.nodes[learn.id]["inputs"]["model"] = used.out(0)
    run(server, graph)
    first, *others = (concept_file(server, f"bare_{number}", "rex").read_bytes() for number in (1, 2, 3))
    assert others == [first, first]
    graph = Graph()
    used = graph.aggregate(graph.library("bare_2"), "a <rex> on green grass")
    saved = graph.save(graph.sample(used.out(0), used.out(1)))
    assert torch.equal(run(server, graph).latent(server, saved), before)


def test_learning_leaves_the_model_bit_for_bit_as_it_was(server: ComfyServer) -> None:
    def sampled(repeated: int) -> tuple[Graph, Node, Node]:
        # Repeating the latent changes nothing but what ComfyUI knows the result by: KSampler has to run again.
        graph = Graph()
        latent = graph.empty_latent()
        for _ in range(repeated):
            latent = graph.add("RepeatLatentBatch", samples=latent.out(), amount=1)
        sampler = graph.sample(graph.model, graph.encode("a dog on green grass").out(), latent_image=latent.out())
        return graph, sampler, graph.save(sampler)

    graph, _, saved = sampled(0)
    before = run(server, graph).latent(server, saved)
    run(server, learning(library="stock", preview_every=2)[0])
    graph, sampler, saved = sampled(1)
    after = run(server, graph)
    assert graph.base.id in after.cached() and sampler.id not in after.cached()
    assert torch.equal(after.latent(server, saved), before)


def test_nothing_is_trained_twice(server: ComfyServer) -> None:
    graph, learn = learning(library="twice")
    loss = graph.add("PreviewImage", images=learn.out(1))
    first = run(server, graph)
    path = concept_file(server, "twice", "rex")
    written = path.stat().st_mtime_ns
    again = run(server, graph)
    assert learn.id in again.cached() and not again.steps(learn)
    # `preview_every` does not change what is learned, but ComfyUI cannot know that.
    graph, learn = learning(library="twice", preview_every=3)
    loss = graph.add("PreviewImage", images=learn.out(1))
    report = graph.show(learn.out(2))
    again = run(server, graph)
    assert learn.id not in again.cached() and not again.steps(learn)
    assert "learned before" in again.text(report)
    curves = [Image.open(done.pictures(server, loss)[0]).tobytes() for done in (first, again)]
    assert curves[0] == curves[1], "the curve of the steps that were made, not an empty one"
    shown = [done.pictures(server, learn)[0].read_bytes() for done in (first, again)]
    assert shown[0] == shown[1]
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize("name", ["rex", "<Rex>"])
def test_a_concept_whose_file_was_deleted_is_learned_again(server: ComfyServer, name: str) -> None:
    graph, learn = learning(library=f"gone_{len(name)}", name=name, steps=2)
    run(server, graph)
    path = concept_file(server, f"gone_{len(name)}", "rex")
    before = path.read_bytes()
    path.unlink()
    assert run(server, graph).steps(learn)
    assert path.read_bytes() == before


def test_a_linked_name_does_not_make_everything_run_again(server: ComfyServer) -> None:
    graph = Graph()
    images = graph.add("LoadImageDataSetFromFolder", folder="learn")
    name = graph.add("PrimitiveString", value="rex")
    learn = graph.learn(images=images.out(), library="linked", name=name.out(), steps=2)
    run(server, graph)
    assert learn.id in run(server, graph).cached()


def test_a_taken_name_is_refused_and_the_old_file_kept(server: ComfyServer) -> None:
    from comfy_messages import ComfyError

    run(server, learning(library="taken", steps=2)[0])
    before = files_below(concept_file(server, "taken", "rex").parent)
    with pytest.raises(ComfyError, match=r"already has a concept <rex>.*Choose another name") as error:
        run(server, learning(library="taken", steps=3)[0])
    assert error.value.node_type == "CCVD_LearnConcept"
    assert files_below(concept_file(server, "taken", "rex").parent) == before


def test_a_batch_counts_as_several_pictures(server: ComfyServer) -> None:
    graph = Graph()
    batch = graph.add("EmptyImage", width=64, height=64, batch_size=2, color=0x3060C0)
    graph.learn(images=batch.out(), library="batch", steps=2, kind="style", captions="a <rex>\na <rex> again")
    run(server, graph)
    assert metadata(concept_file(server, "batch", "rex"))["ccvd.kind"] == "style"


def test_a_motion_is_learned_from_clips(server: ComfyServer, tmp_path: Path) -> None:
    put_clip(server, tmp_path, "clips", "right.avi", "mpeg4")
    put_clip(server, tmp_path, "clips", "right.mp4", "libx264")
    graph = Graph()
    clips = graph.add("LoadVideoDataSetFromFolder", folder="clips")
    learn = graph.learn(
        video=clips.out(), library="moves", name="glide", class_words="moving right", kind="motion", steps=4
    )
    assert run(server, graph).steps(learn)[-1] == 4
    path = concept_file(server, "moves", "glide")
    assert metadata(path)["ccvd.kind"] == "motion"
    with safetensors.safe_open(path, "pt") as file:
        names = list(file.keys())
        assert all("self_attn" in name or ".ffn." in name for name in names)
        largest = max(float(file.get_tensor(name).abs().max()) for name in names if "lora_B" in name)
    assert largest > 0


def test_clips_are_learned_at_their_own_speed(server: ComfyServer, tmp_path: Path) -> None:
    """Two seconds at 24 a second are 16 frames of the demo model's: one window of nine from the start, or two."""
    put_clip(server, tmp_path, "speed", "walk.mp4", "libx264", frames=48, rate=24)
    files = {}
    for windows, expected in (("first", "1 x 9 frames at 8 a second (1.1 s)"), ("all", "2 x 9 frames")):
        graph = Graph()
        clips = graph.add("LoadVideoDataSetFromFolder", folder="speed")
        lesson = {"name": "glide", "kind": "motion", "steps": 2, "preview_every": 1, "windows": windows}
        learn = graph.learn(video=clips.out(), library=f"speed_{windows}", **lesson)
        done = run(server, graph)
        (said,) = (text for text in done.texts(learn) if text.startswith("Learning <glide>"))
        assert expected in said
        path = concept_file(server, f"speed_{windows}", "glide")
        files[windows] = path.read_bytes()
        (thumbnail,) = done.pictures(server, learn)
        assert done.history["outputs"][learn.id]["animated"] == [True]
        preview = base64.b64decode(metadata(path)["ccvd.preview"])
        assert thumbnail.read_bytes() == preview
        with Image.open(io.BytesIO(preview)) as moving:
            assert moving.format == "WEBP" and getattr(moving, "n_frames", 1) == 9
    assert files["first"] != files["all"]


def test_videos_that_are_pictures_already_or_trimmed(server: ComfyServer, tmp_path: Path) -> None:
    put_clip(server, tmp_path, "", "long.mp4", "libx264", frames=48, rate=8)
    graph = Graph()
    images = graph.add("EmptyImage", width=64, height=64, batch_size=24, color=0x3060C0)
    made = graph.add("CreateVideo", images=images.out(), fps=24.0)
    motion = {"name": "glide", "kind": "motion", "steps": 1, "length": 33}
    first = graph.learn(video=made.out(), library="made", **motion)
    video = graph.add("LoadVideo", file="long.mp4")
    trimmed = graph.add("Video Slice", video=video.out(), start_time=1.0, duration=2.0, strict_duration=True)
    second = graph.learn(video=trimmed.out(), library="trimmed", **motion)
    done = run(server, graph)
    for learn, frames in ((first, 5), (second, 13)):
        assert any(f"1 x {frames} frames at 8 a second" in text for text in done.texts(learn))


def test_a_clip_that_is_too_short_is_named(server: ComfyServer, tmp_path: Path) -> None:
    from comfy_messages import ComfyError

    put_clip(server, tmp_path, "short", "blink.mp4", "libx264", frames=12, rate=24)
    graph = Graph()
    clips = graph.add("LoadVideoDataSetFromFolder", folder="short")
    graph.learn(video=clips.out(), library="short", name="glide", kind="motion")
    with pytest.raises(
        ComfyError, match=r"Clip 1 \(blink\.mp4\) is too short: at this model's 8 frames a second it has 1"
    ):
        run(server, graph)


def test_what_is_done_before_the_first_step_is_said(server: ComfyServer, tmp_path: Path) -> None:
    put_clip(server, tmp_path, "said", "right.mp4", "libx264")
    graph = Graph()
    clips = graph.add("LoadVideoDataSetFromFolder", folder="said")
    images = graph.add("LoadImageDataSetFromFolder", folder="learn")
    learn = graph.learn(video=clips.out(), images=images.out(), library="said", steps=1, still_frames=1)
    texts = run(server, graph).texts(learn)
    assert texts[:9] == [
        "Reading clip 1 of 1",
        "Encoding pictures 1 of 4",
        "Encoding pictures 2 of 4",
        "Encoding pictures 3 of 4",
        "Encoding clips 4 of 4",
        "Reading the captions",
        "Loading the model",
        "Measuring a step",
        texts[8],
    ]
    assert texts[8].startswith("Learning <rex>: ") and texts[9].startswith("step 1/1")


def test_names_survive_the_page_which_reads_the_lines_as_html(server: ComfyServer) -> None:
    graph, learn = learning(library="html", name="style", class_words="dog", steps=1)
    raw = run(server, graph).raw_texts(learn)
    assert any("Learning &lt;style&gt;: " in text for text in raw)
    assert not any("<" in text or ">" in text for text in raw)


def test_two_lessons_in_one_queue_keep_their_order(server: ComfyServer) -> None:
    graph, first = learning(library="chain", steps=2)
    images = graph.add("LoadImageDataSetFromFolder", folder="learn")
    graph.learn(images=images.out(), library="chain", name="kit", class_words="cat", steps=2, after=first.out())
    run(server, graph)
    orders = {name: metadata(concept_file(server, "chain", name))["ccvd.order"] for name in ("rex", "kit")}
    assert orders == {"rex": "1", "kit": "2"}


def test_cancel_stops_within_one_step_and_the_next_queue_goes_on(server: ComfyServer) -> None:
    from comfy_messages import ComfyInterruptedError

    # Large pictures and a preview after every step: a step takes long enough that Cancel comes before the next one.
    lesson = {"folder": "large", "steps": 8, "preview_every": 1}
    run(server, learning(library="whole", **lesson)[0])
    graph, learn = learning(library="halves", **lesson)
    stopped = Run()
    reserved: list[int] = []

    def cancel_at_three(kind: str, data: dict[str, Any]) -> None:
        stopped.events.append((kind, data))
        if kind == "progress" and data["node"] == learn.id and data["value"] == 3:
            reserved.append(progress_file(server, "halves").with_name("rex.reserved").stat().st_size)
            server.interrupt()

    with pytest.raises(ComfyInterruptedError):
        server.run(graph.nodes, cancel_at_three)
    last = stopped.steps(learn)[-1]
    assert last in (3, 4)
    taken = concept_file(server, "whole", "rex").stat().st_size + progress_file(server, "halves").stat().st_size
    assert reserved and min(reserved) >= taken, "room for both was taken before the first step"
    assert files_below(concept_file(server, "halves", "rex").parent).keys() == {".progress/rex.safetensors"}
    rest = run(server, graph)
    assert f"Going on with <rex> from step {last}" in rest.texts(learn)
    assert sorted(set(rest.steps(learn))) == list(range(last + 1, 9))
    assert concept_file(server, "halves", "rex").read_bytes() == concept_file(server, "whole", "rex").read_bytes()
    assert not progress_file(server, "halves").exists()


def test_a_loss_that_is_no_number_says_what_to_do_and_keeps_the_work(server: ComfyServer) -> None:
    """An infinite emphasis makes one caption's text context infinite; the others are learned until it is drawn."""
    from comfy_messages import ComfyError

    captions = ["a <rex>", "a <rex>", "a <rex> on (grass:1e39)"]
    graph, learn = learning(library="nan", captions="\n".join(captions), still_frames=1, steps=40, seed=2)
    failed = Run()
    with pytest.raises(ComfyError, match=r"(?s)loss became (nan|inf).*Lower the learning rate") as error:
        run(server, graph, failed)
    kept = int(re.search(r"up to step (\d+) is kept", error.value.message)[1])
    assert kept == failed.steps(learn)[-1] >= 1
    assert not concept_file(server, "nan", "rex").exists()
    path = progress_file(server, "nan")
    with safetensors.safe_open(path, "pt") as file:
        assert int(file.get_tensor("done")) == kept
        assert all(bool(file.get_tensor(name).isfinite().all()) for name in file.keys())  # noqa: SIM118 - not a dict
    assert len(json.loads(metadata(path)["losses"])) == kept
    again = Run()
    with pytest.raises(ComfyError, match=rf"up to step {kept} is kept"):
        run(server, graph, again)
    assert f"Going on with <rex> from step {kept}" in again.texts(learn) and not again.steps(learn)
    # What the message advises: the work is taken up with the lower rate.
    slower, learn = learning(
        library="nan", captions="\n".join(captions), still_frames=1, steps=40, seed=2, learning_rate=0.0003
    )
    again = Run()
    with pytest.raises(
        ComfyError, match=rf"up to step {kept} is kept.*learning rate changed, and it goes on from there"
    ):
        run(server, slower, again)
    assert f"Going on with <rex> from step {kept}, with learning rate 0.0003 instead of 0.001" in again.texts(learn)
    other, learn = learning(library="nan", captions="\n".join(captions), still_frames=1, steps=40, seed=3)
    again = Run()
    with pytest.raises(ComfyError, match="loss became"):
        run(server, other, again)
    assert any("is of other pictures or settings: starting afresh" in text for text in again.texts(learn))
    assert not any("Going on" in text for text in again.texts(learn))


def test_a_lesson_goes_on_with_another_learning_rate(server: ComfyServer) -> None:
    from comfy_messages import ComfyInterruptedError

    lesson = {"folder": "large", "steps": 8, "preview_every": 1, "library": "rates"}
    graph, learn = learning(**lesson)
    stopped = Run()

    def cancel_at_three(kind: str, data: dict[str, Any]) -> None:
        stopped.events.append((kind, data))
        if kind == "progress" and data["node"] == learn.id and data["value"] == 3:
            server.interrupt()

    with pytest.raises(ComfyInterruptedError):
        server.run(graph.nodes, cancel_at_three)
    done = stopped.steps(learn)[-1]
    graph, learn = learning(**lesson, learning_rate=0.0002)
    assert run(server, graph).steps(learn)[0] == done + 1
    settings = json.loads(metadata(concept_file(server, "rates", "rex"))["ccvd.settings"])
    assert settings["learning_rates"] == [[0, 0.001], [done, 0.0002]] and settings["lr"] == 0.0002


def test_progress_that_cannot_be_saved_does_not_hide_cancel(server: ComfyServer) -> None:
    """A folder stands where the file should be, which fails as a full disk does."""
    from comfy_messages import ComfyInterruptedError

    (progress_file(server, "blocked_progress") / "x").mkdir(parents=True)
    graph, learn = learning(library="blocked_progress", folder="large", steps=8, preview_every=1)
    stopped = Run()

    def cancel_at_two(kind: str, data: dict[str, Any]) -> None:
        stopped.events.append((kind, data))
        if kind == "progress" and data["node"] == learn.id and data["value"] == 2:
            server.interrupt()

    with pytest.raises(ComfyInterruptedError):
        server.run(graph.nodes, cancel_at_two)
    assert any("Progress could not be saved" in text for text in stopped.texts(learn))
    assert run(server, graph).steps(learn)[-1] == 8, "nor the lesson itself"


def test_damaged_progress_is_not_used_and_named(server: ComfyServer) -> None:
    path = progress_file(server, "flipped")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x10" + bytes(200))
    graph, learn = learning(library="flipped", steps=2)
    done = run(server, graph)
    assert f"The saved progress {path} is damaged and is not used: starting afresh" in done.texts(learn)
    assert done.steps(learn)[0] == 1


def test_the_largest_learning_rate_of_the_widget_is_accepted(server: ComfyServer) -> None:
    run(server, learning(library="fast", learning_rate=1.0, steps=2)[0])
    settings = json.loads(metadata(concept_file(server, "fast", "rex"))["ccvd.settings"])
    assert settings["lr"] == 1.0 and settings["token_lr"] <= 1.0


def test_a_killed_server_loses_little(comfyui: Path, tmp_path: Path) -> None:
    from comfy_messages import ComfyError, ComfyInterruptedError
    from comfy_server import ComfyServer

    base = tmp_path / "base"
    quick = learning(library="killed", name="kit", class_words="cat", steps=1)
    graph, learn = learning(library="killed", folder="large", steps=10_000, preview_every=1)
    with ComfyServer(comfyui, base_directory=base) as server:
        put_pictures(server, tmp_path, "learn", [(64, 64)])
        put_pictures(server, tmp_path, "large", [(128, 128)] * 2)
        run(server, quick[0])
        progress = progress_file(server, "killed")

        def kill(kind: str, data: dict[str, Any]) -> None:
            if kind == "progress" and progress.is_file():
                server._process.kill()

        with pytest.raises(ComfyError):
            server.run(graph.nodes, kill)
    done = len(json.loads(metadata(progress)["losses"]))
    assert done >= 1
    with ComfyServer(comfyui, base_directory=base) as server:
        report = quick[0].show(quick[1].out(2))
        assert "learned before" in run(server, quick[0]).text(report)
        concept_file(server, "killed", "kit").unlink()
        assert "Learned <kit>" in run(server, quick[0]).text(report), "a cached 'learned before' hides no deleted file"
        went_on = Run()

        def cancel(kind: str, data: dict[str, Any]) -> None:
            went_on.events.append((kind, data))
            if kind == "progress" and data["node"] == learn.id:
                server.interrupt()

        with pytest.raises(ComfyInterruptedError):
            server.run(graph.nodes, cancel)
        assert f"Going on with <rex> from step {done}" in went_on.texts(learn)
        assert went_on.steps(learn)[0] == done + 1
