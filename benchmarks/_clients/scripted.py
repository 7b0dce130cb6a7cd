"""A server whose one model says what a script says: it shows whether the protocol is right, whatever a model knows.

    python benchmarks/_clients/scripted.py

Every name is served by the echo engine, and what it is told is replaced first: by a call of a tool where there are
tools and none has been called yet, by JSON where JSON is asked for, else by a sentence; with a thought before it unless
none is wanted. Values are taken from the question: numbers as they stand, texts from what is quoted, else from the last
name. It says its address as one line of JSON.
"""

import json
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any

import uvicorn

from smidgen.serving.app import create
from smidgen.serving.exchange import Event, GenerationRequest, Turn
from smidgen.serving.library import Library, ServedModel
from smidgen.serving.server import address_of, bind
from smidgen.serving.service import Service
from smidgen.serving.settings import ServingSettings

JOKE = {"setup": "Why do cats sit on keyboards?", "punchline": "They look for the mouse."}
SENTENCE = "Hello. This is what the script says, in one short answer."
THOUGHT = "<think>The script knows what comes next.</think>"


def value(schema: Mapping[str, Any], text: str, root: Mapping[str, Any]) -> Any:
    """Return a value that a JSON schema allows, made of a question's words."""
    if "$ref" in schema:
        found: Any = root
        for name in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found[name]
        return value(found, text, root)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in schema:
            return value(schema[key][0], text, root)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        return {name: value(part, text, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [value(schema.get("items", {}), text, root)]
    if kind in ("integer", "number"):
        return int((re.findall(r"\d+", text) or ["1"])[0])
    return {"boolean": True, "null": None}.get(kind, said(text)) if isinstance(kind, str) else None


def said(text: str) -> str:
    """Return what a question quotes, else the last name in it, else a word."""
    quoted = re.findall(r"['\"](.+?)['\"]", text)
    names = re.findall(r"[A-Z]\w+(?: [A-Z]\w+)*", text)
    return str((quoted or names[-1:] or ["something"])[0])


def answer(request: GenerationRequest) -> str:
    """Return what the script says to a request."""
    turns = request.messages or (Turn("user", request.prompt or ""),)
    last = turns[-1]
    thought = THOUGHT if request.think is not False and not request.raw else ""
    calls = request.tool_choice not in ("auto", "none")
    if request.tools and request.tool_choice == "auto":
        calls = not any(turn.role == "tool" for turn in turns)
    if calls:
        functions = [tool["function"] for tool in request.tools]
        chosen = next(
            (each for each in functions if each["name"] in (request.tool_choice, *last.content.split())), None
        )
        function = chosen or functions[0]
        schema = {"type": "object", **(function.get("parameters") or {})}
        made = JOKE if set(schema.get("properties", {})) == set(JOKE) else value(schema, last.content, schema)
        return thought + json.dumps({"name": function["name"], "arguments": made}, ensure_ascii=False)
    if request.format is not None:
        schema = {} if request.format == "json" else request.format
        is_joke = not schema or set(schema.get("properties", {})) == set(JOKE)
        return thought + json.dumps(JOKE if is_joke else value(schema, last.content, schema))
    return thought + SENTENCE


class Scripted(Service):
    """A service that tells the echo engine what to answer."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Answer a request as the script says."""
        if request.prompt is not None or request.tokens:
            told = replace(request, prompt=answer(request), tokens=())
        else:
            told = replace(request, messages=(*(request.messages or ())[:-1], Turn("user", answer(request))))
        return super().generate(told)


class OneModel(Library):
    """A library in which every name but one that ends in "missing" is the echo engine's."""

    def find(self, name: str) -> ServedModel:
        """Return the echo engine's model."""
        return super().find(name if name.endswith("missing") else "echo")


def main() -> None:
    settings = ServingSettings(port=0, slots=4)
    bound = bind(settings.host, settings.port)
    app = create(settings, Scripted(settings, OneModel()))
    print(json.dumps({"address": address_of(bound)}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run([bound])


if __name__ == "__main__":
    main()
