"""Tiles against transformers' own processor of the same kind, and the rule for images that lie between two grids."""

from __future__ import annotations

import numpy
import pytest
import torch
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)

from smidgen.models.vision import tiles

SIZES = [(448, 448), (800, 800), (606, 1000), (1240, 1754), (463, 1013), (1754, 1240), (3000, 500), (500, 3000)]


@pytest.mark.parametrize("size", [(56, 56), (100, 60), (61, 143), (380, 60)])
def test_pixels_are_those_of_transformers(size: tuple[int, int]) -> None:
    side = 56
    processor = GotOcr2ImageProcessorPil(
        size={"height": side, "width": side}, image_mean=list(tiles.IMAGENET_MEAN),
        image_std=list(tiles.IMAGENET_DEVIATION), crop_to_patches=True, min_patches=1, max_patches=6,
    )  # fmt: skip
    image = Image.merge("RGB", [Image.effect_noise(size, 90) for _ in range(3)])
    grid = tiles.nearest(size, tiles.grids(1, 6), side)
    found = tiles.pixels(tiles.cut(image, grid, side))
    expected = torch.as_tensor(numpy.array(processor(image)["pixel_values"]))
    assert len(found) == (grid[0] * grid[1] + 1 if grid != (1, 1) else 1)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_grids_are_those_of_transformers(size: tuple[int, int]) -> None:
    assert tiles.nearest(size, tiles.grids(1, 6), 448) == get_optimal_tiled_canvas(size[::-1], (448, 448), 1, 6)


@pytest.mark.parametrize(
    ("side", "grid"),
    [(600, (1, 1)), (632, (1, 1)), (634, (2, 2)), (800, (2, 2)), (1000, (2, 2))],
)
def test_of_grids_that_are_equally_near_the_later_one_needs_half_its_pixels(side: int, grid: tiles.Grid) -> None:
    # Half of 2 x 2 tiles of 448 pixels has as many pixels as a square of 633.6.
    assert tiles.nearest((side, side), tiles.grids(1, 6), 448) == grid


def test_the_second_look_cuts_elsewhere() -> None:
    for size in SIZES:
        first = tiles.nearest(size, tiles.grids(1, 6), 448)
        second = tiles.nearest(size, tiles.second_grids(first, 3, 6), 448)
        if second != (1, 1):
            assert first[0] % second[0] and first[1] % second[1]
            assert second[0] * second[1] >= 3
    assert tiles.second_grids((6, 1), 3, 6) == []  # rows of 1 divide 1
    assert tiles.nearest((3000, 500), [], 448) == (1, 1)


def test_tiles_lie_row_by_row_and_the_whole_comes_last() -> None:
    image = Image.new("RGB", (40, 20))
    image.paste((255, 0, 0), (20, 0, 40, 20))
    cut = tiles.cut(image, (2, 1), 10)
    assert [tile.getpixel((9, 9))[0] for tile in cut[:2]] == pytest.approx([0, 255], abs=30)
    assert [tile.size for tile in cut] == [(10, 10)] * 3
    assert cut[2].getpixel((1, 5))[0] < 30 < 220 < cut[2].getpixel((8, 5))[0]
