"""Images and videos that a prompt names by their paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.errors import ReferenceNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from smidgen.cli._conversation import Chat

_ENDING = r"\.(?i:png|jpe?g|webp|gif|bmp|mp4|m4v|mov|webm|mkv|avi)"
_PATH = re.compile(
    rf"""(?<!\S)(?:"([^"\n]+{_ENDING})"|'([^'\n]+{_ENDING})'|((?:\\\s|\S)+?{_ENDING}))(?![^\s,.;:!?)])"""
)


def take_out(chat: Chat, text: str, say: Callable[[str], object]) -> tuple[str, tuple[bytes, ...]]:
    """Read the images that a prompt names, and leave their paths out of it; of a video evenly sampled frames.

    Paths stand between spaces; one that has spaces itself stands in quotes, or has a backslash before each.

    Args:
        chat: The conversation, whose model may read images or not.
        text: What was written.
        say: Told which images were taken, and which the model cannot read.

    Raises:
        ReferenceNotFound: A path names no file.
        InvalidInput: A file is no image.
    """
    from smidgen.inference import images, video

    sees = chat.sees
    found: list[bytes] = []

    def replacement(match: re.Match[str]) -> str:
        written = match[1] or match[2] or re.sub(r"\\(\s)", r"\1", match[3])
        path = Path(written).expanduser()
        is_there = path.is_file()
        is_path = "/" in written or "\\" in written
        if "://" in written or not (is_there or (sees and is_path)):
            return match[0]
        if not is_there:
            raise ReferenceNotFound(f"There is no image {written}.", remedy="Give the path of an image, or quote it.")
        if not sees:
            say(f"This model reads no images: {written} is to it the name alone.")
            return match[0]
        if path.suffix.lower() in video.SUFFIXES:
            times, shown = zip(*video.frames(path), strict=True)
            found.extend(shown)
            say(f"Added {len(times)} frames of {written}, from {times[0]:.1f} s to {times[-1]:.1f} s")
        else:
            found.append(images.read(path))
            say(f"Added image {written}")
        return ""

    kept = _PATH.sub(replacement, text)
    return (kept.strip() if found else text), tuple(found)
