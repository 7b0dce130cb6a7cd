"""The child process of the engine llama_cpp: llama.cpp's HTTP server on a loopback port, until the parent closes.

The server is the one inside the package xllamacpp, or a llama-server program that the person has.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from smidgen.inference.child import Parent, run

_ERRORS_AND_WARNINGS = 2


def serve_inside(request: dict[str, Any]) -> tuple[Any, str]:
    """Start the server of xllamacpp in this process; returns it and its address."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = request["path"]
    parameters.n_ctx = request["context"] * request["slots"]
    parameters.n_parallel = request["slots"]
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = request["threads"]
    parameters.n_gpu_layers = request["gpu_layers"]
    parameters.ctx_shift = request["shift"]
    parameters.cache_ram_mib = request["prompt_cache"] >> 20
    _apply_what_was_asked_for(xllamacpp, parameters, request)
    parameters.port = 0
    parameters.api_keys = [request["key"]]
    parameters.verbosity = _ERRORS_AND_WARNINGS
    parameters.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    parameters.fit_params = False
    parameters.ui = False
    parameters.endpoint_slots = False
    server = xllamacpp.Server(parameters)
    return server, server.listening_address


def _apply_what_was_asked_for(xllamacpp: Any, parameters: Any, request: dict[str, Any]) -> None:
    """Set what has a default of the library's own."""
    if request["batch"] is not None:
        parameters.n_batch = request["batch"]
        parameters.n_ubatch = min(parameters.n_ubatch, request["batch"])
    if request["main_gpu"] is not None:
        parameters.main_gpu = request["main_gpu"]
    if request["mmap"] is not None:
        modes = xllamacpp.llama_load_mode
        parameters.load_mode = modes.LLAMA_LOAD_MODE_MMAP if request["mmap"] else modes.LLAMA_LOAD_MODE_NONE
    if request["embeddings"]:
        parameters.embedding = True
        # One text's tokens must be read at once to be pooled.
        parameters.n_batch = parameters.n_ubatch = request["context"]
        if request["pooling"]:
            kinds = xllamacpp.llama_pooling_type
            parameters.pooling_type = getattr(kinds, f"LLAMA_POOLING_TYPE_{request['pooling'].upper()}")
    for name in ("type_k", "type_v"):
        if request[name] is not None:
            kind = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{request[name].upper()}")
            setattr(parameters, f"cache_{name}", kind)
    if request["projector"] is not None:
        parameters.mmproj.path = request["projector"]
    _speculate(xllamacpp, parameters, request["speculation"], request["threads"])
    if request["adapters"]:
        parameters.lora_adapters = [_adapter(xllamacpp, path) for path in request["adapters"]]


def _speculate(xllamacpp: Any, parameters: Any, wanted: dict[str, Any], threads: int) -> None:
    """Let tokens be guessed ahead, by a draft model or from what stands in the context already."""
    if wanted["kind"] == "off":
        return
    kinds = xllamacpp.common_speculative_type
    speculative = parameters.speculative
    if wanted["kind"] == "ngram":
        speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_NGRAM_MAP_K]
        speculative.ngram_map_k.size_n = wanted["match"]
        speculative.ngram_map_k.size_m = wanted["tokens"]
        return
    speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
    speculative.draft.mparams.path = wanted["draft"]
    speculative.draft.n_max = wanted["tokens"]
    speculative.draft.cpuparams.n_threads = speculative.draft.cpuparams_batch.n_threads = threads
    speculative.draft.n_gpu_layers = parameters.n_gpu_layers


def serve_outside(parent: Parent, request: dict[str, Any]) -> tuple[Any, str]:
    """Start a llama-server program; returns its process and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "--model": request["path"],
        "--ctx-size": request["context"] * request["slots"],
        "--threads": request["threads"],
        "--host": "127.0.0.1",
        "--port": port,
        "--parallel": request["slots"],
        "--reasoning-format": "none",
        "--cache-ram": request["prompt_cache"] >> 20,
    }
    arguments = [str(part) for pair in settings.items() for part in pair] + _more_arguments(request)
    process = subprocess.Popen(
        [request["executable"], *arguments],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env={**os.environ, "LLAMA_API_KEY": request["key"]},
    )
    parent.before_end = process.kill
    threading.Thread(target=_end_with, args=(process,), daemon=True).start()
    return process, f"http://127.0.0.1:{port}"


def _more_arguments(request: dict[str, Any]) -> list[str]:
    """Return the arguments for what a person asked for beyond the defaults."""
    optional = {
        "--batch-size": request["context"] if request["embeddings"] else request["batch"],
        "--ubatch-size": request["context"] if request["embeddings"] else None,
        "--n-gpu-layers": request["gpu_layers"] if request["gpu_layers"] >= 0 else None,
        "--main-gpu": request["main_gpu"],
        "--cache-type-k": request["type_k"] and request["type_k"].lower(),
        "--cache-type-v": request["type_v"] and request["type_v"].lower(),
        "--pooling": request["pooling"] if request["embeddings"] else None,
        "--mmproj": request["projector"],
    }
    arguments = [str(part) for pair in optional.items() if pair[1] is not None for part in pair]
    switches = {"--embeddings": request["embeddings"], "--context-shift": request["shift"]}
    arguments += [switch for switch, wanted in switches.items() if wanted]
    if request["mmap"] is not None:
        arguments.append("--mmap" if request["mmap"] else "--no-mmap")
    arguments += _arguments_of(request["speculation"])
    return arguments + [part for path in request["adapters"] for part in ("--lora", path)]


def _arguments_of(wanted: dict[str, Any]) -> list[str]:
    """Return the arguments for guessing ahead."""
    if wanted["kind"] == "off":
        return []
    tokens = str(wanted["tokens"])
    if wanted["kind"] == "draft":
        return ["--model-draft", wanted["draft"], "--draft-max", tokens]
    sizes = ["--spec-ngram-map-k-size-n", str(wanted["match"]), "--spec-ngram-map-k-size-m", tokens]
    return ["--spec-type", "ngram-map-k", *sizes]


def _adapter(xllamacpp: Any, path: str) -> Any:
    adapter = xllamacpp.CommonAdapterLoraInfo()
    adapter.path = path
    adapter.scale = 1.0
    return adapter


def _end_with(process: subprocess.Popen[bytes]) -> None:
    code = process.wait()
    os._exit(code if 0 < code < 256 else 1)


def main(parent: Parent) -> None:
    """Start the server that the first request describes, and keep it until the parent is gone."""
    request = parent.next_request()
    started = time.perf_counter()
    try:
        server, address = serve_outside(parent, request) if request["executable"] else serve_inside(request)
    except (RuntimeError, OSError) as error:
        parent.answer(error=str(error))
        return
    parent.answer(address=address, load_seconds=time.perf_counter() - started)
    parent.next_request()  # none comes: the process ends when the parent closes its side
    del server


if __name__ == "__main__":
    run(main)
