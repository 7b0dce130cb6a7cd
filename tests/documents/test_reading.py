"""Pages of every kind of file, upright or not, whole or bad; what is too large is refused before it is decoded."""

import io
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image, ImageDraw

from smidgen.documents import ocr
from smidgen.documents.layout import lay_out
from smidgen.documents.readers import open_source
from smidgen.documents.reading import MOST_PAGES, File, PageReader
from smidgen.errors import DamagedFile, InvalidInput, MissingExtra, ReferenceNotFound, SmidgenError, Unsupported


@pytest.fixture(scope="module")
def reader():
    return PageReader()


def pages(reader, content, name="file", wanted=None):
    return list(reader.pages(File(name, content), wanted))


def saved(image, kind, **options):
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def test_a_text_layer_is_read_without_ocr_and_its_boxes_lie_where_the_words_stand(reader, pdf):
    [page] = pages(reader, pdf([[(40, 100, "Total due"), (300, 100, "12.50")]]))
    assert (page.source, page.unit, page.rotation) == ("text", "pt", 0)
    assert (page.width, page.height) == (420, 595)
    words = {word.text: word.box for word in page.words}
    assert set(words) == {"Total", "due", "12.50"}
    assert 38 < words["Total"].left < 42 and 95 < words["Total"].top < words["Total"].bottom < 117
    assert 298 < words["12.50"].left < 302
    assert "ocr" not in vars(reader)


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_a_page_that_the_file_turns_is_read_upright(reader, pdf, rotate):
    lines = [[(40, 100, "Total due"), (300, 140, "12.50")]]
    [plain], [turned] = pages(reader, pdf(lines)), pages(reader, pdf(lines, rotate=rotate))
    assert turned.rotation == (360 - rotate) % 360
    assert (turned.width, turned.height) == (plain.width, plain.height)
    found = {word.text: word.box.rounded() for word in turned.words}
    assert found.keys() == {word.text for word in plain.words}
    for word in plain.words:
        assert found[word.text] == pytest.approx(word.box.rounded(), abs=1.5)


def test_an_empty_page_has_no_words(reader, pdf):
    [page] = pages(reader, pdf([[]]))
    assert page.words == () and page.source == "text"


@pytest.mark.parametrize("turn", [0, 180])
def test_a_picture_is_read_upright_also_when_it_stands_on_its_head(reader, picture, turn):
    image = picture(["Harbour Bakery", "Total amount 12.50"]).rotate(turn)
    [page] = pages(reader, saved(image, "PNG"))
    assert (page.source, page.rotation, page.unit) == ("ocr", turn, "px")
    lines = [" ".join(segment.text for segment in line) for line in lay_out(page).lines]
    assert lines == ["Harbour Bakery", "Total amount 12.50"]
    first = min(page.words, key=lambda word: (word.box.top, word.box.left))
    assert 20 < first.box.left < 45 and first.score > 0.9


def test_a_skewed_picture_has_straight_lines(reader, picture):
    image = picture(["Harbour Bakery and Cafe", "Total amount      12.50"]).rotate(-3, expand=True, fillcolor="white")
    [page] = pages(reader, saved(image, "WEBP", lossless=True))
    assert 2 < page.skew < 4
    lines = [" ".join(segment.text for segment in line) for line in lay_out(page).lines]
    assert lines == ["Harbour Bakery and Cafe", "Total amount 12.50"]


def test_every_page_of_a_tiff_is_read(reader, picture):
    first, second = picture(["One"], 200), picture(["Two"], 200)
    content = saved(first, "TIFF", save_all=True, append_images=[second])
    assert [[word.text for word in page.words] for page in pages(reader, content)] == [["One"], ["Two"]]


