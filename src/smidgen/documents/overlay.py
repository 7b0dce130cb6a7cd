"""What was found, drawn on the pages: PNG pictures, and one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.documents.page import Box, Page
from smidgen.models.files import atomic_write, make_folder

if TYPE_CHECKING:
    from PIL.Image import Image

    from smidgen.documents.extraction import Extraction, Found, Sheet
    from smidgen.documents.reading import File, PageReader

COLOURS = {
    "grounded": "#1a7f37",
    "ungrounded": "#8250df",
    "invalid_format": "#bf8700",
    "failed_check": "#cf222e",
    "missing": "#6e7781",
}
_LARGEST, _SENT = 1600, 1400
_MOST_PAGES = 20
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0;color:#1f2328;background:#f6f8fa;
display:flex;flex-wrap:wrap;gap:24px;padding:24px}
.page{position:relative;flex:1 1 480px;max-width:1000px}
.page img{width:100%;display:block;box-shadow:0 1px 6px #0003;background:#fff}
.page div{position:absolute;border:2px solid;border-radius:3px;box-sizing:border-box}
.page div:hover,.page div.on{background:#ffd33d55}
.page div span{position:absolute;left:-2px;bottom:100%;font-size:11px;line-height:1.3;color:#fff;
padding:0 4px;white-space:nowrap;border-radius:3px 3px 0 0}
aside{flex:1 1 320px}table{border-collapse:collapse;width:100%;background:#fff}
td,th{padding:6px 10px;border-bottom:1px solid #d0d7de;text-align:left;vertical-align:top;overflow-wrap:anywhere}
h1{font-size:18px;margin:0 0 12px}
"""


def write_overlay(file: File, found: Extraction, reader: PageReader, folder: Path) -> list[Path]:
    """Draw what was found on a document's pages.

    Args:
        file: The document.
        found: What was found in it.
        reader: What reads its pages.
        folder: Where to write ``NAME.page1.png`` and so on, and ``NAME.html``.

    Returns:
        The files that were written.
    """
    make_folder(folder)
    written: list[Path] = []
    shown: list[tuple[Sheet, Image]] = []
    for sheet in found.pages[:_MOST_PAGES]:
        image = _picture(file, sheet, reader, _LARGEST)
        shown.append((sheet, image))
        path = folder / f"{file.name}.page{sheet.number}.png"
        atomic_write(path, _png(_drawn(image.copy(), sheet, found)))
        written.append(path)
    path = folder / f"{file.name}.html"
    atomic_write(path, _document(found, shown))
    return [*written, path]


def pictures(file: File, found: Extraction, reader: PageReader, most: int = _SENT) -> dict[int, str]:
    """Return pages by their numbers as JPEG in base64: the first, and those on which something was found.

    Args:
        file: The document.
        found: What was found in it.
        reader: What reads its pages.
        most: Pixels of a page's longer side.
    """
    wanted = {each.page for each in found.fields.values()}
    sheets = [sheet for index, sheet in enumerate(found.pages) if not index or sheet.number in wanted]
    return {sheet.number: _jpeg(_picture(file, sheet, reader, most)) for sheet in sheets[:_MOST_PAGES]}


def _picture(file: File, sheet: Sheet, reader: PageReader, most: int) -> Image:
    page = Page(sheet.number, sheet.width, sheet.height, "px", (), "ocr", sheet.rotation)
    return reader.picture(file, page, most)


def _on(sheet: Sheet, found: Extraction) -> Iterator[tuple[Found, Box]]:
    for each in found.fields.values():
        if each.page == sheet.number:
            for box in each.boxes:
                yield each, box


def _drawn(image: Image, sheet: Sheet, found: Extraction) -> Image:
    from PIL import ImageDraw, ImageFont

    across, down = image.width / sheet.width, image.height / sheet.height
    draw = ImageDraw.Draw(image, "RGBA")
    font = ImageFont.load_default(max(11, image.height // 90))
    for each, box in _on(sheet, found):
        colour = COLOURS[each.status]
        place = [box.left * across - 2, box.top * down - 2, box.right * across + 2, box.bottom * down + 2]
        draw.rectangle(place, outline=colour, width=2, fill=f"{colour}22")
        if box is each.boxes[0]:
            left, top, right, bottom = draw.textbbox((0, 0), each.path, font=font)
            begin = max(0.0, place[1] - (bottom - top) - 6)
            draw.rectangle([place[0], begin, place[0] + right - left + 6, begin + bottom - top + 6], fill=colour)
            draw.text((place[0] + 3, begin + 2 - top), each.path, fill="white", font=font)
    return image


def _png(image: Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def _jpeg(image: Image) -> str:
    written = io.BytesIO()
    image.save(written, "JPEG", quality=80)
    return base64.b64encode(written.getvalue()).decode()


def _document(found: Extraction, shown: list[tuple[Sheet, Image]]) -> str:
    pages = "".join(_page(sheet, image, found) for sheet, image in shown)
    rows = "".join(
        f"<tr><td>{html.escape(each.path)}</td><td>{'' if each.value is None else html.escape(str(each.value))}</td>"
        f'<td style="color:{COLOURS[each.status]}">{html.escape(each.status.replace("_", " "))}</td>'
        f"<td>{f'{each.confidence:.0%}' if each.value is not None else ''}</td></tr>"
        for each in found.fields.values()
    )
    faults = "".join(f"<p>{html.escape(fault)}</p>" for fault in found.faults)
    name = html.escape(found.file)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{name}</title><style>{_STYLE}</style><main style='display:contents'>{pages}"
        f"<aside><h1>{name}</h1><table><tr><th>field<th>value<th>status<th>sure</tr>{rows}</table>{faults}</aside></main></html>"
    )


def _page(sheet: Sheet, image: Image, found: Extraction) -> str:
    boxes = ""
    for each, box in _on(sheet, found):
        colour = COLOURS[each.status]
        place = (
            f"left:{box.left / sheet.width:.3%};top:{box.top / sheet.height:.3%};"
            f"width:{box.width / sheet.width:.3%};height:{box.height / sheet.height:.3%}"
        )
        name = f'<span style="background:{colour}">{html.escape(each.path)}</span>' if box is each.boxes[0] else ""
        title = html.escape(f"{each.path}: {each.value}", quote=True)
        boxes += f'<div style="{place};border-color:{colour}" title="{title}">{name}</div>'
    picture = f'<img alt="page {sheet.number}" src="data:image/jpeg;base64,{_jpeg(image)}">'
    return f'<section class="page">{picture}{boxes}</section>'
