"""Pictures to learn from: shapes, crops, sizes, what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ccvd_core.errors import MediaError
from ccvd_core.learning.media import (
    check_media,
    crop_window,
    prepare_pictures,
    to_bytes,
    to_floats,
    training_size,
)


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def ramp(height: int, width: int) -> Tensor:
    """Each pixel's red is its row, its green its column, both 0..1."""
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 1, width)[None].expand(height, width)
    return torch.stack([rows, columns, torch.zeros(height, width)], -1)


# Pictures


def test_a_picture_of_the_right_size_is_not_changed() -> None:
    images = noise(2, 32, 48, 3)
    assert prepare_pictures(images, (32, 48)).equal(images.permute(0, 3, 1, 2).unsqueeze(2))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (100, 30), (7, 300), (1, 1)])
def test_pictures_come_out_in_one_form(channels: int, dtype: torch.dtype, height: int, width: int) -> None:
    out = prepare_pictures(noise(3, height, width, channels).to(dtype), (32, 48))
    assert out.shape == (3, 3, 1, 32, 48)
    assert out.dtype == torch.float32
    assert 0 <= out.min() <= out.max() <= 1


def test_pictures_of_different_sizes_and_batches() -> None:
    images = [noise(20, 30, 3), noise(2, 64, 16, 4), noise(1, 50, 50, 1)]
    out = prepare_pictures(images, (16, 16))
    assert out.shape == (4, 3, 1, 16, 16)
    assert out[1:3].equal(prepare_pictures(images[1], (16, 16)))


def test_a_flat_picture_stays_flat_through_crop_and_resize() -> None:
    flat = torch.tensor([0.2, 0.5, 0.8]).expand(1, 37, 91, 3)
    out = prepare_pictures(flat, (48, 32))
    torch.testing.assert_close(out, torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1, 1).expand(1, 3, 1, 48, 32))


def test_transparent_pixels_show_mid_grey() -> None:
    picture = torch.zeros(1, 4, 4, 4)
    picture[..., 0] = 1
    picture[0, :, :, 3] = torch.tensor([0.0, 0.5, 1.0, 2.0])
    out = prepare_pictures(picture, (4, 4))[0, :, 0, 0]
    assert out[0].tolist() == [0.5, 0.75, 1.0, 1.0]
    assert out[1].tolist() == [0.5, 0.25, 0.0, 0.0]


def test_greyscale_becomes_rgb() -> None:
    grey = noise(1, 8, 8, 1)
    out = prepare_pictures(grey, (8, 8))
    for channel in range(3):
        assert out[0, channel, 0].equal(grey[0, ..., 0])


def test_the_input_is_left_alone() -> None:
    images = noise(1, 40, 20, 4)
    before = images.clone()
    prepare_pictures(images, (16, 16)).mul_(0)
    prepare_pictures(images[..., :3], (40, 20)).mul_(0)
    assert images.equal(before)


def test_a_landscape_is_cropped_in_the_middle_and_never_stretched() -> None:
    out = prepare_pictures(ramp(64, 192)[None], (64, 64))[0, :, 0]
    # The middle third of the columns, all rows.
    assert out[1, 0, 0].item() == pytest.approx(64 / 191, abs=1e-6)
    assert out[1, 0, -1].item() == pytest.approx(127 / 191, abs=1e-6)
    assert out[0, 0, 0].item() == 0
    assert out[0, -1, 0].item() == 1


def test_a_portrait_keeps_more_of_its_top() -> None:
    out = prepare_pictures(ramp(192, 64)[None], (64, 64))[0, 0, 0, :, 0]
    # 128 rows must go: 43 at the top, 85 at the bottom.
    assert out[0].item() == pytest.approx(43 / 191, abs=1e-6)
    assert out[-1].item() == pytest.approx(106 / 191, abs=1e-6)


def test_shrinking_is_antialiased() -> None:
    """Thin stripes, every third column white, shrunk 8 times: each pixel is the mean of the 8 columns it covers, of
    which 2 or 3 are white. Sampling single columns would give 0 and 1."""
    stripes = (torch.arange(264) % 3 == 0).float().expand(264, 264)[None, :, :, None]
    out = prepare_pictures(stripes, (33, 33))
    expected = stripes[0, 0, :, 0].reshape(33, 8).mean(1)
    torch.testing.assert_close(out, expected.expand(1, 3, 1, 33, 33))


def test_shrinking_leaves_no_halo_at_an_edge() -> None:
    """Filters that sharpen would: brighter than white and darker than black, cut off at 0 and 1, on either side."""
    edge = torch.full((1, 90, 90, 3), 0.2)
    edge[:, :, 43:] = 0.8
    out = prepare_pictures(edge, (20, 20))
    assert out.min() >= 0.2 - 1e-6 and out.max() <= 0.8 + 1e-6


@settings(deadline=None)
@given(*[st.integers(1, 3000)] * 4)
def test_the_crop_has_the_aspect_and_is_as_large_as_possible(height: int, width: int, to_h: int, to_w: int) -> None:
    rows, columns = crop_window(height, width, to_h, to_w)
    kept_h, kept_w = rows.stop - rows.start, columns.stop - columns.start
    assert 0 <= rows.start < rows.stop <= height
    assert 0 <= columns.start < columns.stop <= width
    assert kept_h == height or kept_w == width
    # Within the half pixel that whole pixels cost, unless the crop is thinner than a pixel.
    assert abs(kept_w - kept_h * to_w / to_h) <= 0.5 * max(1, to_w / to_h) + 0.5 or 1 in (kept_h, kept_w)
    assert rows.start <= height - rows.stop + 1


