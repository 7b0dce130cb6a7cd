"""Videos as models see them: a few frames, evenly sampled over the whole length, decoded through PyAV."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, InvalidInput, MissingExtra, Unsupported
from smidgen.inference.images import bytes_of

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
BEGINNINGS = ((4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "))
"""What videos begin with, and where: MP4 and QuickTime, Matroska and WebM, AVI."""

SAMPLED = 8
"""Frames of a video that are looked at."""
MOST_PIXELS = 40_000_000
"""Pixels of a frame: 8K video has 33 million."""
MOST_BYTES = 512 << 20
_SHOWN = 1024
_PHOTOS = (b"heic", b"heix", b"mif1", b"avif")
"""Kinds of MP4 that hold photos."""


class Clip:
    """An open video, of which evenly sampled frames are read.

    The length is parted into as many pieces as there are frames to sample; each frame is the middle of its piece.

    Args:
        content: The file's bytes.
        name: What it is called in messages.
        most: Frames to sample; all of a video that has fewer.

    Attributes:
        count: Frames that are sampled.
        times: When each of them is shown, in seconds.

    Raises:
        MissingExtra: PyAV is not installed; the remedy is the pip command.
        DamagedFile: It cannot be decoded.
        InvalidInput: Its frames are too large.
        Unsupported: It holds no moving pictures.
    """

    def __init__(self, content: bytes, name: str, most: int = SAMPLED) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingExtra.of("reading videos", "av", "video") from error
        self._name = name
        if content[8:12] in _PHOTOS:
            raise Unsupported(f"{name} is a photo of a kind that is not read.", remedy="Save it as JPEG or PNG.")
        with self._refusing():
            self._file = av.open(io.BytesIO(content))
            if not self._file.streams.video:
                raise Unsupported(f"{name} holds no moving pictures.")
            self._stream = self._file.streams.video[0]
            pixels = self._stream.width * self._stream.height
            if pixels > MOST_PIXELS:
                raise InvalidInput(f"{name} has frames of {pixels:,} pixels, and at most {MOST_PIXELS:,} are decoded.")
            begin, length = self._extent()
        self.count = max(1, min(most, self._stream.frames or most))
        self.times = tuple(begin + length * (index + 0.5) / self.count for index in range(self.count))

    def frame(self, index: int) -> Image:
        """Return a sampled frame, counted from 0, upright in RGB.

        Raises:
            DamagedFile: It cannot be decoded.
        """
        with self._refusing():
            self._file.seek(math.floor(self.times[index] / self._stream.time_base), stream=self._stream)
            last = None
            for last in self._file.decode(self._stream):
                if last.time is None or last.time + self._half_a_frame() >= self.times[index]:
                    break
            if last is not None:
                image: Image = last.to_image()
                return image.rotate(last.rotation, expand=True) if last.rotation else image
        raise DamagedFile(f"{self._name} is damaged: it has no frame {index + 1}.")

    def close(self) -> None:
        """Give its memory back. May be called again."""
        self._file.close()

    def _extent(self) -> tuple[float, float]:
        """Return when it begins and how long it lasts, in seconds; where no head says so, its packets do."""
        base = self._stream.time_base
        begin = self._stream.start_time or 0
        if self._stream.duration:
            return float(begin * base), float(self._stream.duration * base)
        if self._file.duration:
            return float(begin * base), self._file.duration / 1_000_000
        last = max((packet.pts for packet in self._file.demux(self._stream) if packet.pts is not None), default=begin)
        return float(begin * base), float((last - begin) * base)

    def _half_a_frame(self) -> float:
        rate = self._stream.average_rate
        return 0.5 / float(rate) if rate else 0.0

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        import av

        try:
            yield
        except (av.error.FFmpegError, ValueError, OverflowError, MemoryError) as error:
            raise DamagedFile(f"{self._name} is damaged: it begins like a video and cannot be decoded.") from error


def frames(path: Path, most: int = SAMPLED) -> Iterator[tuple[float, bytes]]:
    """Yield evenly sampled frames of a video: when each is shown, in seconds, and a PNG of at most 1024 pixels a side.

    Raises:
        ReferenceNotFound: There is no such file.
        SmidgenError: It is no video that can be decoded; see `Clip`.
    """
    clip = Clip(bytes_of(path, "video", MOST_BYTES), path.name, most)
    try:
        for index, seconds in enumerate(clip.times):
            yield seconds, packed(clip.frame(index))
    finally:
        clip.close()


def packed(image: Any, most: int = _SHOWN) -> bytes:
    """Return a picture as PNG, made smaller where its longer side has more pixels."""
    small = image.copy()
    small.thumbnail((most, most))
    written = io.BytesIO()
    small.save(written, "PNG", compress_level=1)
    return written.getvalue()
