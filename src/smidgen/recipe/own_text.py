"""Text that a model writes itself: what it was taught to expect, where nobody says what it is for.

Statistics taken on one kind of text serve others badly. What a model writes when nothing is asked of it is like all it
has read, and needs no data (Liu et al. 2023, LLM-QAT, arXiv 2305.17888; Williams et al. 2024, arXiv 2410.17170).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.data.chat import first_tokens
from smidgen.data.rows import Corpus, Row
from smidgen.models.files import atomic_write
from smidgen.progress import Progress, silent, track

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

    from smidgen.models.model import Model

PASSAGE, TOGETHER = 128, 64
"""Tokens of a passage, and how many passages are written at once."""
SEPARATOR = "<|endoftext|>"
"""What stands between documents in the training text of most models that begin none with a mark."""


def kept(path: Path | None, written: Callable[[], Corpus]) -> Corpus:
    """Return the text that an earlier run kept in a file, or have one written and keep it there.

    Args:
        path: The file, JSON; None keeps nothing.
        written: Has a text written.
    """
    if path is None or not path.is_file():
        text = written()
        if path is not None:
            atomic_write(path, json.dumps({"name": text.name, "texts": [row.text for row in text.rows]}))
        return text
    found = json.loads(path.read_text(encoding="utf-8"))
    return _corpus(found["name"], found["texts"])


def _corpus(name: str, texts: Iterable[str]) -> Corpus:
    return Corpus(name, tuple(Row(text=text, origin=f"passage {number}") for number, text in enumerate(texts, 1)))


def write(model: Model, tokens: int, *, seed: int = 0, progress: Progress = silent) -> Corpus:
    """Let a model write passages from nothing, every token drawn as likely as the model finds it.

    Args:
        model: The model; it is not changed.
        tokens: How many tokens are wanted at least.
        seed: Another seed gives another text.
        progress: Receives one event per token of a passage.

    Returns:
        A row for every passage that is not empty.
    """
    import torch

    from smidgen.shrink.precision import working_type

    count = -(-tokens // PASSAGE)
    length = min(PASSAGE, model.anatomy.context_length - 1)
    generator = torch.Generator().manual_seed(seed)
    module = copy.deepcopy(model.module).to(working_type()).eval()
    passages: list[list[int]] = []
    for first in range(0, count, TOGETHER):
        begun = torch.full((min(TOGETHER, count - first), 1), _beginning(model.tokenizer))
        passages += _continued(module, begun, length, generator, progress)
    texts = [model.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in passages]
    return _corpus(f"text that {model.lineage.origin.name} wrote itself", [text + "\n" for text in texts if text])


def _continued(
    module: torch.nn.Module, ids: torch.Tensor, length: int, generator: torch.Generator, progress: Progress
) -> list[list[int]]:
    """Draw ``length`` tokens behind each row of ``ids``."""
    import torch

    remembered, written = None, []
    with torch.no_grad():
        for _ in track(range(length), "letting the model write", progress, unit="tokens"):
            answer = module(ids, past_key_values=remembered, use_cache=True)
            remembered = answer.past_key_values
            likely = answer.logits[:, -1].float().softmax(-1)
            ids = torch.multinomial(likely, 1, generator=generator)
            written.append(ids)
    found: list[list[int]] = torch.cat(written, 1).tolist()
    return found


def _beginning(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the token behind which a text begins."""
    known = tokenizer.get_vocab()
    choices = [*first_tokens(tokenizer), known.get(SEPARATOR), tokenizer.eos_token_id, tokenizer.bos_token_id, 0]
    return next(int(each) for each in choices if each is not None)
