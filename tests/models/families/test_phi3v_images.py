"""Phi-3 vision's tiles, held against counts and pixels worked out one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy
import pytest
import torch
from PIL import Image

from smidgen.models.families import _phi3v_images as images

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def cubic(distance: float) -> float:
    """Keys' kernel of a = -3/4."""
    x, a = abs(distance), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def made_small(channel: numpy.ndarray, side: int) -> numpy.ndarray:
    """Take each pixel from its sixteen neighbours, those beyond the border repeated; no averaging."""
    height, width = channel.shape
    found = numpy.zeros((side, side))
    for row in range(side):
        for column in range(side):
            y, x = (row + 0.5) * height / side - 0.5, (column + 0.5) * width / side - 0.5
            for down in range(math.floor(y) - 1, math.floor(y) + 3):
                for right in range(math.floor(x) - 1, math.floor(x) + 3):
                    value = channel[min(max(down, 0), height - 1), min(max(right, 0), width - 1)]
                    found[row, column] += value * cubic(y - down) * cubic(x - right)
    return found


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(numpy.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=numpy.uint8))


@pytest.mark.parametrize(
    ("size", "most", "grid", "tokens"),
    [
        ((336, 336), 16, (4, 4), 2509),
        ((336, 336), 4, (2, 2), 757),
        ((1344, 1008), 16, (4, 3), 1921),
        ((1008, 1344), 16, (3, 4), 1933),
        ((1240, 1754), 16, (3, 4), 1933),
        ((1240, 1754), 4, (2, 2), 757),
        ((3000, 500), 16, (8, 2), 2485),
        ((500, 3000), 16, (2, 8), 2557),
        ((20000, 3), 16, (16, 1), 2473),
        ((3, 20000), 16, (1, 16), 2653),
        ((50, 8000), 16, (1, 16), 2653),
        ((640, 480), 1, (1, 1), 313),
    ],
)
def test_an_image_takes_so_many_tiles_and_tokens(
    size: tuple[int, int], most: int, grid: tuple[int, int], tokens: int
) -> None:
    found = images.layout(*size, most)
    assert (found.columns, found.rows) == grid and found.tokens() == tokens
    columns, rows = grid
    assert tokens == (rows * columns + 1) * 144 + 1 + (rows + 1) * 12
    assert columns * rows <= most
    assert math.ceil(found.width / 336) == columns and math.ceil(found.height / 336) == rows


def test_one_more_tile_along_the_longer_side_would_be_too_many() -> None:
    random = numpy.random.default_rng(1)
    for width, height, most in zip(*(random.integers(1, top, 300).tolist() for top in (4000, 4000, 17)), strict=True):
        found = images.layout(width, height, most)
        ratio = max(width, height) / min(width, height)
        across = max(found.columns, found.rows)
        assert across * math.ceil(across / ratio) <= most < (across + 1) * math.ceil((across + 1) / ratio)
        assert max(found.width, found.height) == 336 * across
        assert min(found.width, found.height) == max(1, int(336 * across / ratio))


@pytest.mark.parametrize("turn", [lambda image: image, lambda image: image.transpose(Image.Transpose.TRANSPOSE)])
def test_white_is_put_around_the_shorter_side(turn: Callable[[Image.Image], Image.Image]) -> None:
    page = turn(images.enlarged(turn(noise(40, 23)), 6, 28))
    assert page.size == (84, 56)
    values = numpy.array(page)
    assert images.layout(40, 23, 6, 28) == images.Layout(84, 48, 2, 3)
    above = (56 - 48) // 2
    assert (values[:above] == 255).all() and (values[above + 48 :] == 255).all()
    resized = noise(40, 23).resize((84, 48), Image.Resampling.BILINEAR)
    assert (values[above : above + 48] == numpy.array(resized)).all()


def test_an_odd_rest_of_white_is_below_and_on_the_right() -> None:
    page = numpy.array(images.enlarged(Image.new("RGB", (100, 61), "black"), 2, 28))[:, :, 0]
    assert images.layout(100, 61, 2, 28) == images.Layout(28, 17, 1, 1)
    assert (page[:5] == 255).all() and (page[5:22] == 0).all() and (page[22:] == 255).all()
    page = numpy.array(images.enlarged(Image.new("RGB", (61, 100), "black"), 2, 28))[:, :, 0]
    assert (page[:, :5] == 255).all() and (page[:, 5:22] == 0).all() and (page[:, 22:] == 255).all()


@pytest.mark.parametrize("size", [(50, 20), (20, 50)])
def test_tiles_are_the_page_cut_and_the_whole_made_small(size: tuple[int, int]) -> None:
    image, side = noise(*size, seed=2), 8
    page = numpy.array(images.enlarged(image, 6, side)).astype(float) / 255
    page = (page - numpy.array(MEAN)) / numpy.array(DEVIATION)
    rows, columns = page.shape[0] // side, page.shape[1] // side
    assert rows * columns > 2 and rows != columns
    expected = [numpy.stack([made_small(page[:, :, channel], side) for channel in range(3)])]
    for row in range(rows):
        for column in range(columns):
            part = page[side * row : side * (row + 1), side * column : side * (column + 1)]
            expected.append(part.transpose(2, 0, 1))
    found = images.tiles(image, 6, side)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.from_numpy(numpy.stack(expected)).float(), atol=2e-5, rtol=1e-5)
    assert not torch.equal(found[0], torch.nn.functional.adaptive_avg_pool2d(found[1:], side)[0])


def test_images_of_all_kinds_become_red_green_and_blue() -> None:
    grey, transparent = Image.new("L", (30, 20), 128), Image.new("RGBA", (30, 20), (255, 0, 0, 255))
    found = images.tiles(grey, 2, 8)
    assert found.shape[1] == 3
    red = images.tiles(transparent, 1, 8)[1]
    assert float(red[0, 4, 4]) == pytest.approx((1 - MEAN[0]) / DEVIATION[0], abs=1e-5)
    assert float(red[2, 4, 4]) == pytest.approx(-MEAN[2] / DEVIATION[2], abs=1e-5)
