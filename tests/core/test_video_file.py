"""Video files: what is refused before it is decoded, what is read of them, and in how much memory."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from ccvd_core.errors import MediaError
from ccvd_core.learning import video_file
from ccvd_core.learning.clips import ClipCut, LessonBudget
from ccvd_core.learning.media import training_size
from ccvd_core.learning.video_file import VideoFile, read_clip

REPOSITORY = Path(__file__).resolve().parents[2]
four_step = partial(ClipCut, frame_step=4)
"""How a model cuts that makes clips of 4 k + 1 frames."""


def write(
    path: Path,
    shades: Sequence[int],
    rate: int = 24,
    size: tuple[int, int] = (64, 48),
    times: Sequence[int] = (),
    codec: str = "libx264",
) -> Path:
    """A clip of grey frames (width, height); `times` in ticks of 1 / rate instead of one after another."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        for number, shade in enumerate(shades):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), shade, np.uint8), format="rgb24")
            frame.pts, frame.time_base = (times[number] if times else number), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(source: str | io.BytesIO, how: ClipCut, start: float = 0.0, seconds: float = 0.0) -> list[Tensor]:
    return read_clip(VideoFile(source, "Clip 1", start, seconds), how, lambda *_: (16, 16), LessonBudget())


def shades(pieces: list[Tensor]) -> list[list[int]]:
    """What was written, to the nearest ten: films are lossy."""
    return [[round(float(frame.float().mean()) / 10) * 10 for frame in piece[0].unbind(1)] for piece in pieces]