def test_an_empty_batch() -> None:
    for nothing in ([], torch.zeros(0, 4, 4, 3)):
        with pytest.raises(MediaError, match="no pictures"):
            prepare_pictures(nothing, (4, 4))
    with pytest.raises(MediaError, match="at least 1 x 1"):
        prepare_pictures(noise(1, 4, 4, 3), (0, 4))
    with pytest.raises(MediaError, match="channels"):
        prepare_pictures(noise(1, 4, 4, 2), (4, 4))


# Size to learn at


@pytest.mark.parametrize(
    ("height", "width", "area", "expected"),
    [
        (512, 512, 512 * 512, (512, 512)),
        (4000, 4000, 512 * 512, (512, 512)),
        (100, 100, 256_000, (496, 496)),  # 1000 cells of 16 x 16: 31 x 31, not the uneven 31 x 32
        (480, 832, 480 * 832, (480, 832)),
        (832, 480, 480 * 832, (832, 480)),
        (300, 300, 32 * 32, (32, 32)),
        (300, 300, 16 * 16, (16, 16)),
        (1, 10_000, 64 * 64, (32, 128)),  # as 4:1
    ],
)
def test_training_sizes(height: int, width: int, area: int, expected: tuple[int, int]) -> None:
    assert training_size(height, width, area=area) == expected


@settings(deadline=None, max_examples=60)
@given(st.integers(100, 4000), st.integers(100, 4000), st.sampled_from([8, 16, 32]), st.integers(100, 1000))
def test_training_size_keeps_to_area_and_aspect(height: int, width: int, multiple: int, side: int) -> None:
    area = side * side
    rows, columns = training_size(height, width, area=area, multiple=multiple)
    assert rows % multiple == columns % multiple == 0
    assert rows * columns <= area
    aspect = min(max(width / height, 0.25), 4)
    # The naive answer: every size there is.
    cells = area // multiple**2
    best = min(
        abs(math.log(c / r / aspect)) + 0.25 * math.log(cells / (r * c))
        for r in range(1, cells + 1)
        for c in range(1, cells // r + 1)
    )
    got = abs(math.log(columns / rows / aspect)) + 0.25 * math.log(cells * multiple**2 / (rows * columns))
    assert got == pytest.approx(best, abs=1e-9)


def test_training_sizes_that_cannot_be() -> None:
    with pytest.raises(MediaError, match="empty"):
        training_size(0, 100, area=10_000)
    with pytest.raises(MediaError, match="at least 16 x 16 = 256 pixels; got 255"):
        training_size(100, 100, area=255)
    with pytest.raises(MediaError, match="too small"):
        training_size(100, 100, area=255, multiple=0)


# Checks


@pytest.mark.parametrize(
    "media",
    [
        noise(1, 1, 1, 3),
        noise(2, 8, 8, 4).half(),
        noise(8, 8, 1),
        [noise(8, 8, 3), noise(2, 4, 4, 4)],
        noise(1, 8, 8, 3) * 1.4 - 0.2,
        [torch.zeros(0, 8, 8, 3), noise(1, 8, 8, 3)],
    ],
)
def test_good_media_pass(media: Tensor | Sequence[Tensor]) -> None:
    check_media(media)


def broken(value: float) -> Tensor:
    images = noise(3, 8, 8, 3)
    images[1, 2, 3, 0] = value
    return images


@pytest.mark.parametrize(
    ("media", "message"),
    [
        ([], "no pictures"),
        (torch.zeros(0, 8, 8, 3), "no pictures"),
        ([torch.zeros(0, 8, 8, 3)] * 2, "no pictures"),
        (torch.zeros(1, 0, 8, 3), "empty.*got 8 x 0"),
        (noise(1, 8, 8, 2), "got 2"),
        (noise(1, 3, 8, 8), "got 8"),
        (noise(1, 3, 5, 8, 8), r"not pictures.*\[1, 3, 5, 8, 8\]"),
        (noise(8, 8), "not pictures"),
        ((noise(1, 8, 8, 3) * 255).byte(), "uint8"),
        (broken(float("nan")), "Picture 2 has pixels that are not numbers"),
        (broken(float("inf")), "Picture 2 has pixels that are not numbers"),
        (broken(-float("inf")).half(), "Picture 2 has pixels that are not numbers"),
        (broken(255.0), "Picture 2 .* to 255: .*Divide it by 255"),
        (broken(-1.0), "Picture 2 .* from -1 .*-1..1"),
        ([noise(8, 8, 3), broken(9.0)], "Picture 3"),
    ],
)
def test_bad_media_are_refused(media: Tensor | Sequence[Tensor], message: str) -> None:
    with pytest.raises(MediaError, match=message):
        check_media(media)


def test_eight_bits_are_exact_for_a_picture_from_a_file() -> None:
    shades = torch.arange(256, dtype=torch.uint8)
    assert to_bytes(to_floats(shades)).equal(shades)
    picture = to_floats(shades).view(16, 16, 1)
    assert to_floats(to_bytes(prepare_pictures(picture[None], (16, 16)))).equal(
        prepare_pictures(picture[None], (16, 16))
    )
