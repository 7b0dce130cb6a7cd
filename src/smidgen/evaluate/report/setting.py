"""How the result is run, and on what its figures were measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from smidgen.evaluate.report import words

_CHANGING = ("prune", "distill", "finetune")  # after these the folder has a model/ that transformers reads


def commands(receipt: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return program and command of every way to run the result."""
    path = PurePath(str(receipt["result"].get("path") or "model.gguf"))
    folder, file = path.parent.name, path.name
    name = (
        "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in folder).strip("-.") or "my-model"
    )
    changed = any(step.get("operation") in _CHANGING for step in receipt.get("steps") or ())
    arguments = '"model"' if changed else f'".", gguf_file="{file}"'
    return [
        ("smidgen", f"smidgen run {file}"),
        ("llama.cpp, in the terminal", f"llama-cli -m {file}"),
        ("llama.cpp, as a server", f"llama-server -m {file} --port 8080"),
        ("Ollama", f"ollama create {name} -f Modelfile\nollama run {name}"),
        (
            "transformers",
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"model = AutoModelForCausalLM.from_pretrained({arguments})\n"
            f"tokenizer = AutoTokenizer.from_pretrained({arguments})",
        ),
    ]


def machine_rows(receipt: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and value of everything that the figures depend on."""
    machine, source, result = receipt.get("machine") or {}, receipt["source"], receipt["result"]
    versions = [f"{name} {version}" for name, version in (machine.get("versions") or {}).items() if version]
    rows: list[tuple[str, Any]] = [
        ("Processor", machine.get("processor")),
        ("Cores", machine.get("cores_physical")),
        ("Threads used", machine.get("threads") or (receipt.get("speed") or {}).get("threads")),
        ("Processor features", ", ".join(machine.get("flags") or ())),
        ("Memory", words.size(machine["memory_total"]) if machine.get("memory_total") else None),
        ("System", machine.get("platform")),
        ("Python", machine.get("python")),
        ("Packages", ", ".join(versions)),
        ("Source", source["name"]),
        ("Source, sha256", source.get("sha256")),
        ("Source, licence", source.get("licence")),
        ("Published original", source.get("base_model")),
        ("Result, sha256", result.get("sha256")),
    ]
    rows += [(f"Text “{entry['text']}”, sha256", entry.get("sha256")) for entry in receipt.get("quality") or ()]
    return [(name, str(value)) for name, value in rows if value]
