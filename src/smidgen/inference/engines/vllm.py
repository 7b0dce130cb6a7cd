"""vLLM, for machines with a GPU: its server is started here, or one that runs already is named by its address."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from smidgen.errors import EngineFailed, InvalidInput, MissingExtra, ReferenceNotFound, Unsupported
from smidgen.inference.child import Child
from smidgen.inference.engine import FREE, Chunk, Demands
from smidgen.inference.engines.remote import Remote
from smidgen.inference.options import GenerationOptions
from smidgen.inference.remote_address import is_address
from smidgen.inference.remote_server import RemoteServer
from smidgen.inference.speculation import SpeculationRequest

PROGRAM = "SMIDGEN_VLLM"
"""Environment variable with the path of a vllm program to use."""

MODEL, ADAPTER = "model", "adapter"
"""The names that the started server knows the model by, and the model with its adapter."""

_CHILD = "smidgen.inference.engines._vllm_child"
_PATIENCE = 1800.0


class Vllm(Remote):
    """A model run by vLLM.

    The package vllm is not part of smidgen: ``pip install vllm`` on a machine with a GPU. Memory of the GPU is
    divided as vLLM does by default.

    Args:
        path: A folder in the transformers layout or a GGUF, for which a server is started; or the address of a server
            that runs already, ``http://host:8000/v1/model``.
        threads: Not used: vLLM computes on the GPU.
        context: Tokens that the context holds; what the model was trained for where None.
        adapters: A LoRA as PEFT's folder; at most one.
        speculation: How tokens are guessed ahead; with "auto" not at all, since nothing was measured here.

    Raises:
        MissingExtra: vLLM is not installed.
        ReferenceNotFound: There is no such file, folder or program.
        EngineFailed: vLLM refuses the model; the message holds its last words.
        SourceUnavailable: The server at the address does not answer.
    """

    def __init__(
        self,
        path: Path | str | None,
        *,
        threads: int | None = None,
        context: int | None = None,
        adapters: Sequence[Path] = (),
        speculation: SpeculationRequest | None = None,
    ) -> None:
        self._child: Child | None = None
        self._held: dict[str, Any] = {}
        self._begins: str | None = None
        self._silent_on_tokens = False
        self._context = context
        if is_address(path):
            self._server = RemoteServer(str(path))
            return
        command = arguments(path, context, adapters, speculation)
        key = secrets.token_hex(16)
        started = time.perf_counter()
        self._child = Child(_CHILD, f"loading {Path(str(path)).name} with vLLM")
        try:
            self._child.send(command=[*_program(), *command], key=key)
            address: str = self._child.receive()["address"]
            self._wait_until_healthy(address)
            self._server = RemoteServer(f"{address}/v1/{ADAPTER if adapters else MODEL}", key=key)
        except BaseException:
            self._child.close()
            raise
        self._child.purpose = f"running {Path(str(path)).name} with vLLM"
        self.load_seconds = time.perf_counter() - started

    def complete(self, prompt: str, options: GenerationOptions) -> Generator[Chunk, None, None]:
        """Continue a text as it stands."""
        return self.write(prompt, options)

    def write(
        self, prompt: str | Sequence[int], options: GenerationOptions, demands: Demands = FREE
    ) -> Generator[Chunk, None, None]:
        """Continue a laid out text, or its tokens, as demanded.

        vLLM writes 16 tokens where no limit is named, and refuses limits beyond its context; so the room that is left
        is the limit.

        Raises:
            InvalidInput: It is longer than the context.
        """
        if self._server.closed:
            raise EngineFailed("The engine is closed.", remedy="Open another one.")
        told = self._tokenized(prompt if isinstance(prompt, str) else "")
        route = f"{self._server.address.api}/completions"
        if told is None or not {"tokens", "max_model_len"} <= told.keys():  # a gateway that speaks OpenAI's alone
            plain = prompt if isinstance(prompt, str) else list(prompt)
            return self._answer(route, {"prompt": plain, **_demanded(demands)}, options)
        tokens: list[int] = told["tokens"] if isinstance(prompt, str) else list(prompt)
        context: int = told["max_model_len"]
        room = context - len(tokens)
        if room < 1:
            raise InvalidInput(
                f"The prompt has {len(tokens):,} tokens, and the context holds {context:,}.",
                remedy="Shorten it, or open a longer context with num_ctx.",
            )
        limit = room if options.num_predict < 0 else min(room, options.num_predict)
        asked = {"prompt": tokens, **_demanded(demands)}
        return self._answer(route, asked, replace(options, num_predict=limit))

    def tokenize(self, text: str) -> list[int]:
        """Cut a text into tokens, special ones read as such, with those that stand before every text.

        Raises:
            Unsupported: The server does not tell of tokens.
        """
        told = self._tokenized(text)
        if told is None or "tokens" not in told:
            raise self._no_tokens()
        tokens: list[int] = told["tokens"]
        return tokens

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Join tokens to a text.

        Raises:
            Unsupported: The server does not tell of tokens.
        """
        told = self._server.ask("/detokenize", {"model": self._server.facts.model, "tokens": list(tokens)})
        if told is None or "prompt" not in told:
            raise self._no_tokens()
        return str(told["prompt"])

    def _tokenized(self, text: str) -> dict[str, Any] | None:
        """Cut a text that may or may not begin with what the model wants at the beginning of every text.

        None where the server has no such route, as a gateway before vLLM that speaks OpenAI's protocol alone.
        """
        if self._silent_on_tokens:
            return None
        if self._begins is None:
            told = self._server.ask("/tokenize", {"model": self._server.facts.model, "prompt": ""})
            if told is None:
                self._silent_on_tokens = True
                return None
            begins = {"model": self._server.facts.model, "tokens": told.get("tokens") or []}
            back = self._server.ask("/detokenize", begins) if begins["tokens"] else None
            self._begins = str((back or {}).get("prompt", ""))
        bare = text.removeprefix(self._begins)
        return self._server.ask("/tokenize", {"model": self._server.facts.model, "prompt": bare})

    def _no_tokens(self) -> Unsupported:
        return Unsupported(
            f"The server {self._server.address.base} cuts no texts into tokens.",
            remedy="Name the address of vLLM itself rather than that of a gateway before it.",
        )

    def hold_to(self, schema: Mapping[str, Any] | None) -> None:
        """Hold the answers from now on to a JSON schema; None lets them be free."""
        self._held = _demanded(Demands(schema))

    def alive(self) -> bool:
        """Say whether the started server still runs; of one that is only asked nobody knows."""
        return self._child is None or self._child.process.poll() is None

    def resident_bytes(self) -> int:
        """Return the memory, beside the GPU's, that the started server holds; 0 for one that is only asked."""
        return self._child.resident_bytes() if self._child is not None else 0

    def close(self) -> None:
        """End the started server. May be called again."""
        super().close()
        if self._child is not None:
            self._child.close()

    def _openai_fields(self, options: GenerationOptions) -> dict[str, Any]:
        """Translate options into OpenAI's fields and those that vLLM has beyond them."""
        more: dict[str, Any] = {"top_k": options.top_k or -1, "min_p": options.min_p}
        if options.repeat_penalty != 1:
            more["repetition_penalty"] = options.repeat_penalty
        return super()._openai_fields(options) | more | self._held

    def _wait_until_healthy(self, address: str) -> None:
        child = self._child
        assert child is not None
        end = time.monotonic() + _PATIENCE
        with httpx.Client(trust_env=False, timeout=10.0) as client:
            while time.monotonic() < end:
                if child.process.poll() is not None:
                    raise EngineFailed(f"vLLM cannot load the model: {child.cause() or child.last_words()}")
                try:
                    if client.get(f"{address}/health").status_code == 200:
                        return
                except httpx.TransportError:
                    pass  # the port is not open yet
                time.sleep(0.05)
        raise EngineFailed(f"vLLM was not ready after {_PATIENCE:.0f} s.")


