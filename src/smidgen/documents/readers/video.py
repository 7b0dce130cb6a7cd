"""Videos: a few evenly sampled frames, each of which is a page."""

from __future__ import annotations

from dataclasses import dataclass

from smidgen.documents.readers.picture import PictureSheet
from smidgen.inference.video import BEGINNINGS, SAMPLED, SUFFIXES, Clip


@dataclass(frozen=True)
class Video:
    """MP4, QuickTime, WebM, Matroska and AVI through PyAV, which the extra ``video`` installs.

    Attributes:
        frames: How many frames are sampled; page 1 is the middle of the first of as many pieces of equal length.
    """

    beginnings: tuple[tuple[int, bytes], ...] = BEGINNINGS
    suffixes: tuple[str, ...] = SUFFIXES
    frames: int = SAMPLED

    def open(self, content: bytes, name: str) -> VideoSource:
        """Open a file's content.

        Raises:
            MissingExtra: PyAV is not installed.
            DamagedFile: It cannot be decoded.
            Unsupported: It holds no moving pictures.
        """
        return VideoSource(content, name, self.frames)


class VideoSource:
    """An open video."""

    def __init__(self, content: bytes, name: str, frames: int) -> None:
        self._clip = Clip(content, name, frames)
        self.count = self._clip.count

    def sheet(self, index: int) -> PictureSheet:
        """Return a sampled frame.

        Raises:
            DamagedFile: It cannot be decoded.
        """
        image = self._clip.frame(index)
        return PictureSheet(float(image.width), float(image.height), image)

    def close(self) -> None:
        """Give its memory back."""
        self._clip.close()
