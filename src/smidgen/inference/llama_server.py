"""llama.cpp's own HTTP server with one model, in a child process: started, watched, asked and ended.

Everything that speaks to it takes the address and the key from here; see `engines/llama_cpp.py` for answers one
after another, and `smidgen.serving` for many at once.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from smidgen.errors import EngineFailed, InvalidInput, ReferenceNotFound
from smidgen.inference.child import Child
from smidgen.inference.options import GenerationOptions
from smidgen.inference.scoring import require_gguf
from smidgen.inference.speculation import OFF, Speculation
from smidgen.machine import cores
from smidgen.models.checkpoint.gguf import read_beginning

DEFAULT_CONTEXT = 4096
"""Tokens that the context holds where nothing else is asked for."""

LOAD_PATIENCE = 300.0
"""Seconds that a model may take to load."""

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Number types in which llama.cpp keeps keys and values, under its own names."""

_CHILD = "smidgen.inference.engines._llama_cpp_child"
EXECUTABLE = "SMIDGEN_LLAMA_SERVER"
"""Environment variable with the path of a llama-server program to use."""

_UNSEEDED = 2**32 - 1
_OLD_MARK = "<__media__>"


@dataclass(frozen=True)
class ServerSettings:
    """How llama.cpp's server is started.

    Attributes:
        context: Tokens of each slot's context.
        slots: Answers that are written at once.
        threads: Threads to compute with; the physical cores that this process may use where None.
        batch: Tokens of a prompt that are read at once; the server's default where None.
        gpu_layers: Layers on the GPU; -1 as many as fit.
        main_gpu: Number of the GPU for small tensors; the server's default where None.
        mmap: Map the file instead of reading it; the server's default where None.
        shift: Forget the context's beginning where an answer passes its end, instead of ending the answer.
        embeddings: Give vectors of texts.
        pooling: How tokens' states become one vector, or with "rank" one score; as the file says where None.
        adapters: Paths of LoRA adapters.
        projector: Path of the GGUF that turns images into what the model reads; None for a model of texts only.
        prompt_cache: Bytes of memory for prompts that no slot holds any more.
        type_k: Number type of the keys that the context keeps, one of `CACHE_TYPES`; float16 where None.
        type_v: The same of the values; other types than floats need the server's flash attention.
        patience: Seconds that loading may take.
        speculation: How tokens are guessed ahead.
    """

    context: int = DEFAULT_CONTEXT
    slots: int = 1
    threads: int | None = None
    batch: int | None = None
    gpu_layers: int = -1
    main_gpu: int | None = None
    mmap: bool | None = None
    shift: bool = False
    embeddings: bool = False
    pooling: Literal["mean", "last", "cls", "rank"] | None = None
    adapters: tuple[str, ...] = ()
    projector: str | None = None
    prompt_cache: int = 256 << 20
    patience: float = LOAD_PATIENCE
    type_k: str | None = None
    type_v: str | None = None
    speculation: Speculation = OFF

    def __post_init__(self) -> None:
        for kind in (self.type_k, self.type_v):
            if kind is not None and kind.lower() not in CACHE_TYPES:
                raise ReferenceNotFound.among("type of the key/value cache", kind, CACHE_TYPES)


def default_context(path: Path | None) -> int:
    """Return how many tokens the context holds where nothing is asked for: no more than the short rope factors reach.

    Once a context is longer than that, llama.cpp takes the factors for long texts, for short texts too, where
    transformers goes by the length of the text.

    Raises:
        ReferenceNotFound: There is no such file.
        DamagedFile: The file is no GGUF.
    """
    if path is None:
        return DEFAULT_CONTEXT
    metadata = read_beginning(require_gguf(path))
    original = metadata.get(f"{metadata.get('general.architecture')}.rope.scaling.original_context_length")
    return min(DEFAULT_CONTEXT, original) if isinstance(original, int) and original > 0 else DEFAULT_CONTEXT


