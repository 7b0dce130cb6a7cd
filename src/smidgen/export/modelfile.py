"""Writes the Modelfile by which Ollama takes a GGUF in.

Ollama uses Go templates, a GGUF carries a Jinja one. The two most common chat formats are recognised by their
markers and written out; for others Ollama reads the template inside the GGUF itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smidgen.models.modelfile import Modelfile, Parameter

if TYPE_CHECKING:
    from smidgen.models.model import Model

CHATML = """{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
LLAMA3 = """{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>

{{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>

"""
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "<|im_start|>": (CHATML, ("<|im_start|>", "<|im_end|>")),
    "<|start_header_id|>": (LLAMA3, ("<|eot_id|>",)),
}


def modelfile(
    model: Model, *, file_name: str = "model.gguf", licence: str | None = None, projector: str | None = None
) -> str:
    """Return the text of a Modelfile for a model's GGUF in the same folder.

    Args:
        model: The model that was written.
        file_name: Name of the GGUF file.
        licence: Text of the licence, quoted whole.
        projector: Name of the GGUF with which it reads images.
    """
    jinja = model.tokenizer.chat_template
    marked = (found for marker, found in FORMATS.items() if isinstance(jinja, str) and marker in jinja)
    template, stops = next(marked, (None, ()))
    context = Parameter("num_ctx", str(min(model.anatomy.context_length, 8192)))
    written = Modelfile(
        source=f"./{file_name}",
        projectors=(f"./{projector}",) if projector else (),
        template=template,
        parameters=(*(Parameter("stop", stop) for stop in stops), context),
        licences=(licence.strip().replace('"""', "'''"),) if licence else (),
    )
    return written.text()