def arguments(
    path: Path | str | None, context: int | None, adapters: Sequence[Path], speculation: SpeculationRequest | None
) -> list[str]:
    """Return the arguments of ``vllm`` that serve a model so.

    Raises:
        InvalidInput: No model is named.
        ReferenceNotFound: There is no such file or folder.
        Unsupported: vLLM takes no such adapters.
    """
    if path is None:
        raise InvalidInput(
            "The engine vllm needs a model.", remedy="Give a folder, a .gguf file or a server's address."
        )
    place = Path(path)
    if not place.exists():
        raise ReferenceNotFound(f"There is no file or folder {str(path)!r}.", remedy="Check the path.")
    words = ["serve", str(place), "--served-model-name", MODEL]
    if context is not None:
        words += ["--max-model-len", str(context)]
    if len(adapters) > 1 or any(not (Path(each) / "adapter_config.json").is_file() for each in adapters):
        raise Unsupported(
            "vLLM puts one LoRA on a model, as PEFT's folder.",
            remedy="Merge the adapters into the model: smidgen merge.",
        )
    for each in adapters:
        rank = json.loads((Path(each) / "adapter_config.json").read_text(encoding="utf-8")).get("r", 16)
        words += ["--enable-lora", "--max-lora-rank", str(max(8, rank)), "--lora-modules", f"{ADAPTER}={each}"]
    guessing = _speculative(speculation)
    return words + (["--speculative-config", json.dumps(guessing)] if guessing else [])


def _speculative(asked: SpeculationRequest | None) -> dict[str, Any] | None:
    """Return vLLM's description of how tokens are guessed ahead."""
    ways = () if asked is None or asked.mode == "auto" else asked.candidates
    if not ways:
        return None
    way = ways[0]
    if way.kind == "draft":
        return {"model": way.draft, "num_speculative_tokens": way.tokens}
    return {"method": "ngram", "num_speculative_tokens": way.tokens, "prompt_lookup_max": way.match}


def _demanded(demands: Demands) -> dict[str, Any]:
    """Return the fields that say what an answer must be; llguidance's own notes in a schema mean nothing to vLLM."""
    fields: dict[str, Any] = {}
    if demands.schema is not None:
        schema = {name: value for name, value in demands.schema.items() if name != "x-guidance"}
        held = {"name": "answer", "schema": schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": held}
    if demands.grammar is not None:
        fields["structured_outputs"] = {"grammar": demands.grammar}
    if demands.biases:
        fields["logit_bias"] = {str(token): bias for token, bias in demands.biases.items()}
    return fields | ({"skip_special_tokens": False} if demands.marks else {})


def _program() -> list[str]:
    """Return the words that start vLLM's command line."""
    named = os.environ.get(PROGRAM)
    if named:
        found = shutil.which(named)
        if found is None:
            raise ReferenceNotFound(f"There is no program {named!r}.", remedy=f"Unset {PROGRAM}.")
        return [found]
    if importlib.util.find_spec("vllm") is not None:
        return [sys.executable, "-m", "vllm.entrypoints.cli.main"]
    installed = shutil.which("vllm")
    if installed is None:
        raise MissingExtra(
            "The engine vllm needs the package 'vllm'.",
            remedy="Install it on a machine with a GPU: pip install vllm",
        )
    return [installed]