class LlamaServer:
    """A GGUF in llama.cpp's server.

    Args:
        path: The GGUF file.
        settings: How it is started.
        executable: A llama-server program to use instead of the one inside xllamacpp; taken from the
            environment variable SMIDGEN_LLAMA_SERVER where None.

    Attributes:
        path: The file.
        settings: How it was started.
        address: "http://127.0.0.1:port".
        headers: What every request to it must carry.
        child: The process.
        load_seconds: How long loading took.
        image_mark: The text that stands for an image in a prompt, which nobody can guess; empty without a projector.

    Raises:
        ReferenceNotFound: There is no such file or program.
        DamagedFile: The file is no GGUF.
        EngineFailed: llama.cpp refuses the file or does not get ready; the message holds its error.
    """

    def __init__(self, path: Path | None, settings: ServerSettings, *, executable: str | None = None) -> None:
        if path is None:
            raise InvalidInput("The engine llama_cpp needs a model file.", remedy="Give the path of a .gguf file.")
        self.path = require_gguf(path)
        self.settings = settings
        program = _program(executable or os.environ.get(EXECUTABLE))
        key = secrets.token_hex(16)
        self.headers = {"Authorization": f"Bearer {key}"}
        started = time.perf_counter()
        self.child = Child(_CHILD, f"loading {self.path.name}")
        try:
            with self._patience():
                request = asdict(settings) | {"threads": settings.threads or cores()[0]}
                self.child.send(path=str(self.path), executable=program, key=key, **request)
                self.address: str = self.child.receive()["address"]
                self.image_mark = self._wait_until_healthy()
        except BaseException as error:
            self.close()
            if isinstance(error, EngineFailed) and (cause := self.child.cause()):
                raise EngineFailed(f"llama.cpp cannot load {self.path.name}: {cause}") from error
            raise
        self.child.purpose = f"running {self.path.name}"
        self.load_seconds = time.perf_counter() - started

    def alive(self) -> bool:
        """Say whether the process still runs."""
        return self.child.process.poll() is None

    def close(self) -> None:
        """End the process. May be called again."""
        self.child.close()

    def broken_off(self, error: Exception) -> EngineFailed:
        """Build the error for a connection that broke: the process's end, where it ended."""
        end = time.monotonic() + 0.5  # the connection may break a moment before the process is seen to be gone
        while self.alive() and time.monotonic() < end:
            time.sleep(0.01)
        return EngineFailed(f"The engine broke off an answer: {error}.") if self.alive() else self.child.failure()

    def refusal(self, status: int, body: bytes) -> InvalidInput | EngineFailed:
        """Build the error for an answer that is none."""
        try:
            message = str(json.loads(body)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = body.decode(errors="replace")
        if status == 400:
            return InvalidInput(f"The engine does not accept the request: {message.rstrip('.')}.")
        return EngineFailed(f"The engine answered {status}: {message.rstrip('.')}.")

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """End the child when loading takes too long, which ends the waiting for it."""
        timer = threading.Timer(self.settings.patience, self.child.process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _wait_until_healthy(self) -> str:
        """Wait until the server answers; returns the mark of images."""
        with httpx.Client(headers=self.headers, trust_env=False) as client:
            while True:
                if not self.alive():
                    raise self.child.failure()
                try:
                    if client.get(self.address + "/health").status_code == 200:
                        if self.settings.projector is None:
                            return ""
                        return str(client.get(self.address + "/props").json().get("media_marker", _OLD_MARK))
                except httpx.TransportError:
                    pass  # the port is not open yet
                time.sleep(0.02)


def completion_fields(options: GenerationOptions) -> dict[str, Any]:
    """Translate options into the fields of the server's ``/completion``, which its chat route takes as well."""
    return {
        "stream": True,
        "n_predict": options.num_predict,
        "n_keep": options.num_keep,
        "seed": options.seed if options.seed >= 0 else _UNSEEDED,
        "stop": list(options.stop),
        "temperature": options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "typical_p": options.typical_p,
        "repeat_last_n": options.repeat_last_n,
        "repeat_penalty": options.repeat_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
    }


def prompt_field(text: str, images: Sequence[bytes] = ()) -> str | dict[str, Any]:
    """Return what the server's ``/completion`` takes as its prompt: a text, or one with its images in base64."""
    if not images:
        return text
    return {"prompt_string": text, "multimodal_data": [base64.b64encode(image).decode() for image in images]}


def _program(name: str | None) -> str | None:
    if not name:
        return None
    found = shutil.which(name)
    if found is None:
        raise ReferenceNotFound(
            f"There is no program {name!r}.", remedy=f"Unset {EXECUTABLE}, or give the path of a llama-server."
        )
    return found