SHADES = [10 * number for number in range(1, 25)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mov"])
def test_five_seconds_at_24_become_the_bases_16_a_second(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"clip.{suffix}", SHADES, 24, codec="mpeg4" if suffix == "avi" else "libx264")
    expected = [SHADES[int(index * 1.5)] for index in range(16)]
    assert shades(read(str(path), four_step(16, 9))) == [expected[:9]]
    assert shades(read(io.BytesIO(path.read_bytes()), four_step(16, 5, "uniform"))) == [
        expected[start : start + 5] for start in (0, 6, 11)
    ]
    assert shades(read(str(path), four_step(16, 33, "all"))) == [expected[:13]]


def test_frames_count_by_their_times_and_not_by_the_files_rate(tmp_path: Path) -> None:
    """A phone's clip: the second half at half the rate."""
    path = write(tmp_path / "phone.mkv", SHADES[:8], 8, times=[0, 1, 2, 3, 4, 6, 8, 10])
    expected = [SHADES[number] for number in (0, 1, 2, 3, 4, 4, 5, 5, 6)]
    assert shades(read(str(path), four_step(8, 9))) == [expected]


def test_the_part_that_a_video_was_trimmed_to(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", SHADES, 8)
    assert shades(read(str(path), four_step(8, 5), start=1.0)) == [SHADES[8:13]]
    for windows in ("first", "all"):
        assert shades(read(str(path), four_step(8, 33, windows), start=0.5, seconds=1.125)) == [SHADES[4:13]]


def test_a_clip_is_cropped_scaled_and_stood_upright(tmp_path: Path) -> None:
    """Red grows downwards and green to the right; the file says that the picture lies on its side."""
    rows, columns = np.mgrid[0:96, 0:192]
    picture = np.stack([rows * 255 // 95, columns * 255 // 191, np.zeros_like(rows)], -1).astype(np.uint8)
    path = tmp_path / "lying.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 192, 96, "yuv444p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    asked = []

    def size_of(height: int, width: int) -> tuple[int, int]:
        asked.append((height, width))
        return (48, 48)

    (piece,) = read_clip(VideoFile(str(path), "Clip 1"), four_step(8, 5), size_of, LessonBudget())
    assert asked == [(96, 192)] and piece.shape == (1, 3, 5, 48, 48) and piece.dtype == torch.uint8
    red, green = (piece[0, channel, 0].float() for channel in (0, 1))
    assert red[0].mean() < 8 and red[-1].mean() > 247
    # The middle half of the columns.
    assert green[:, 0].mean() == pytest.approx(64, abs=4) and green[:, -1].mean() == pytest.approx(191, abs=4)
    again = read_clip(VideoFile(str(path), "Clip 1"), four_step(8, 5), size_of, LessonBudget())
    assert torch.equal(again[0], piece)


@pytest.mark.parametrize(("width", "height"), [(50, 38), (94, 62), (64, 48)])
def test_reading_twice_gives_the_same_bits(tmp_path: Path, width: int, height: int) -> None:
    """The pixels decide whether a lesson goes on or starts afresh."""
    path = tmp_path / "noise.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (9, height, width, 3), dtype=np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))

    def size_of(height: int, width: int) -> tuple[int, int]:
        return training_size(height, width, area=32 * 32)

    first, *others = (
        read_clip(VideoFile(str(path), "x"), four_step(8, 9), size_of, LessonBudget())[0] for _ in range(6)
    )
    assert all(torch.equal(first, other) for other in others)


# What is refused


def test_files_that_are_no_video(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="Clip 1 cannot be read"):
        read(str(tmp_path / "missing.mp4"), four_step(8, 9))
    (tmp_path / "text.mp4").write_text("not a video " * 100)
    with pytest.raises(MediaError, match="Clip 1 cannot be read"):
        read(str(tmp_path / "text.mp4"), four_step(8, 9))
    with av.open(tmp_path / "sound.wav", "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(MediaError, match="Clip 1 has no video in it"):
        read(str(tmp_path / "sound.wav"), four_step(8, 9))


def test_a_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "whole.mkv", SHADES, 8)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    (window,) = shades(read(str(cut), four_step(8, 129)))
    assert window == SHADES[: len(window)] and 5 <= len(window) < 24


def test_too_large_and_too_long_is_said_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "clip.mp4", SHADES, 8)
    monkeypatch.setattr(video_file, "MAX_SECONDS", 2.0)
    assert read(str(path), four_step(8, 9)), "of a long clip the beginning can be had"
    with pytest.raises(MediaError, match=r"Clip 1 is too long: .*windows` first"):
        read(str(path), four_step(8, 9, "uniform"))
    monkeypatch.setattr(video_file, "MAX_FRAME_PIXELS", 64 * 47)
    monkeypatch.setattr(video_file, "decoded", None)
    with pytest.raises(MediaError, match=r"Clip 1 is too large: .*got 64 x 48"):
        read(str(path), four_step(8, 9))


def test_a_header_that_says_a_smaller_size_is_not_believed(tmp_path: Path) -> None:
    """The container says 64 x 48; the film in it is 8320 x 8192, more than any camera makes."""
    lying = tmp_path / "lying.mkv"
    with av.open(lying, "w") as container:
        stream = container.add_stream("mjpeg", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 8320, 8192, "yuvj420p", Fraction(1, 8)
        frame = av.VideoFrame(8320, 8192, "yuvj420p")
        frame.pts = 0
        for packet in [*encoder.encode(frame), *encoder.encode(None)]:
            packet.stream = stream
            container.mux(packet)
    with pytest.raises(MediaError, match="Clip 1"):
        read(str(lying), four_step(8, 5))


def test_cancel_is_heard_while_reading(tmp_path: Path) -> None:
    class Cancel(BaseException):
        pass

    calls = []

    def tick() -> None:
        calls.append(0)
        if len(calls) == 3:
            raise Cancel

    path = write(tmp_path / "clip.mp4", SHADES, 8)
    with pytest.raises(Cancel):
        read_clip(VideoFile(str(path), "Clip 1"), four_step(8, 9), lambda *_: (16, 16), LessonBudget(), tick)


# Memory

PEAK = """
import sys
from ccvd_core.learning.clips import ClipCut, LessonBudget
from ccvd_core.learning.media import training_size
from ccvd_core.learning.video_file import VideoFile, read_clip

def megabytes():
    if sys.platform == "linux":  # where getrusage counts what the parent had too
        return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**10
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

before = megabytes()
size_of = lambda height, width: training_size(height, width, area=256 * 256)
cut = ClipCut(16, 33, sys.argv[2], frame_step=4)
windows = read_clip(VideoFile(sys.argv[1], "Clip 1"), cut, size_of, LessonBudget())
print(len(windows), sum(window.shape[2] for window in windows), megabytes() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module to measure the peak with")
def test_a_minute_of_full_hd_is_read_in_little_memory(tmp_path: Path) -> None:
    """As floats its frames would take 9 GB. Measured is the highest resident memory of a process that reads it."""
    path = tmp_path / "minute.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=6)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        frames = [av.VideoFrame.from_ndarray(np.full((1620, 1920), shade, np.uint8), "yuv420p") for shade in (80, 160)]
        for number in range(360):
            frame = frames[number % 2]
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    command = [sys.executable, "-c", PEAK, str(path), "all"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    windows, frames_read, megabytes = done.stdout.split()
    assert (int(windows), int(frames_read)) == (30, 990)
    assert 195 < float(megabytes) < 700, "990 frames of 256 x 256 in 8 bits are 195 MB"
