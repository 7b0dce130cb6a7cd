"""How much of what pages say is found: receipts and forms as printed, spoiled, and with fields erased.

    python benchmarks/extraction.py                     # 100 pages of each, about 20 minutes on 2 cores
    python benchmarks/extraction.py --pages 10 --model none --save pages
    python benchmarks/extraction.py --folder invoices --fields issuer,invoice_number,date,amount,currency

A field counts as right when its number, date, choice or code is the true one, and when a name or an address has at
least nine tenths of the true letters in order. A field that was erased is right when it is "missing" and null. The
figures stand beside the machine's own, so that the same command tells whether a change made things better. With
``--folder`` documents of one's own are read instead: ``NAME.pdf`` with what it says in ``NAME.json``, by a preset.
"""

import argparse
import difflib
import io
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from _pages import drawn

from smidgen.documents.choosing import opened
from smidgen.documents.extract import Extractor
from smidgen.documents.extraction import Extraction
from smidgen.documents.reading import File, PageReader
from smidgen.documents.schema import preset
from smidgen.documents.schema_reading import read_schema

SETS = {"clean": {}, "noisy": {"worse": True}, "erased": {"erase": 2}}
WORDED = (
    "company",
    "issuer",
    "address",
    "full_name",
    "emergency_contact",
    "occupation",
    "insurance_company",
    "vehicle_model",
    "city",
    "blood_type",
)


def plain(text: Any) -> str:
    return "".join(character for character in str(text).casefold() if character.isalnum())


def is_right(name: str, truth: Any, found: Any) -> bool:
    """Say whether a field's value is the true one."""
    if truth is None or found is None:
        return truth is found
    if isinstance(truth, (int, float)):
        return abs(float(found) - truth) < 0.005
    if name in WORDED:
        return difflib.SequenceMatcher(None, plain(truth), plain(found), autojunk=False).ratio() >= 0.9
    return plain(truth) == plain(found)


def read(extractor: Extractor, image: Any, name: str) -> Extraction:
    content = io.BytesIO()
    image.save(content, "PNG")
    return extractor.extract(File(name, content.getvalue()))


def measure(which: str, asked: argparse.Namespace, chooser: Any, reader: PageReader) -> dict[str, Any]:
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    seconds, wall, missed = 0.0, 0.0, []
    for number in range(asked.first, asked.first + asked.pages):
        page = drawn(number, **SETS[which])
        if asked.save:
            asked.save.mkdir(parents=True, exist_ok=True)
            page.image.save(asked.save / f"{number:03}-{which}.png")
        began = time.perf_counter()
        found = read(Extractor(read_schema(page.schema), reader, chooser), page.image, f"{number:03}")
        wall += time.perf_counter() - began
        seconds += found.seconds
        for name, truth in page.truth.items():
            if which == "erased" and truth is not None:
                continue
            kind = ("receipt " if "company" in page.truth else "form ") + name
            seen[kind] += 1
            good = is_right(name, truth, found[name]) and (truth is not None or found.fields[name].status == "missing")
            right[kind] += good
            if not good:
                missed.append([number, name, truth, found[name], found.fields[name].status])
    return {
        "set": which, "pages": asked.pages, "fields": sum(seen.values()), "right": sum(right.values()),
        "accuracy": sum(right.values()) / max(1, sum(seen.values())),
        "receipts": _share(right, seen, "receipt "), "forms": _share(right, seen, "form "),
        "seconds_per_page": seconds / asked.pages, "wall_per_page": wall / asked.pages, "missed": missed,
    }  # fmt: skip


def measure_folder(asked: argparse.Namespace, chooser: Any, reader: PageReader) -> None:
    """Print how many fields of real documents are right, and each that is not."""
    extractor = Extractor(read_schema(preset(asked.preset)), reader, chooser)
    right = seen = pages = 0
    seconds = 0.0
    for path in sorted(asked.folder.glob("*.pdf")):
        said = json.loads(path.with_suffix(".json").read_text())
        truth = said[0] if isinstance(said, list) else said
        found = extractor.extract(File.at(path))
        pages, seconds = pages + len(found.pages), seconds + found.seconds
        for name in asked.fields.split(","):
            seen += 1
            good = is_right(name, truth.get(name), found[name])
            right += good
            if not good:
                print("   ", path.name, name, repr(truth.get(name)), repr(found[name]), found.fields[name].status)
    print(f"{right} of {seen} fields right; {pages} pages, {seconds / max(1, pages):.2f} s of processor time a page")


def _share(right: Counter[str], seen: Counter[str], kind: str) -> float | None:
    total = sum(count for name, count in seen.items() if name.startswith(kind))
    return None if not total else sum(count for name, count in right.items() if name.startswith(kind)) / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=100, help="pages of each set")
    parser.add_argument("--first", type=int, default=0, help="number of the first page")
    parser.add_argument("--sets", default=",".join(SETS), help="clean, noisy, erased")
    parser.add_argument("--model", default="smollm2:135m", help="model that chooses; none asks none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", type=Path, help="folder to keep the pages in")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    parser.add_argument("--missed", action="store_true", help="show every field that is wrong")
    parser.add_argument("--folder", type=Path, help="read these documents instead of drawn ones")
    parser.add_argument("--preset", default="invoice", help="what to look for in them")
    parser.add_argument("--fields", default="issuer,invoice_number,date,amount,currency", help="what is compared")
    asked = parser.parse_args()
    reader = PageReader(asked.threads)
    results = []
    with opened(None if asked.model == "none" else asked.model, threads=asked.threads) as chooser:
        if asked.folder:
            measure_folder(asked, chooser, reader)
            return
        for which in asked.sets.split(","):
            found = measure(which, asked, chooser, reader)
            results.append(found)
            kinds = ", ".join(f"{name} {found[name]:.1%}" for name in ("receipts", "forms") if found[name] is not None)
            print(
                f"{which}: {found['right']} of {found['fields']} fields right, {found['accuracy']:.1%} ({kinds}); "
                f"{found['seconds_per_page']:.2f} s of processor time a page",
                flush=True,
            )
            for missed in found["missed"] if asked.missed else ():
                print("   ", *missed)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
