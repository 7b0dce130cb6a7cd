"""Receipts and forms that never were: drawn in varied layouts and fonts, with what they say known beforehand.

Each page is drawn from a seed. Some fields may be erased: their place stays empty, with or without their label.
A page may be made worse: skewed, blurred, unevenly lit, speckled, printed thin, and saved as a poor JPEG.
"""

import io
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONTS = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "DejaVuSansMono")
BOLD = {"STIXGeneral": "STIXGeneralBol"}
_FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"

FIRST = [
    "Amina", "Bruno", "Carla", "Diego", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kofi", "Lena", "Marek",
    "Nadia",
]  # fmt: skip
LAST = [
    "Adler", "Bianchi", "Castro", "Dupont", "Eriksen", "Fischer", "Garcia", "Hughes", "Ivanov", "Jansen",
    "Kowalski", "Lopez",
]  # fmt: skip
SHOPS = (
    "Harbour",
    "Northgate",
    "Blue Fig",
    "Old Mill",
    "Sunrise",
    "Red Lantern",
    "Kestrel",
    "Maple",
    "Corner",
    "Zenith",
    "Lucky Star",
)
TRADES = (
    "Bakery",
    "Hardware",
    "Pharmacy",
    "Books",
    "Grill",
    "Market",
    "Stationery",
    "Coffee",
    "Electronics",
    "Garden Centre",
    "Noodle Bar",
)
LEGAL = ("Ltd", "LLC", "Sdn Bhd", "GmbH", "Inc.", "", "", "Pte Ltd")
STREETS = (
    "Mill Road",
    "High Street",
    "Jalan Merdeka",
    "Station Avenue",
    "Park Lane",
    "King Street",
    "Lindenstraße",
    "Orchard Road",
)
TOWNS = (
    ("LS1 4AP", "Leeds"),
    ("81100", "Johor Bahru"),
    ("10115", "Berlin"),
    ("94538", "Fremont CA"),
    ("238823", "Singapore"),
    ("4000", "Basel"),
)
ITEMS = (
    "Rye bread",
    "Oat milk 1L",
    "Green tea",
    "Copper wire 2m",
    "Notebook A5",
    "Paracetamol",
    "Garden hose",
    "USB cable",
    "Chicken rice",
    "Espresso",
    "Ballpoint pen",
    "Wood screws",
    "Tomato soup",
    "Light bulb",
    "Sun cream",
    "Olive oil",
    "AA batteries",
    "Paint brush",
)
CURRENCIES = (("$", "USD"), ("€", "EUR"), ("£", "GBP"), ("RM", "MYR"), ("", ""), ("", ""))
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
]  # fmt: skip


@dataclass
class Page:
    """A page that is being drawn.

    Attributes:
        schema: What is asked of it.
        truth: What it says, by field; erased fields are None.
        image: The page.
    """

    schema: dict[str, Any]
    width: int
    height: int
    chance: random.Random
    erased: frozenset[str] = frozenset()
    truth: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.width, self.height), "white")
        self._draw = ImageDraw.Draw(self.image)
        self.font = self.chance.choice(FONTS)

    def face(self, size: int, bold: bool = False) -> Any:
        name = BOLD.get(self.font, f"{self.font}-Bold") if bold else self.font
        return ImageFont.truetype(str(_FOLDER / f"{name}.ttf"), size)

    def put(self, x: float, y: float, text: str, size: int, *, bold: bool = False, anchor: str = "la") -> float:
        face = self.face(size, bold)
        self._draw.text((x, y), text, font=face, fill="black", anchor=anchor)
        return float(self._draw.textlength(text, font=face))

    def rule(self, y: float) -> None:
        self._draw.line((20, y, self.width - 20, y), fill="black", width=1)

    def says(self, name: str, value: Any, text: str) -> str:
        """Note what a field says; the text to draw, nothing where the field is erased."""
        self.truth[name] = None if name in self.erased else value
        return "" if name in self.erased else text

    def keeps_label(self, name: str) -> bool:
        return name not in self.erased or self.chance.random() < 0.5


def _money(value: float, sign: str, chance: random.Random) -> str:
    return f"{sign}{' ' if sign == 'RM' and chance.random() < 0.5 else ''}{value:,.2f}"


