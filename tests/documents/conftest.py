"""Documents made for tests: PDFs written byte by byte, and pictures of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import pytest
from PIL import Image, ImageDraw, ImageFont

Text = tuple[float, float, str]
"""Where a line begins, in points from the upper left corner of an A5 page, and what it says."""

WIDTH, HEIGHT = 420, 595


def build_pdf(pages: Sequence[Sequence[Text]], *, rotate: int = 0, encrypted: bool = False, size: int = 11) -> bytes:
    """Write a PDF with a text layer in Helvetica."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    numbers = []
    for lines in pages:
        drawn = b"BT\n" + b"".join(
            f"/F1 {size} Tf 1 0 0 1 {x} {HEIGHT - y - size} Tm ".encode() + b"(" + _escaped(text) + b") Tj\n"
            for x, y, text in lines
        )
        objects.append(b"<< /Length %d >>\nstream\n" % len(drawn + b"ET") + drawn + b"ET\nendstream")
        numbers.append(len(objects) + 1)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Rotate {rotate} "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {len(objects)} 0 R >>".encode()
        )
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(numbers)} >>".encode()
    trailer = b""
    if encrypted:
        objects.append(b"<< /Filter /Standard /V 1 /R 2 /P -44 /O <%s> /U <%s> >>" % (b"11" * 32, b"22" * 32))
        trailer = f" /Encrypt {len(objects)} 0 R /ID [<{'33' * 16}> <{'33' * 16}>]".encode()
    content, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n".encode() + each + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    end = f"trailer << /Size {len(objects) + 1} /Root 1 0 R".encode() + trailer + b" >>\n"
    return content + head + table + end + f"startxref\n{len(content)}\n%%EOF\n".encode()


def _escaped(text: str) -> bytes:
    return text.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


INVOICE: tuple[Text, ...] = (
    (40, 40, "Kestrel Tools Ltd"),
    (40, 56, "12 Mill Road"),
    (40, 72, "LS1 4AP Leeds"),
    (40, 110, "Invoice No: KT-2044"),
    (40, 126, "Invoice date: 14/03/2024"),
    (40, 142, "Due date: 13/04/2024"),
    (40, 158, "Bill to: Anna Lee"),
    (40, 200, "Description"),
    (200, 200, "Qty"),
    (260, 200, "Unit price"),
    (350, 200, "Amount"),
    (40, 216, "Hand saw"),
    (200, 216, "2"),
    (260, 216, "15.50"),
    (350, 216, "31.00"),
    (40, 232, "Wood glue"),
    (200, 232, "1"),
    (260, 232, "9.00"),
    (350, 232, "9.00"),
    (260, 270, "Subtotal"),
    (350, 270, "40.00"),
    (260, 286, "VAT 20%"),
    (350, 286, "8.00"),
    (260, 302, "Total"),
    (350, 302, "£48.00"),
)
"""What one invoice says."""

SAID = {
    "issuer": "Kestrel Tools Ltd",
    "invoice_number": "KT-2044",
    "date": "2024-03-14",
    "due_date": "2024-04-13",
    "buyer": "Anna Lee",
    "amount": 48.0,
    "amount_untaxed": 40.0,
    "tax": 8.0,
    "currency": "GBP",
}
"""The same, field by field of the preset."""


@pytest.fixture(scope="session")
def pdf() -> Callable[..., bytes]:
    """Writes PDFs: ``pdf([[(40, 40, "Total 9.00")]])``."""
    return build_pdf


@pytest.fixture(scope="session")
def invoice() -> tuple[tuple[Text, ...], dict[str, object]]:
    """The lines of an invoice, and what they say."""
    return INVOICE, SAID


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    """Draws lines of words: ``picture(["Total 9.00"])``."""
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"

    def draw(lines: Sequence[str], width: int = 520, size: int = 24) -> Image.Image:
        image = Image.new("RGB", (width, 50 + 48 * len(lines)), "white")
        face = ImageFont.truetype(str(font), size)
        for number, line in enumerate(lines):
            ImageDraw.Draw(image).text((30, 24 + 48 * number), line, font=face, fill="black")
        return image

    return draw


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that leave the other core alone."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
