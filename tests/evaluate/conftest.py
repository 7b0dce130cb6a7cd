"""A tiny random Llama as GGUF files that llama.cpp reads: itself, with noise, and with fewer tokens."""

import argparse
import inspect
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from smidgen.evaluate.windows import Text
from smidgen.export import gguf
from smidgen.models import families
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model
from smidgen.shrink.prune.structures.vocabulary import Vocabulary

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 768


@dataclass(frozen=True, eq=False)
class Written:
    """A model in memory and as a file."""

    model: Model
    path: Path


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def text() -> Text:
    return Text("argparse", inspect.getsource(argparse) + "Ein Café: 日本語 ☃ 😀.\n")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory, text: Text) -> Written:
    config = LlamaConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        vocab_size=VOCABULARY,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.2,
    )
    config.architectures = ["LlamaForCausalLM"]
    torch.manual_seed(0)
    module = LlamaForCausalLM(config).eval()
    origin = Origin("tiny", "0" * 64, 4 * module.num_parameters(), module.num_parameters())
    family = families.for_architecture("LlamaForCausalLM")
    return _written(Model(module, _tokenizer(text), family, Lineage(origin)), tmp_path_factory)


@pytest.fixture(scope="session")
def noisy(source: Written, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The source with noise on its weights."""
    model = source.model.clone()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter += 0.015 * torch.randn(parameter.shape, generator=generator)
    return _written(model, tmp_path_factory)


@pytest.fixture(scope="session")
def pruned(noisy: Written, text: Text, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The noisy model with two thirds of the tokens."""
    use = torch.bincount(torch.tensor(noisy.model.tokenizer.encode(text.content)), minlength=VOCABULARY).float()
    structure = Vocabulary()
    return _written(structure.remove(noisy.model, structure.select(noisy.model, use, 512)), tmp_path_factory)


def _tokenizer(text: Text) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([text.content], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[0],
        chat_template="{{ '<|im_start|>' + messages[0]['content'] + '<|im_end|>' }}",
    )


def _written(model: Model, factory: pytest.TempPathFactory) -> Written:
    path = factory.mktemp("gguf") / "model.gguf"
    gguf.write(model, path, float_format="float32")
    return Written(model, path)
