"""Writes the folder that is handed over: model, recipe, receipt, report, card, licence, evidence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.export import safetensors
from smidgen.export.modelfile import modelfile
from smidgen.models.files import atomic_path, atomic_write, make_folder, projector_beside
from smidgen.recipe.quantities import format_size
from smidgen.recipe.receipt import NAME as RECEIPT

if TYPE_CHECKING:
    from smidgen.data.curation import Datasheet
    from smidgen.evaluate.windows import Text
    from smidgen.models.model import Model
    from smidgen.recipe.recipe import Recipe

MODEL, RECIPE, REPORT, EVIDENCE = "model.gguf", "recipe.yaml", "report.html", "evidence"
DATASHEET = "datasheet.md"


def write_model(made: Path, model: Model, before_storing: Model | None, folder: Path) -> None:
    """Put the GGUF in place, what it reads images with, and where more than storing was done the transformers folder.

    Args:
        made: The finished GGUF in the work folder, beside it what it reads images with.
        model: The model it was written from.
        before_storing: The cut and healed model before quantization.
        folder: Where it is handed over.
    """
    for source, target in ((made, folder / MODEL), (projector_beside(made), projector_beside(folder / MODEL))):
        if source.is_file():
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        else:
            target.unlink(missing_ok=True)
    if before_storing is not None:
        safetensors.write(before_storing, folder / "model")


def write_texts(folder: Path, texts: Sequence[Text]) -> None:
    """Keep the measured texts, so that anyone can measure the same again."""
    make_folder(folder / EVIDENCE)
    for text in texts:
        atomic_write(folder / EVIDENCE / f"{_file_name(text.name)}.txt", text.content)


def write_datasheet(folder: Path, datasheet: Datasheet | None) -> None:
    """Say what of the user's data was used, and why the rest was not; nothing for the built-in text."""
    if datasheet is not None:
        atomic_write(folder / EVIDENCE / DATASHEET, datasheet.to_markdown())


def evidence_of(folder: Path, name: str) -> Path:
    """Return where the text of this name is kept."""
    return folder / EVIDENCE / f"{_file_name(name)}.txt"


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")


def write_papers(
    folder: Path, model: Model, recipe: Recipe, receipt: Mapping[str, Any], licences: Sequence[Path]
) -> None:
    """Write recipe, Modelfile, licence, card, report, and last the receipt, which says that all is there."""
    from smidgen.evaluate.report import render

    licence = None
    for path in licences:
        name = path.name if path.name.upper().startswith(("LICENSE", "LICENCE", "NOTICE")) else f"source-{path.name}"
        content = path.read_bytes()
        atomic_write(folder / name, content)
        if name.upper().startswith(("LICENSE", "LICENCE")):
            licence = content.decode("utf-8", errors="replace")
    atomic_write(folder / RECIPE, recipe.to_yaml())
    beside = projector_beside(folder / MODEL)
    text = modelfile(model, licence=licence, projector=beside.name if beside.is_file() else None)
    atomic_write(folder / "Modelfile", text)
    atomic_write(folder / "README.md", card(receipt))
    atomic_write(folder / REPORT, render(receipt))
    atomic_write(folder / RECEIPT, json.dumps(receipt, indent=1) + "\n")


def card(receipt: Mapping[str, Any]) -> str:
    """Return the model card, with the metadata that hubs read."""
    source, result, sees = receipt["source"], receipt["result"], receipt.get("vision")
    base = source["base_model"]
    header = ["---", "library_name: gguf", "tags: [smidgen, gguf]"]
    header += [f"license: {source['licence']}"] if source["licence"] else []
    header += [f"base_model: {base}", "base_model_relation: quantized"] if base else []
    rows = [
        f"| {quality['text']} | {quality['kl_mean']:.4f} | {quality['same_top']:.1%} "
        f"| {quality['ppl_source']:.2f} | {quality['ppl_result']:.2f} | {quality['tokens']:,} |"
        for quality in receipt["quality"]
    ]
    origin = f", read from {source['dequantised_from']}" if source["dequantised_from"] else ""
    return "\n".join(
        [
            *header,
            "---",
            "",
            f"# {Path(source['name']).stem or source['name']} in {format_size(result['bytes'])}",
            "",
            f"Made with smidgen {receipt['smidgen']} from {base or source['name']}{origin}: "
            f"{result['parameters']:,} parameters at {result['bits_per_weight']:.2f} bits.",
            "",
            "| text never trained on | mean KL, nats | same top token | perplexity before | after | tokens |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            *([f"It reads images with `{sees['file']}` beside it. {sees['note']}", ""] if sees else []),
            "Every figure with how to measure it again is in `receipt.json`; `smidgen verify .` measures it.",
            "The recipe in `recipe.yaml` gives the same file again: `smidgen apply recipe.yaml`.",
            "",
        ]
    )
