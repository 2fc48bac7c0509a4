"""A lesson's progress on disk: taken up whole or not at all, and never more important than the lesson."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts import whole_files
from ccvd_core.concepts.whole_files import ReservedSpace
from ccvd_core.errors import LearningError, LibraryError
from ccvd_core.learning import lesson_loop
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.lesson_plan import reserve
from ccvd_core.learning.progress_file import ProgressFile
from ccvd_core.learning.step import LearningSettings

SETTINGS = LearningSettings(steps=4, rank=1, lr=1e-2, token_lr=1e-2)


def learner(backbone: Backbone, steps: int = 0) -> ConceptLearner:
    latents = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    made = ConceptLearner(backbone, [Example(latents, "a <rex>")], "rex", "subject", "dog", SETTINGS)
    with Attachment(backbone, [made.live_adapters()]) as attachment:
        for _ in range(steps):
            made.step(attachment)
    return made


@pytest.fixture
def wan(backbones: dict[str, Backbone]) -> Backbone:
    return backbones["diffusers"]


def saved(path: Path, wan: Backbone) -> ConceptLearner:
    half = learner(wan, 2)
    ProgressFile(path, "job", [0.5, 0.4], [(0, 1e-2)]).save(half)
    return half


def test_progress_is_taken_up_where_it_was_left(wan: Backbone, tmp_path: Path) -> None:
    half = saved(tmp_path / "rex.safetensors", wan)
    fresh, progress = learner(wan), ProgressFile(tmp_path / "rex.safetensors", "job")
    assert progress.restore(fresh)
    assert (progress.losses, progress.rates, progress.problem) == ([0.5, 0.4], [(0, 1e-2)], "")
    assert all(torch.equal(value, half.state()[key]) for key, value in fresh.state().items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rex.safetensors"]
    progress.remove()
    assert not progress.restore(fresh) and progress.problem == ""


def test_progress_of_another_job_is_left_aside_and_named(wan: Backbone, tmp_path: Path) -> None:
    saved(tmp_path / "rex.safetensors", wan)
    progress = ProgressFile(tmp_path / "rex.safetensors", "other")
    assert not progress.restore(learner(wan))
    assert "rex.safetensors is of other pictures or settings" in progress.problem


def test_not_one_flipped_bit_is_resumed_on(wan: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "rex.safetensors"
    saved(path, wan)
    data, fresh = path.read_bytes(), learner(wan)
    before = {key: value.clone() for key, value in fresh.state().items()}
    header = 8 + int.from_bytes(data[:8], "little")
    places = [*range(8), *range(8, header, 61), *range(header, len(data), (len(data) - header) // 60), len(data) - 1]
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])
        progress = ProgressFile(path, "job")
        assert not progress.restore(fresh), f"byte {place} of {len(data)}"
        assert str(path) in progress.problem and "damaged" in progress.problem
    for cut in (0, 4, 100, header, len(data) - 1):
        path.write_bytes(data[:cut])
        assert not ProgressFile(path, "job").restore(fresh)
    assert fresh.done == 0 and all(torch.equal(value, before[key]) for key, value in fresh.state().items())
    path.write_bytes(data)
    assert ProgressFile(path, "job").restore(fresh)


def test_progress_that_does_not_fit_leaves_the_learner_as_it_was(wan: Backbone) -> None:
    fresh, half = learner(wan), learner(wan, 2).state()
    del half["tokens"]
    with pytest.raises(LearningError, match=r"does not fit these settings \(tokens\)"):
        fresh.load_state(half)
    assert all(not torch.any(lora.b) for lora in fresh.live_adapters().values())


# Disk


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_space_is_taken_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for allocate in (True, False):
        if not allocate:
            monkeypatch.delattr(os, "posix_fallocate", raising=False)
        space = ReservedSpace(tmp_path / "rex.reserved", 3 * 1024**2 + 5)
        assert (tmp_path / "rex.reserved").stat().st_size == 3 * 1024**2 + 5
        if hasattr(os.stat_result, "st_blocks"):
            assert (tmp_path / "rex.reserved").stat().st_blocks * 512 >= 3 * 1024**2, "not only in its length"
        space.release()
        space.release()
        assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_before_learning_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(LibraryError, match=r"Learning <rex> will write about 200 MB to .*shelf: the disk is full"):
        reserve(tmp_path / "shelf", "rex", 200 * 1024**2)
    assert not list((tmp_path / "shelf" / ".progress").iterdir())


@pytest.mark.parametrize("kind", ["subject", "motion"])
def test_enough_is_reserved_for_progress_and_concept(wan: Backbone, tmp_path: Path, kind: Any) -> None:
    from ccvd_core.concepts.file import save_concept
    from ccvd_core.learning.plan import bytes_to_write

    half = ConceptLearner(wan, [Example(torch.randn(4, 2, 4, 4), "a <rex>")], "rex", kind, "dog", SETTINGS)
    with Attachment(wan, [half.live_adapters()]) as attachment:
        half.step(attachment)
    ProgressFile(tmp_path / "progress.safetensors", "job", [0.5]).save(half)
    save_concept(half.concept(bytes(100_000)), tmp_path / "concept.safetensors")
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert written <= bytes_to_write(wan, kind, SETTINGS) <= written + 2 * 1024**2


def test_a_save_that_fails_is_said_and_the_lesson_goes_on(
    backbones: dict[str, Backbone], training: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lesson_loop, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(whole_files.os, "fsync", full)
    said: list[str] = []
    native = learner(backbones["comfy"])
    progress = ProgressFile(tmp_path / "rex.safetensors", "job")
    attachment = Attachment(native.backbone, [native.live_adapters()])
    loop = lesson_loop.LessonLoop(native, SETTINGS, attachment, progress, said.append)
    loop.run()
    assert native.done == SETTINGS.steps == len(progress.losses)
    assert sum("Progress could not be saved" in text and "No space left" in text for text in said) == SETTINGS.steps
    assert not loop.keep() and not list(tmp_path.iterdir())
