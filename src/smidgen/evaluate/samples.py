"""Answers of a finished file to a few prompts, so that a person can see what the figures mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smidgen.inference.engine import Engine, Message, open_engine
from smidgen.inference.options import GenerationOptions
from smidgen.models.checkpoint import gguf
from smidgen.progress import Progress, silent, track

PROMPTS = (
    "What is the capital of Japan?",
    "Explain in one sentence why the sky is blue.",
    "Write a short, polite email that moves a meeting to Friday.",
    "Tom has 3 apples and buys 4 more. How many apples does he have?",
    "Translate into French: Good morning, how are you?",
)
"""Prompts that ask for a fact, an explanation, writing, arithmetic and translation."""


def answers(
    path: Path,
    prompts: Sequence[str] = PROMPTS,
    *,
    tokens: int = 48,
    threads: int | None = None,
    progress: Progress = silent,
) -> list[str]:
    """Let a GGUF answer each prompt, always taking the most probable token, so that the answers can be had again.

    Prompts are laid out with the model's own chat template; a model without one continues them as they stand.

    Args:
        path: The GGUF.
        prompts: One question each.
        tokens: Most tokens of an answer.
        threads: Threads to compute with; the physical cores where None.
        progress: Told after each answer.

    Returns:
        One answer per prompt, without white space around it.
    """
    chats = "tokenizer.chat_template" in gguf.read(path).metadata
    options = GenerationOptions(temperature=0, num_predict=tokens, seed=0)
    with open_engine(path, threads=threads, context=2048) as engine:
        asked = track(prompts, f"answering with {path.name}", progress, unit="prompts")
        return [_answer(engine, prompt, chats, options) for prompt in asked]


def _answer(engine: Engine, prompt: str, chats: bool, options: GenerationOptions) -> str:
    answer = engine.chat([Message("user", prompt)], options) if chats else engine.complete(prompt, options)
    return "".join(chunk.text for chunk in answer).strip()