def _telephone(chance: random.Random) -> str:
    return f"{chance.randint(20, 79)} {chance.randint(1000, 9999)} {chance.randint(1000, 9999)}"


def _day(chance: random.Random) -> tuple[str, str]:
    year, month, day = chance.randint(2015, 2025), chance.randint(1, 12), chance.randint(13, 28)
    shapes = (
        f"{day:02}/{month:02}/{year}",
        f"{day:02}-{month:02}-{year}",
        f"{year}-{month:02}-{day:02}",
        f"{day:02}.{month:02}.{year}",
        f"{day} {MONTHS[month - 1]} {year}",
        f"{MONTHS[month - 1][:3]} {day}, {year}",
        f"{day:02}/{month:02}/{year % 100:02}",
    )
    return f"{year}-{month:02}-{day:02}", chance.choice(shapes)


RECEIPT = {
    "type": "object",
    "properties": {
        "company": {"type": ["string", "null"]},
        "address": {"type": ["string", "null"]},
        "phone": {"type": ["string", "null"]},
        "receipt_number": {"type": ["string", "null"]},
        "date": {"type": ["string", "null"], "format": "date"},
        "subtotal": {"type": ["number", "null"]},
        "tax": {"type": ["number", "null"]},
        "total": {"type": ["number", "null"]},
        "paid": {"type": ["number", "null"]},
        "change": {"type": ["number", "null"]},
    },
}


def receipt(chance: random.Random, erased: frozenset[str] = frozenset()) -> Page:
    """Draw a receipt: a shop's head, its lines, its totals."""
    size = chance.choice((20, 22, 24))
    count = chance.randint(2, 7)
    page = Page(RECEIPT, chance.choice((560, 640, 720)), 560 + (count + 14) * int(size * 1.5), chance, erased)
    middle, right, step = page.width / 2, page.width - 36, int(size * 1.45)
    centred = chance.random() < 0.6
    x, anchor = (middle, "ma") if centred else (30, "la")
    y = 30.0
    name = f"{chance.choice(SHOPS)} {chance.choice(TRADES)} {chance.choice(LEGAL)}".strip()
    name = name.upper() if chance.random() < 0.5 else name
    page.put(
        x,
        y,
        page.says("company", name, name),
        size + chance.choice((0, 6, 10)),
        bold=chance.random() < 0.6,
        anchor=anchor,
    )
    y += step * 1.5
    code, town = chance.choice(TOWNS)
    street = f"{chance.randint(1, 220)} {chance.choice(STREETS)}"
    address = f"{street}, {code} {town}"
    if page.says("address", address, "yes"):
        for line in (street + ",", f"{code} {town}"):
            page.put(x, y, line, size, anchor=anchor)
            y += step
    phone = f"+{chance.choice((44, 49, 60, 65))} {_telephone(chance)}"
    if shown := page.says("phone", phone, phone):
        page.put(x, y, f"{chance.choice(('Tel: ', 'Phone ', 'Tel. '))}{shown}", size, anchor=anchor)
        y += step
    y += step * 0.6
    if chance.random() < 0.6:
        page.put(
            middle,
            y,
            chance.choice(("RECEIPT", "TAX INVOICE", "SALES RECEIPT", "Welcome!")),
            size,
            bold=True,
            anchor="ma",
        )
        y += step * 1.3
    number = f"{chance.choice(('', 'R', 'CS-', 'A/'))}{chance.randint(10000, 9999999)}"
    iso, shown = _day(chance)
    rows = [
        (
            "receipt_number",
            chance.choice(("Receipt No: ", "Receipt #", "Bill No. ", "Trans No: ", "Ticket ")),
            number,
            number,
        )
    ]
    label = chance.choice(("Date: ", "Date ", "", "Date/Time: "))
    rows.append(("date", label, iso, f"{shown} {chance.randint(8, 20):02}:{chance.randint(0, 59):02}"))
    chance.shuffle(rows)
    for key, label, value, text in rows:
        drawn = page.says(key, value, text)
        if drawn or page.keeps_label(key):
            page.put(30, y, f"{label}{drawn}", size)
        y += step
    page.rule(y + 4)
    y += step * 0.7
    y, subtotal = _lines(page, count, y, size, step, right)
    _totals(page, subtotal, y, size, step, right)
    return page


