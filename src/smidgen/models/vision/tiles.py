"""Cuts images into square tiles, as many as come nearest to their shape, and makes pixels of them.

What InternVL and the families after it do: the image is stretched onto a grid of tiles that has about its shape, and
the whole of it, made small, follows as one more tile where there are several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Grid = tuple[int, int]
"""Columns and rows."""

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def grids(least: int, most: int) -> list[Grid]:
    """Return every grid of so many tiles, those of fewer tiles first.

    Example:
        >>> grids(1, 3)
        [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1)]
    """
    sides = range(1, most + 1)
    found = [(columns, rows) for columns in sides for rows in sides if least <= columns * rows <= most]
    return sorted(found, key=lambda grid: grid[0] * grid[1])


def nearest(size: tuple[int, int], among: Sequence[Grid], side: int) -> Grid:
    """Return the grid whose shape is nearest to an image's, ``(1, 1)`` where there is none.

    Of grids that are equally near the later one is taken where the image has more than half of its pixels.

    Args:
        size: Width and height of the image.
        among: Grids to choose from.
        side: Pixels of a tile's side.

    Example:
        >>> nearest((448, 448), grids(1, 6), 448), nearest((800, 800), grids(1, 6), 448)
        ((1, 1), (2, 2))
    """
    width, height = size
    best, distance = (1, 1), float("inf")
    for columns, rows in among:
        found = abs(width / height - columns / rows)
        if found < distance or (found == distance and width * height > 0.5 * side * side * columns * rows):
            best, distance = (columns, rows), found
    return best


def second_grids(first: Grid, least: int, most: int) -> list[Grid]:
    """Return the grids for a second look, none of whose sides divides the first one's, so that other cuts are made.

    Example:
        >>> second_grids((2, 2), 3, 6), second_grids((3, 2), 3, 6)
        ([], [(2, 3)])
    """
    columns, rows = first
    return [grid for grid in grids(least, most) if columns % grid[0] and rows % grid[1]]


def cut(image: Image, grid: Grid, side: int) -> list[Image]:
    """Stretch an image onto a grid and return its tiles row by row, behind several the whole image as one more."""
    from PIL.Image import Resampling

    columns, rows = grid
    whole = image.resize((side * columns, side * rows), Resampling.BICUBIC)
    corners = [(side * column, side * row) for row in range(rows) for column in range(columns)]
    tiles = [whole.crop((left, top, left + side, top + side)) for left, top in corners]
    return tiles if len(tiles) == 1 else [*tiles, image.resize((side, side), Resampling.BICUBIC)]


def pixels(
    tiles: Sequence[Image],
    mean: Sequence[float] = IMAGENET_MEAN,
    deviation: Sequence[float] = IMAGENET_DEVIATION,
) -> torch.Tensor:
    """Return tiles of one size as float32 ``[tiles, 3, height, width]``, less the mean, in deviations.

    Example:
        >>> from PIL import Image
        >>> pixels([Image.new("RGB", (2, 2), (255, 0, 0))], (0, 0, 0.5), (1, 1, 0.25))[0, :, 0, 0].tolist()
        [1.0, 0.0, -2.0]
    """
    import numpy
    import torch

    values = torch.from_numpy(numpy.stack([numpy.asarray(tile, dtype=numpy.float32) for tile in tiles]))
    values = (values / 255 - torch.tensor(mean)) / torch.tensor(deviation)
    return values.permute(0, 3, 1, 2).contiguous()
