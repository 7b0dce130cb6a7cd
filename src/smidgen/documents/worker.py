"""The child process of `smidgen.documents.batch`: extracts from one document after another until the parent closes.

PDFium is not made for several threads, and a damaged file may bring a decoder down: what happens to a worker
happens to one document.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from smidgen import heap
from smidgen.documents.choosing import ModelChooser
from smidgen.documents.extract import Extractor
from smidgen.documents.overlay import pictures, write_overlay
from smidgen.documents.reading import File, PageReader
from smidgen.documents.schema_reading import read_schema
from smidgen.errors import SmidgenError
from smidgen.inference.child import Parent, peak_resident_bytes, run
from smidgen.progress import Progress


def main(parent: Parent) -> None:
    """Take the schema and the model from the first request, then documents."""
    first = parent.next_request()
    try:
        extractor = _extractor(first)
    except SmidgenError as error:
        parent.answer(failed=described(error))
        return
    parent.answer(ready=True)
    while True:
        parent.answer(**_answer(extractor, parent.next_request(), lambda event: parent.answer(at=event.stage)))


def described(error: SmidgenError) -> dict[str, Any]:
    """Return an error as a row of a batch has it."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "remedy": error.remedy,
        "exit_code": error.exit_code,
    }


def _extractor(request: dict[str, Any]) -> Extractor:
    threads = int(request["threads"])
    path = request["model_path"]
    projector = None if request["projector"] is None else Path(request["projector"])
    chooser = None if path is None else ModelChooser(request["model"], Path(path), threads, projector)
    return Extractor(read_schema(request["schema"]), PageReader(threads), chooser)


@heap.reused()
def _answer(extractor: Extractor, request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    try:
        file = replace(File.at(request["path"]), name=request["name"])
        found = extractor.extract(file, pages=request["pages"], progress=progress)
        if request["overlay"] is not None:
            write_overlay(file, found, extractor.reader, Path(request["overlay"]))
        extraction = found.describe()
        if request["pictures"]:
            drawn = pictures(file, found, extractor.reader)
            for page in extraction["pages"]:
                page["picture"] = drawn.get(page["number"])
    except SmidgenError as error:
        return {"failed": described(error), "peak": peak_resident_bytes()}
    except MemoryError:
        return {
            "failed": {
                "type": "OutOfResources",
                "message": "There is not enough memory.",
                "remedy": None,
                "exit_code": 2,
            }
        }
    return {"extraction": extraction, "peak": peak_resident_bytes()}


if __name__ == "__main__":
    run(main)