def _lines(page: Page, count: int, y: float, size: int, step: int, right: float) -> tuple[float, float]:
    chance, subtotal = page.chance, 0.0
    for _ in range(count):
        price, times = round(chance.uniform(0.5, 60), 2), chance.choice((1, 1, 1, 2, 3))
        subtotal += round(price * times, 2)
        page.put(30, y, chance.choice(ITEMS) if times == 1 else f"{times} x {chance.choice(ITEMS)}", size)
        page.put(right, y, f"{price * times:,.2f}", size, anchor="ra")
        y += step
    page.rule(y + 4)
    return y + step * 0.6, round(subtotal, 2)


def _totals(page: Page, subtotal: float, y: float, size: int, step: int, right: float) -> None:
    chance = page.chance
    sign = chance.choice(CURRENCIES)[0]
    rate = chance.choice((0, 5, 6, 8, 19, 20))
    tax = round(subtotal * rate / 100, 2)
    total = round(subtotal + tax, 2)
    paid = float(math.ceil(total / 10) * 10) if chance.random() < 0.5 else None
    rows = []
    if rate:
        rows.append(("subtotal", chance.choice(("Subtotal", "Sub Total", "Net amount", "SUBTOTAL:")), subtotal))
        rows.append(("tax", chance.choice((f"VAT {rate}%", f"GST {rate}%", "Tax", f"Sales tax ({rate}%)")), tax))
    rows.append(
        ("total", chance.choice(("TOTAL", "Total", "Grand Total", "Total Amount", "Amount due:", "Total Due")), total)
    )
    if paid is not None:
        rows.append(("paid", chance.choice(("Cash", "CASH", "Cash tendered", "Paid")), paid))
        rows.append(("change", chance.choice(("Change", "CHANGE", "Change due")), round(paid - total, 2)))
    for key, label, value in rows:
        drawn = page.says(key, value, _money(value, sign, chance))
        big = size + 6 if key == "total" and chance.random() < 0.5 else size
        if drawn or page.keeps_label(key):
            page.put(30, y, label, big, bold=big > size)
            page.put(right, y, drawn, big, bold=big > size, anchor="ra")
        y += step * (1.4 if big > size else 1)
    page.put(
        page.width / 2,
        y + step,
        chance.choice(("Thank you!", "Please come again", "Goods sold are not returnable")),
        size,
        anchor="ma",
    )


_QUESTIONS = {
    "full_name": ("Full name", "Name", "Applicant name"),
    "date_of_birth": ("Date of birth", "DOB", "Birth date"),
    "phone": ("Phone", "Telephone", "Mobile"),
    "email": ("Email", "E-mail address", "Email address"),
    "city": ("City", "Town"),
    "policy_number": ("Policy number", "Policy No."),
    "blood_type": ("Blood type",),
    "emergency_contact": ("Emergency contact",),
    "occupation": ("Occupation",),
    "height_cm": ("Height (cm)", "Height in cm"),
    "number_of_children": ("Number of children", "No. of children"),
    "next_appointment": ("Next appointment",),
    "insurance_company": ("Insurance company",),
    "vehicle_model": ("Vehicle model", "Model of vehicle"),
    "licence_plate": ("Licence plate",),
    "membership": ("Membership", "Type of membership"),
    "signature_date": ("Signature date", "Date of signature"),
}


