"""Images made plain: pixels kept, everything else left behind, and nothing unpacked that is too large."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.inference.images import data_address, pixels_of, plain, plain_all, read


def encoded(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def pixels(data: bytes) -> list[Any]:
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return [image.getpixel((x, y)) for y in range(image.height) for x in range(image.width)]


def test_pixels_stay_and_what_hangs_on_them_goes() -> None:
    image = Image.new("RGB", (2, 1))
    image.putpixel((1, 0), (1, 2, 3))
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    made = plain(encoded(image, exif=exif))
    assert pixels(made) == [(0, 0, 0), (1, 2, 3)]
    assert b"where I live" not in made


def test_a_photo_is_turned_upright() -> None:
    image = Image.new("RGB", (2, 1), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    with Image.open(io.BytesIO(plain(encoded(image, exif=exif)))) as upright:
        assert upright.size == (1, 2)


def test_what_is_transparent_is_white() -> None:
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    palette = Image.new("P", (1, 1), 0)
    assert pixels(plain(encoded(half))) == pixels(plain(encoded(palette, transparency=0))) == [(255, 255, 255)]


def test_sixteen_bits_keep_their_tone() -> None:
    grey = Image.new("I;16", (1, 1), 0x8000)
    assert pixels(plain(encoded(grey))) == [(128, 128, 128)]


def test_of_a_moving_picture_the_first_counts() -> None:
    frames = [Image.new("RGB", (1, 1), colour) for colour in ("white", "black")]
    assert pixels(plain(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))) == [(255, 255, 255)]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(rows, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_unopened() -> None:
    for bomb in (png(5_000, 5_000, b""), png(12_000, 12_000, b""), png(60_000, 60_000, b"")):
        tracemalloc.start()
        with pytest.raises(InvalidInput, match=r"larger than 1000 pixels|too many pixels"):
            plain(bomb, most_pixels=1000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20


def test_more_packed_data_than_pixels_is_left_behind() -> None:
    honest = bytes(4)
    made = plain(png(1, 1, honest + bytes(10_000_000)))
    assert len(made) < 200 and pixels(made) == [(0, 0, 0)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        png(4, 4, b""),
        encoded(Image.new("RGB", (9, 9)), "JPEG")[:-40],
        encoded(Image.new("RGB", (9, 9)), "TIFF"),
        encoded(Image.new("RGB", (9, 9)), "ICO"),
        b"%PDF-1.4",
        b"RIFF\x10\x00\x00\x00WEBPVP8 ",
    ],
)
def test_what_is_damaged_or_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="cannot be read as PNG, JPEG, WEBP, GIF or BMP"):
        plain(data)


def test_several_share_one_bound() -> None:
    image = encoded(Image.new("RGB", (10, 10)))
    assert pixels_of(image) == 100
    assert len(plain_all([image] * 3, most_pixels=300)) == 3
    with pytest.raises(InvalidInput, match="larger than 299 pixels together"):
        plain_all([image] * 3, most_pixels=299)


def test_files_are_read_or_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (1, 1))))
    (tmp_path / "b.png").write_text("no image")
    assert data_address(read(tmp_path / "a.png")).startswith("data:image/png;base64,iVBOR")
    with pytest.raises(InvalidInput, match=r"b\.png: an image cannot be read"):
        read(tmp_path / "b.png")
    with pytest.raises(ReferenceNotFound, match=r"c\.png cannot be read: No such file"):
        read(tmp_path / "c.png")
