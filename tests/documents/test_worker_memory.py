"""What one document took is given back before the next."""

from __future__ import annotations

import psutil
import pytest

from smidgen import heap
from smidgen.documents.worker import _answer
from smidgen.errors import InvalidInput
from smidgen.progress import silent

BLOCK, BLOCKS = 64 << 10, 3200


class Hungry:
    """Takes 200 MB in blocks and leaves the last one behind, so that the heap's end stays where it was."""

    def extract(self, file, **options):
        blocks = [bytes(bytearray(BLOCK)) for _ in range(BLOCKS)]
        self.left = blocks[-1]
        raise InvalidInput("Nothing can be read.")


def test_what_a_document_took_goes_back(tmp_path):
    if heap._library() is None:
        pytest.skip("another C library than glibc")
    page = tmp_path / "page.png"
    page.write_bytes(b"no picture")
    request = {"path": str(page), "name": "page.png", "pages": None, "overlay": None, "pictures": False}
    before, hungry = psutil.Process().memory_info().rss, Hungry()
    assert _answer(hungry, request, silent)["failed"]["message"] == "Nothing can be read."
    assert hungry.left and psutil.Process().memory_info().rss - before < BLOCK * BLOCKS / 4