def test_a_photo_is_turned_as_its_camera_says(reader, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    content = saved(picture(["Total 12.50"]).rotate(90, expand=True), "JPEG", exif=exif)
    [page] = pages(reader, content)
    assert page.rotation == 0 and page.width > page.height
    assert page.words[0].text == "Total" and page.words[0].box.left < page.width / 4


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", DamagedFile, "empty"),
        (b"%PDF-1.4\nnothing more", DamagedFile, "damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), DamagedFile, "damaged"),
        (b"\xff\xd8\xff\xe0" + bytes(40), DamagedFile, "damaged"),
        (b"II*\0" + bytes(40), DamagedFile, "damaged"),
        (b"RIFF\0\0\0\0WEBPVP8 ", DamagedFile, "damaged"),
        (b"hello", Unsupported, "PDF, PNG, JPEG, TIFF and WebP"),
    ],
)
def test_a_bad_file_is_an_error_that_names_it(reader, content, kind, words):
    with pytest.raises(kind, match=words) as caught:
        pages(reader, content, "bad.pdf")
    assert "bad.pdf" in str(caught.value)


def test_a_picture_that_is_cut_off_is_an_error(reader, picture):
    content = saved(picture(["Total"]), "PNG")
    with pytest.raises(DamagedFile, match="cannot be decoded"):
        pages(reader, content[: len(content) // 2])


def test_a_protected_pdf_says_so(reader, pdf):
    with pytest.raises(InvalidInput, match=r"protected by a password\. Save a copy"):
        pages(reader, pdf([[(40, 40, "Secret")]], encrypted=True))


def test_a_pdf_of_2000_pages_is_refused_and_read_where_pages_are_chosen(reader, pdf):
    content = pdf([[(40, 40, f"Page {number}")] for number in range(1, 2001)])
    with pytest.raises(InvalidInput, match=rf"2,000 pages, and at most {MOST_PAGES}.*--pages"):
        pages(reader, content)
    assert [page.words[1].text for page in pages(reader, content, wanted=[1, 2000])] == ["1", "2000"]
    with pytest.raises(InvalidInput, match="page 2001"):
        pages(reader, content, wanted=[2001])


def bomb(side):
    """A PNG of so many black pixels a side, of which the file holds a thousandth."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    rows = b"".join([*(packer.compress(bytes(1 + (side + 7) // 8)) for _ in range(side)), packer.flush()])
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_goes_off(reader):
    content = bomb(20_000)
    assert len(content) < 500_000
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="pixels"):
        pages(reader, content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_photo_of_400_million_pixels_is_read_smaller_than_it_is(reader):
    paper = Image.new("L", (20_000, 20_000), "white")
    ImageDraw.Draw(paper).rectangle((9_000, 9_000, 9_800, 9_050), fill="black")
    content = saved(paper, "JPEG", quality=20)
    del paper
    sheet = open_source(content, "photo.jpg").sheet(0)
    assert (sheet.width, sheet.height) == (20_000, 20_000) and sheet.picture(2000).size == (2000, 2000)
    # The frame of a progressive picture is held whole while it is decoded.
    head = content.index(b"\xff\xc0")
    with pytest.raises(InvalidInput, match="400,000,000 pixels"):
        open_source(content[: head + 1] + b"\xc2" + content[head + 2 :], "progressive.jpg").sheet(0)


@pytest.mark.parametrize("size", [(900, 500), (60_000, 3)])
def test_an_empty_picture_has_no_words(reader, size):
    [page] = pages(reader, saved(Image.new("L", size, "white"), "PNG"))
    assert page.words == () and (page.width, page.height) == size


def test_a_missing_file_is_an_error():
    with pytest.raises(ReferenceNotFound):
        File.at("/nowhere/at/all.pdf")


def test_without_its_packages_the_command_to_install_them_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "rapidocr" else object())
    with pytest.raises(MissingExtra, match=r"pip install 'smidgen\[documents\]'"):
        ocr.require_installed()


@pytest.mark.parametrize("seed", range(6))
def test_damaged_bytes_never_show_anything_but_an_error_for_a_person(reader, pdf, picture, seed):
    import random

    chance = random.Random(seed)
    content = bytearray(pdf([[(40, 40, "Total 9.00")]]) if seed % 2 else saved(picture(["Total"], 120), "TIFF"))
    for _ in range(12):
        content[chance.randrange(8, len(content))] = chance.randrange(256)
    try:
        source_pages = pages(reader, bytes(content))
    except SmidgenError:
        return
    assert all(page.number == 1 for page in source_pages)
