"""Images as Phi-3.5 vision reads them: enlarged to as many square tiles as allowed, and once small as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""What is taken from red, green and blue between 0 and 1, and what they are then divided by."""

ONE_IMAGE, SEVERAL_IMAGES = 16, 4
"""Tiles that an image may have where it is the only one, and where there are others; as the model's card advises."""


@dataclass(frozen=True)
class Layout:
    """How an image is laid out in tiles.

    Attributes:
        width: Width of the enlarged image, before anything is put around it.
        height: Its height.
        rows: Rows of tiles, once the image is filled up with white to whole tiles.
        columns: Columns of tiles.
    """

    width: int
    height: int
    rows: int
    columns: int

    def tokens(self, side: int = 12) -> int:
        """Return how many tokens such an image becomes.

        ``(rows·columns + 1)·side² + 1 + (rows + 1)·side``: all tiles and the whole, each row of tokens of the large and
        of the small image ended by a separator, and one separator between the two.

        Args:
            side: Tokens along the side of a tile.

        Example:
            >>> layout(1344, 1008, 16).tokens(), layout(1344, 1008, 4).tokens()
            (1921, 757)
        """
        return (self.rows * self.columns + 1) * side * side + 1 + (self.rows + 1) * side


def layout(width: int, height: int, most: int, tile: int = 336) -> Layout:
    """Find how large an image may become: its longer side as many tiles as leave it at most so many in all.

    Args:
        width: Pixels from left to right.
        height: Pixels from top to bottom.
        most: Most tiles, at least 1.
        tile: Pixels along the side of a tile.

    Example:
        >>> layout(1000, 700, 16)
        Layout(width=1344, height=940, rows=3, columns=4)
        >>> layout(700, 1000, 16)
        Layout(width=940, height=1344, rows=4, columns=3)
    """
    long, short = max(width, height), min(width, height)
    ratio = long / short
    across = 1
    while (across + 1) * math.ceil((across + 1) / ratio) <= most:
        across += 1
    longer = across * tile
    shorter = max(1, int(longer / ratio))
    along = math.ceil(shorter / tile)
    if width < height:
        return Layout(shorter, longer, across, along)
    return Layout(longer, shorter, along, across)


def enlarged(image: Image, most: int, tile: int = 336) -> Image:
    """Resize an image bilinearly and put white around its shorter side, half of it on each side.

    Args:
        image: Any image.
        most: Most tiles.
        tile: Pixels along the side of a tile.

    Returns:
        An RGB image of whole tiles.
    """
    from PIL import Image as pillow

    found = layout(image.width, image.height, most, tile)
    size = (found.width, found.height)
    upright = image.width < image.height
    # An upright image is turned about its diagonal first and back at the end: so it was when the model was trained.
    turned = image.convert("RGB").transpose(pillow.Transpose.TRANSPOSE) if upright else image.convert("RGB")
    turned = turned.resize(size[::-1] if upright else size, pillow.Resampling.BILINEAR)
    whole = math.ceil(turned.height / tile) * tile
    page = pillow.new("RGB", (turned.width, whole), "white")
    page.paste(turned, (0, (whole - turned.height) // 2))
    return page.transpose(pillow.Transpose.TRANSPOSE) if upright else page


def tiles(image: Image, most: int, tile: int = 336) -> torch.Tensor:
    """Return what the model sees of an image.

    Args:
        image: Any image.
        most: Most tiles.
        tile: Pixels along the side of a tile.

    Returns:
        float32 ``[1 + rows·columns, 3, tile, tile]``, the whole image small and then its tiles row by row, all with
        CLIP's mean and deviation.
    """
    import numpy
    import torch

    page = enlarged(image, most, tile)
    values = torch.from_numpy(numpy.array(page)).permute(2, 0, 1).float() / 255
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (CLIP_MEAN, CLIP_DEVIATION))
    values = (values - mean) / deviation
    small = torch.nn.functional.interpolate(values[None], size=(tile, tile), mode="bicubic", align_corners=False)
    rows, columns = page.height // tile, page.width // tile
    parts = values.reshape(3, rows, tile, columns, tile).permute(1, 3, 0, 2, 4).reshape(-1, 3, tile, tile)
    return torch.cat([small, parts])
