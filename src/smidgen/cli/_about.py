"""Single things that ``show`` can be asked for: licence, Modelfile, parameters, template, system message, details."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, ReferenceNotFound

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel

_LONGEST = 16


def only_one(choices: Mapping[str, bool]) -> str | None:
    """Return the one thing that was asked for, None where none was.

    Raises:
        InvalidInput: Several were.
    """
    asked = [name for name, wanted in choices.items() if wanted]
    if len(asked) > 1:
        raise InvalidInput(f"--{asked[0]} and --{asked[1]} do not go together.", remedy="Ask for one at a time.")
    return asked[0] if asked else None


def part(local: LocalModel, name: str) -> str:
    """Return one thing that is known of a model, as text.

    Args:
        local: The model.
        name: "license", "modelfile", "parameters", "template" or "system".

    Raises:
        ReferenceNotFound: The model has none.
    """
    from smidgen.models.modelfile import of_facts

    folder = local.path.parent if local.path.is_file() else local.path
    own = of_facts(local.facts, source=str(local.path)).with_paths_in(folder)
    if name == "modelfile":
        return own.text().rstrip("\n")
    found = {
        "license": "\n\n".join(own.licences) or local.licence_text,
        "parameters": parameters(own.parameters),
        "template": own.template or _jinja(local),
        "system": own.system,
    }
    text = found[name]
    if not text:
        raise ReferenceNotFound(f"{local.name} brings no {name.replace('license', 'text of a licence')}.")
    return text


def parameters(found: Any) -> str:
    """Lay out a Modelfile's parameters, one a line.

    Example:
        >>> from smidgen.models.modelfile import Parameter
        >>> print(parameters([Parameter("temperature", "0.5"), Parameter("stop", " end")]))
        temperature                    0.5
        stop                           " end"
    """
    from smidgen.models.modelfile import quoted

    return "\n".join(f"{each.name:<30} {quoted(each.value)}" for each in found)


def details(local: LocalModel) -> dict[str, Any]:
    """Return a model's metadata and the name, format and shape of every tensor."""
    if local.kind == "gguf":
        from smidgen.models.checkpoint import gguf

        file = gguf.read(local.path)
        metadata = {name: _short(value) for name, value in sorted(file.metadata.items())}
        tensors = [
            {"name": name, "type": tensor.format, "shape": list(tensor.shape)} for name, tensor in file.tensors.items()
        ]
        return {"metadata": metadata, "tensors": tensors}
    from safetensors import safe_open

    from smidgen.models.checkpoint import safetensors

    config = {name: _short(value) for name, value in sorted(safetensors.read_config(local.path).items())}
    tensors = []
    for path in sorted(local.path.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in sorted(file.keys()):
                stored = file.get_slice(name)
                tensors.append({"name": name, "type": stored.get_dtype(), "shape": list(stored.get_shape())})
    return {"metadata": config, "tensors": tensors}


def _jinja(local: LocalModel) -> str | None:
    """Return the layout that a model's own files bring, in Jinja."""
    if local.kind == "gguf":
        from smidgen.models.checkpoint import gguf

        found = gguf.read(local.path).metadata.get("tokenizer.chat_template")
        return found if isinstance(found, str) else None
    path = Path(local.path) / "chat_template.jinja"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _short(value: Any) -> Any:
    """Leave out of long lists all but their length."""
    return f"[{len(value):,} values]" if isinstance(value, list | tuple) and len(value) > _LONGEST else value