def _answer(name: str, chance: random.Random) -> tuple[Any, str, dict[str, Any]]:
    person = f"{chance.choice(FIRST)} {chance.choice(LAST)}"
    text: dict[str, Any] = {"type": ["string", "null"]}
    if name in ("date_of_birth", "next_appointment", "signature_date"):
        return *_day(chance), {**text, "format": "date"}
    if name in ("height_cm", "number_of_children"):
        value = chance.randint(150, 199) if name == "height_cm" else chance.randint(0, 6)
        return value, str(value), {"type": ["integer", "null"]}
    if name == "membership":
        value = chance.choice(("Silver", "Gold", "Platinum"))
        return value, value, {"enum": ["Silver", "Gold", "Platinum"]}
    said = {
        "full_name": person,
        "emergency_contact": person,
        "phone": f"+44 {_telephone(chance)}",
        "email": f"{person.split()[0].lower()}.{person.split()[1].lower()}@example.org",
        "city": chance.choice(TOWNS)[1].removesuffix(" CA"),
        "policy_number": f"PL-{chance.randint(100000, 999999)}",
        "blood_type": chance.choice(("A positive", "B negative", "AB positive")),
        "occupation": chance.choice(("Welder", "Nurse", "Pastry chef", "Surveyor")),
        "insurance_company": chance.choice(("Kestrel Mutual", "Harbour Life")),
        "vehicle_model": chance.choice(("Astra 1.6", "Corolla", "Golf Variant")),
        "licence_plate": f"AB{chance.randint(10, 99)} CDE",
    }[name]
    return said, said, text


def form(chance: random.Random, erased: frozenset[str] = frozenset()) -> Page:
    """Draw a filled form: labels with their answers beside them, under them, or in two columns."""
    names = chance.sample(sorted(_QUESTIONS), chance.randint(6, 10))
    size = chance.choice((20, 22, 24))
    style = chance.choice(("beside", "colon", "under", "columns"))
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    page = Page(schema, 1000, 260 + int(len(names) * size * 3.2), chance, erased)
    page.put(
        40,
        36,
        chance.choice(("Patient intake form", "Membership application", "Registration", "Claim form")),
        size + 10,
        bold=True,
    )
    y, step = 120.0, size * (3.0 if style == "under" else 2.3)
    for index, name in enumerate(names):
        value, text, part = _answer(name, chance)
        schema["properties"][name] = part
        label = chance.choice(_QUESTIONS[name])
        drawn = page.says(name, value, text)
        x = 40 if style != "columns" or index % 2 == 0 else 540
        if drawn or page.keeps_label(name):
            if style == "under":
                page.put(x, y, label, size - 4)
                page.put(x, y + size * 1.15, drawn, size)
            else:
                width = page.put(x, y, label + (":" if style != "beside" else ""), size, bold=chance.random() < 0.3)
                page.put(380 if style == "beside" else x + width * 1.08 + 14, y, drawn, size)
        y += step if style != "columns" or index % 2 else 0
    page.put(40, page.height - 60, "Please keep a copy of this page for your records.", size - 6)
    return page


def spoiled(image: Image.Image, chance: random.Random) -> Image.Image:
    """Make a page worse, as a phone or a worn printer does."""
    image = image.rotate(chance.uniform(-3.5, 3.5), expand=True, fillcolor="white", resample=Image.Resampling.BICUBIC)
    image = image.filter(ImageFilter.GaussianBlur(chance.uniform(0.2, 0.9)))
    pixels = numpy.asarray(image, numpy.float32)
    noise = numpy.random.default_rng(chance.randrange(2**32))
    light = numpy.linspace(chance.uniform(0.72, 0.95), 1.0, pixels.shape[1], dtype=numpy.float32)[None, :, None]
    faded = 255 - (255 - pixels) * chance.uniform(0.6, 0.95)
    worse = faded * light + noise.normal(0, chance.uniform(3, 12), pixels.shape)
    specks = noise.random(pixels.shape[:2]) < chance.uniform(0, 0.002)
    worse[specks] = 60
    saved = io.BytesIO()
    Image.fromarray(worse.clip(0, 255).astype(numpy.uint8)).save(saved, "JPEG", quality=chance.randint(30, 70))
    return Image.open(saved).convert("RGB")


def drawn(number: int, *, worse: bool = False, erase: int = 0) -> Page:
    """Draw page ``number`` of the set: six receipts, then four forms, and so on.

    Args:
        number: Which; the same number is the same page.
        worse: Spoil it.
        erase: How many of its fields to leave empty.
    """
    make = receipt if number % 10 < 6 else form
    page = make(random.Random(number))
    if erase:
        names = random.Random(number + 1).sample(sorted(page.truth), min(erase, len(page.truth)))
        page = make(random.Random(number), frozenset(names))
    if worse:
        page.image = spoiled(page.image, random.Random(number + 2))
    return page
