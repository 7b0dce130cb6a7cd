"""``smidgen serve``: Ollama's and OpenAI's HTTP APIs on one port."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from smidgen.cli.options import Settings, Speculate, is_given
from smidgen.cli.screen import Screen, print_json


def command(
    settings: Settings,
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Address to bind to.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", help="Port to bind to; 0 takes a free one.", show_default="11434"),
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option("--parallel", metavar="N", help="Answers that one model writes at once.", show_default="1"),
    ] = None,
    keep_alive: Annotated[
        str | None, typer.Option("--keep-alive", metavar="TIME", help="How long idle models stay.", show_default="5m")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            metavar="NAME",
            help="What computes: llama_cpp, torch, vllm, or the one that can.",
            show_default="auto",
        ),
    ] = None,
    speculate: Speculate = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let other machines in without a key.")] = False,
) -> None:
    """Serve the models of the store to Ollama's and OpenAI's clients, on one port.

    Models are loaded when they are asked for. Ctrl-C stops. What Ollama's environment variables set (OLLAMA_HOST,
    OLLAMA_KEEP_ALIVE, ...) counts here too; SMIDGEN_API_KEY is the key that clients must then send.
    """
    from smidgen.serving.durations import seconds
    from smidgen.serving.server import serve
    from smidgen.serving.settings import ServingSettings

    chosen = ServingSettings.from_environment(
        host=host,
        port=port,
        slots=parallel,
        keep_alive=None if keep_alive is None else seconds(keep_alive),
        max_memory=settings.max_memory,
        insecure=insecure,
        engine=engine,
        speculate=speculate,
        threads=settings.threads if is_given(context, "threads") else None,
    )
    screen = Screen(settings.json, settings.quiet)

    def announce(address: str) -> None:
        if screen.json:
            print_json({"address": address})
        else:
            screen.text(f"Listening at {address}; Ctrl-C stops.")
        sys.stdout.flush()

    serve(chosen, announce)
