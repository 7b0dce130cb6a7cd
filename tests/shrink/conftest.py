import argparse
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from smidgen.models import families
from smidgen.models.checkpoint.tokenizer import SPLITTINGS
from smidgen.models.experts import take_apart
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model

TEXT = inspect.getsource(argparse)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
FAMILIES = {
    "gemma2": (Gemma2Config, Gemma2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "phimoe": (PhimoeConfig, PhimoeForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}


@cache
def _tokenizer_core(vocabulary: int, family: str) -> str:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if family == "qwen2":  # transformers splits text for this family by its own pattern, whatever the file says
        words = pre_tokenizers.Split(Regex(SPLITTINGS["qwen2"].pattern), behavior="isolated")
        rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.normalizer, core.pre_tokenizer = normalizers.NFC(), pre_tokenizers.Sequence([words, rest])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([TEXT], trainer)
    return core.to_str()


def build_tokenizer(vocabulary: int, family: str = "llama") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained in memory on the source of a standard module."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_core(vocabulary, family)),
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[0],
        chat_template="{{ messages[0]['content'] }}",
    )


def build_model(family: str = "llama", *, dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any) -> Model:
    """A random model of 3 blocks; its weights are large enough that no two logits are alike."""
    values = {
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 400,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    configuration, kind = FAMILIES[family]
    torch.manual_seed(seed)
    config = configuration(**(values | changes))
    config.architectures = [kind.__name__]
    module = kind(config)
    for name, parameter in module.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    module = module.to(dtype).eval()
    count = module.num_parameters()
    origin = Origin(name=f"tiny-{family}", sha256="0" * 64, bytes=4 * count, parameters=count)
    found = families.for_architecture(kind.__name__)
    module = take_apart(module, found.anatomy(config))
    return Model(module, build_tokenizer(config.vocab_size, family), found, Lineage(origin))


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Model]:
    """Builds tiny random models: ``tiny_model("qwen2", num_hidden_layers=2)``."""
    return build_model


@pytest.fixture(scope="session")
def text() -> str:
    """English and code, the text that the tiny tokenizers were trained on."""
    return TEXT


@pytest.fixture(scope="session")
def windows() -> torch.Tensor:
    """Random token ids ``[6, 32]`` that every tiny model knows."""
    return torch.randint(3, 400, (6, 32), generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
