"""Models as Ollama's API describes them."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any

from smidgen.models.modelfile import of_facts
from smidgen.serving.details import capabilities, details, header_of, projector_of, template_of, whole_metadata
from smidgen.serving.library import ServedModel
from smidgen.serving.scheduler import Loaded

_LONGEST_LIST = 5
"""Longer lists of the metadata are shown only where everything is asked for."""

_FOREVER = datetime.datetime(2318, 3, 5, tzinfo=datetime.UTC)


def timestamp(seconds: float) -> str:
    """Write a time as RFC 3339 in UTC.

    Example:
        >>> timestamp(0.5)
        '1970-01-01T00:00:00.500000Z'
    """
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC) if math.isfinite(seconds) else _FOREVER
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def listed(model: ServedModel) -> dict[str, Any]:
    """Describe a model for /api/tags."""
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": timestamp(model.modified),
        "size": model.bytes,
        "digest": model.digest,
        "details": details(model),
        "capabilities": capabilities(model),
    }


def running(loaded: Loaded) -> dict[str, Any]:
    """Describe a loaded model for /api/ps."""
    model = loaded.model
    runner = loaded.runner
    return {
        "name": model.name,
        "model": model.name,
        "size": loaded.bytes,
        "digest": model.digest,
        "details": details(model),
        "expires_at": timestamp(loaded.expires_at),
        "size_vram": 0,
        "context_length": (runner.context if runner is not None else None) or 0,
        "speculation": "off" if runner is None else runner.speculation.kind,
    }


def shown(
    model: ServedModel, *, verbose: bool, system: str, template: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe a model for /api/show.

    Args:
        model: The model.
        verbose: Show long lists of the metadata, and every tensor.
        system: Shown instead of the model's own.
        template: Shown instead of the model's own.
        options: Shown over the model's own.
    """
    facts = model.facts
    header = header_of(model)
    texts = {
        "license": _licence(model),
        "modelfile": modelfile(model),
        "parameters": parameters({**model.parameters, **options}),
        "template": template or template_of(model) or header.jinja,
        "system": system or facts.get("system"),
        "renderer": facts.get("renderer"),
        "parser": facts.get("parser"),
    }
    metadata = whole_metadata(model) if verbose else header.metadata
    information = {key: _short(value, verbose) for key, value in metadata.items() if key != _JINJA}
    tensors = [{"name": name, "type": kind, "shape": list(shape)} for name, kind, shape in header.tensors]
    return {
        **{key: text for key, text in texts.items() if text},
        "details": details(model),
        **({"messages": list(facts["messages"])} if facts.get("messages") else {}),
        "model_info": {"general.parameter_count": header.parameters, **information},
        **({"projector_info": _projector(model, verbose)} if model.projector is not None else {}),
        **({"tensors": tensors} if verbose and tensors else {}),
        "capabilities": capabilities(model),
        "modified_at": timestamp(model.modified),
        **({"requires": facts["requires"]} if facts.get("requires") else {}),
    }


_JINJA = "tokenizer.chat_template"


def _projector(model: ServedModel, verbose: bool) -> dict[str, Any]:
    header = projector_of(model)
    return {} if header is None else {key: _short(value, verbose) for key, value in header.metadata.items()}


def _short(value: Any, verbose: bool) -> Any:
    if isinstance(value, list) and not verbose and len(value) > _LONGEST_LIST:
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _licence(model: ServedModel) -> str:
    """Return what a Modelfile says of the licence, else the model's own files, else the licence's identifier."""
    texts = model.facts.get("license")
    if not texts:
        return (model.local.licence_text if model.local else "") or str(model.facts.get("licence") or "")
    return texts if isinstance(texts, str) else "\n".join(str(text) for text in texts)


def parameters(values: Mapping[str, Any]) -> str:
    r"""Write a model's options, one to a line.

    Example:
        >>> parameters({"stop": ["a", "b"], "temperature": 0.5})
        'stop                           "a"\nstop                           "b"\ntemperature                    0.5'
    """
    lines = []
    for name, value in sorted(values.items()):
        for each in value if isinstance(value, list | tuple) else [value]:
            written = f'"{each}"' if isinstance(each, str) else str(each)
            lines.append(f"{name:<30} {written}")
    return "\n".join(lines)


def modelfile(model: ServedModel) -> str:
    """Return a model's Modelfile: its own, or one written from what is known of it."""
    own = str(model.facts.get("modelfile") or "")
    return own or of_facts(model.facts, source=model.name, licences=()).text()
