"""What every family of models promises, tried on every file of models/families."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gguf as gguf_package
import numpy
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhimoeConfig,
    Qwen2Config,
)

from smidgen import registry
from smidgen.errors import Unsupported
from smidgen.export import gguf, safetensors
from smidgen.inference.scoring import PromptScorer
from smidgen.models import families
from smidgen.models.centring import centred
from smidgen.models.checkpoint.gguf import read
from smidgen.models.load import read_folder, read_gguf
from smidgen.models.model import Model
from smidgen.models.vision.family import SeeingFamily
from smidgen.shrink.prune.structures.layer import with_layers
from smidgen.shrink.quantize.quantize import Quantize

SEEING = {
    name
    for name in registry.names("smidgen.models.families")
    if issubclass(registry.find("smidgen.models.families", name), SeeingFamily)
}
"""Families whose language model is of another family; see test_seeing_families_contract.py."""

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
# A window shorter than the text, heads wider than the width's share, bounds that bite.
GEMMA = {
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 12,
    "tie_word_embeddings": True,
    "vocab_size": 512,
}
GEMMA2 = GEMMA | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0, "num_hidden_layers": 3}
GEMMA3 = GEMMA | {
    "num_hidden_layers": 7,
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0},
    },
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 1.0,
    "original_max_position_embeddings": 512,
    "short_factor": [1.0, 1.02, 1.05, 1.08, 1.1, 1.3, 1.7, 2.0],
    "long_factor": [1.0, 1.2, 1.6, 2.5, 5.0, 11.0, 25.12, 60.0],
}
LONG = {"sliding_window": 2048, "max_position_embeddings": 1024}
PHI3 = LONG | {"rope_parameters": LONG_ROPE, "original_max_position_embeddings": 512}
PHIMOE = LONG | {
    "num_local_experts": 4,
    "attention_bias": True,
    "lm_head_bias": True,
    "rope_parameters": {
        **{name: value for name, value in LONG_ROPE.items() if name != "partial_rotary_factor"},
        "short_mscale": 1.243163,
        "long_mscale": 1.243163,
    },
    "router_jitter_noise": 0.0,
}
QWEN = {"rope_type": "default", "rope_theta": 1000000.0}


@dataclass(frozen=True)
class Case:
    family: str
    kind: Any
    changes: dict[str, Any]
    splitting: str
    length: int = 48


CASES = {
    "gemma2": Case("gemma2", Gemma2Config, GEMMA2, "gemma"),
    "gemma3": Case("gemma3", Gemma3TextConfig, GEMMA3, "gemma"),
    "gemma3-pattern": Case(
        "gemma3", Gemma3TextConfig, GEMMA | {"num_hidden_layers": 3, "sliding_window_pattern": 2}, "gemma"
    ),
    "llama-tied": Case("llama", LlamaConfig, {"tie_word_embeddings": True}, "smollm"),
    "llama-untied": Case("llama", LlamaConfig, {"tie_word_embeddings": False, "rms_norm_eps": 1e-6}, "gpt-2"),
    # Llama 3 slows the frequencies that turn in thousands of tokens: short texts would not notice.
    "llama-rope-llama3": Case(
        "llama", LlamaConfig, {"rope_parameters": LLAMA3, "max_position_embeddings": 16384}, "llama-bpe", 1500
    ),
    "llama-rope-linear": Case("llama", LlamaConfig, {"rope_parameters": LINEAR}, "llama-bpe"),
    "llama-wide-heads": Case("llama", LlamaConfig, {"head_dim": 32, "tie_word_embeddings": True}, "smollm"),
    "mistral-window": Case(
        "mistral", MistralConfig, {"sliding_window": 64, "rope_parameters": QWEN, "rms_norm_eps": 1e-5}, "llama-bpe", 64
    ),
    "mistral-whole": Case(
        "mistral", MistralConfig, {"sliding_window": None, "head_dim": 32, "vocab_size": 512}, "mistral"
    ),
    # Texts longer than the original context are rotated by other frequencies than shorter ones.
    "phi3-long": Case("phi3", Phi3Config, PHI3, "phi", 600),
    "phi3-short": Case("phi3", Phi3Config, PHI3 | {"num_key_value_heads": 4}, "phi"),
    "phi3-partial": Case(
        "phi3",
        Phi3Config,
        {
            "sliding_window": 64,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        },
        "phi",
        64,
    ),
    "phimoe": Case("phimoe", PhimoeConfig, PHIMOE, "phi"),
    "phimoe-plain": Case(
        "phimoe", PhimoeConfig, {"num_local_experts": 3, "router_jitter_noise": 0.0, "initializer_range": 0.1}, "phi"
    ),
    "qwen2-tied": Case("qwen2", Qwen2Config, {"tie_word_embeddings": True}, "qwen2"),
    "qwen2-untied": Case("qwen2", Qwen2Config, {"tie_word_embeddings": False, "rope_parameters": QWEN}, "qwen2"),
}

DEEP = {"num_hidden_layers": 46, "query_pre_attn_scalar": 8, "hidden_size": 32, "intermediate_size": 32}
DEEPEST = {"gemma2-27b": Case("gemma2", Gemma2Config, GEMMA2 | DEEP, "gemma", 24)}
"""With 46 layers llama.cpp takes a Gemma 2 for the 27B model, whose attention is scaled by its width over its heads."""


@dataclass(frozen=True)
class Made:
    """A tiny random model as transformers wrote it, and as smidgen read and wrote it."""

    folder: Path
    logits: torch.Tensor
    ids: torch.Tensor
    model: Model
    file: Path


def test_every_file_is_tried() -> None:
    found = {name for name in registry.names("smidgen.models.families") if name not in SEEING}
    assert len(found) == 7
    assert {case.family for case in CASES.values()} == found


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, published_tokenizer: Any) -> Any:
    """Make each case once."""

    @cache
    def made(name: str) -> Made:
        case, folder = (CASES | DEEPEST)[name], tmp_path_factory.mktemp(name)
        config = case.kind(**(SMALL | case.changes))
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config).eval()
        offset = 1.0 if "gemma" in case.family else 0.0
        for parameter_name, parameter in module.named_parameters():
            if parameter_name.endswith("norm.weight"):
                torch.nn.init.uniform_(parameter, 0.5 - offset, 1.5 - offset)
            elif parameter_name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.5)
        module.save_pretrained(folder / "model")
        published_tokenizer(case.splitting, config.vocab_size).save_pretrained(folder / "model")
        ids = torch.randint(3, 400, (1, case.length), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            logits = module(ids).logits[0]
        model = read_folder(folder / "model", torch.float32)
        gguf.write(model, folder / "model.gguf")
        return Made(folder / "model", logits, ids, model, folder / "model.gguf")

    return made


SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 400,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

every_case = pytest.mark.parametrize("name", CASES)


@torch.no_grad()
def logits_of(model: Model, ids: torch.Tensor) -> torch.Tensor:
    return model.module(ids).logits[0]


def divergence(source: torch.Tensor, result: torch.Tensor) -> float:
    p, q = source.double().log_softmax(-1), result.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


@every_case
def test_a_folder_gives_the_logits_of_transformers(make: Any, name: str) -> None:
    made = make(name)
    torch.testing.assert_close(logits_of(made.model, made.ids), made.logits, atol=1e-4, rtol=1e-4)


@every_case
def test_the_anatomy_names_every_matrix_once(make: Any, name: str) -> None:
    model = make(name).model
    anatomy, state = model.anatomy, model.module.state_dict()
    matrices = {key for key, value in model.module.named_parameters() if value.dim() == 2}
    assert {*anatomy.matrices(), *anatomy.routers()} == matrices
    assert not anatomy.routers() & {*anatomy.matrices()}
    read_by_sites = [module for site in anatomy.sites() for module in site.modules]
    assert sorted(read_by_sites) == sorted({*(key.removesuffix(".weight") for key in matrices), anatomy.head}
                                           - {anatomy.embedding})  # fmt: skip
    paths = [anatomy.final_norm, *(norm for block in anatomy.blocks for norm in block.norms)]
    for block in anatomy.blocks:
        assert {*block.norm_before.values(), *block.norm_after.values()} == set(block.norms)
        assert all(state[f"{norm}.weight"].shape == (anatomy.hidden_size,) for norm in block.norms)
        assert all(state[f"{norm}.weight"].shape == (block.head_size,) for norm in block.head_norms.values())
        paths += block.head_norms.values()
    vectors = {key for key, value in state.items() if value.dim() == 1 and not key.endswith("bias")}
    assert {f"{path}.weight" for path in paths} == vectors == anatomy.norm_weights()
    for path in (anatomy.layers, anatomy.rotary, anatomy.head, *(block.path for block in anatomy.blocks)):
        model.module.get_submodule(path)
    for block in anatomy.blocks:
        query, shared = block.query_heads * block.head_size, block.key_value_heads * block.head_size
        lengths = {"query": query, "key": shared, "value": shared, "gate": block.neurons, "up": block.neurons}
        assert len(block.mlps) == max(1, block.experts)
        for projection in block.projections.values():
            rows = slice(*projection.rows) if projection.rows else slice(None)
            if projection.role in lengths:
                assert state[projection.weight][rows].shape == (lengths[projection.role], anatomy.hidden_size)
        for mlp in block.mlps:
            assert state[mlp.projections["down"].weight].shape == (anatomy.hidden_size, block.neurons)
    assert state[f"{anatomy.embedding}.weight"].shape == (anatomy.vocabulary_size, anatomy.hidden_size)
    assert anatomy.tied == (f"{anatomy.head}.weight" not in matrices)


@every_case
def test_llama_cpp_computes_the_same_from_the_gguf(make: Any, name: str) -> None:
    made = make(name)
    with PromptScorer(made.file, threads=1, context=made.ids.shape[1]) as scorer:
        start = max(0, made.ids.shape[1] - 100)
        found = torch.from_numpy(numpy.array(scorer.logits(made.ids[0].tolist(), start=start)))
    expected = made.logits[start:]
    assert divergence(expected, found) < 1e-3
    assert float(torch.cosine_similarity(expected, found, dim=-1).min()) > 0.999


@every_case
def test_a_gguf_is_read_back_as_it_was(make: Any, name: str) -> None:
    made = make(name)
    again = read_gguf(made.file, torch.float32)
    difference = (logits_of(again, made.ids) - made.logits).norm() / made.logits.norm()
    assert float(difference) < 1e-2
    # Where norms subtract the mean, the mean of what is written into the stream does not reach the file.
    for key, value in centred(made.model).module.state_dict().items():
        torch.testing.assert_close(again.module.state_dict()[key], value, atol=1e-7, rtol=2**-11)
    kept = {*SMALL, "rms_norm_eps", "rope_parameters", "tie_word_embeddings", "architectures", *CASES[name].changes}
    for key in kept - {"initializer_range", "head_dim", "sliding_window_pattern"}:
        assert getattr(again.config, key) == getattr(made.model.config, key), key
    assert again.anatomy == made.model.anatomy
    assert again.lineage.origin.dequantised_from is None
    assert again.lineage.origin.parameters == made.model.parameter_count()


@every_case
def test_packed_bytes_go_through_a_gguf_unchanged(make: Any, name: str, tmp_path: Path) -> None:
    made = make(name)
    small = Quantize(default="q8_0", solver="nearest").apply(made.model, made.ids)
    assert set(small.packed) == set(made.model.anatomy.matrices())
    gguf.write(small, tmp_path / "small.gguf")
    names = small.family.gguf_names(small.config)
    values = {tensor.name: tensor for tensor in gguf_package.GGUFReader(tmp_path / "small.gguf").tensors}
    again = read_gguf(tmp_path / "small.gguf", torch.float32)
    assert again.lineage.origin.dequantised_from == "Q8_0"
    metadata = read(tmp_path / "small.gguf").metadata
    for key, packed in small.packed.items():
        together = next((group for group in small.anatomy.stored_together() if key in group), [key])
        data = values[names[key]].data.reshape(len(together), *packed.data.shape)[together.index(key)]
        # Reading back undoes the order of the rows: the float values are those of the packed model, bit for bit.
        assert torch.equal(again.weight(key), small.weight(key)), key
        if small.family.gguf_factor(key, metadata) == 1:
            assert sorted(map(bytes, data)) == sorted(map(bytes, packed.data.numpy()))
            if small.family.gguf_rows(key, small.config) is None:
                assert data.tobytes() == packed.data.numpy().tobytes()
    with PromptScorer(tmp_path / "small.gguf", threads=1, context=48) as scorer:
        found = torch.from_numpy(numpy.array(scorer.logits(made.ids[0, :48].tolist())))
    expected = logits_of(small, made.ids[:, :48]).reshape(found.shape)
    if small.anatomy.routers():
        # llama.cpp rounds activations to 8 bits, and a router's near-tie may then go to another expert.
        near = [divergence(*pair) < 3e-3 for pair in zip(expected, found, strict=True)]
        assert sum(near) >= 0.9 * len(near)
    else:
        assert divergence(expected, found) < 3e-3


def test_llamas_query_rows_lie_as_llama_cpp_rotates_them(make: Any) -> None:
    model = make("llama-tied").model
    for module, heads in (("q_proj", 4), ("k_proj", 2)):
        order = model.family.gguf_rows(f"model.layers.0.self_attn.{module}.weight", model.config)
        # Channel i of a head and its partner i + 8 become neighbours.
        expected = [16 * head + pair + 8 * half for head in range(heads) for pair in range(8) for half in (0, 1)]
        assert order.tolist() == expected


@every_case
def test_safetensors_reload_in_plain_transformers(make: Any, name: str, tmp_path: Path) -> None:
    made = make(name)
    safetensors.write(made.model, tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16).eval()
    with torch.no_grad():
        found = plain(made.ids).logits[0]
    assert torch.equal(found, logits_of(read_folder(made.folder, torch.bfloat16), made.ids))
    assert read_folder(tmp_path / "out", torch.float32).lineage == made.model.lineage


@every_case
def test_the_same_model_gives_the_same_bytes(make: Any, name: str, tmp_path: Path) -> None:
    made = make(name)
    gguf.write(made.model, tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == made.file.read_bytes()


@every_case
def test_the_size_of_the_rest_is_known_before(make: Any, name: str) -> None:
    made = make(name)
    matrices = sum(2 * made.model.weight(key).numel() for key in made.model.anatomy.matrices())
    expected = matrices + gguf.metadata_bytes(made.model)
    uneven = 2 if made.model.anatomy.vocabulary_size % 32 else 0  # embedding and head may be padded
    assert made.file.stat().st_size <= expected <= made.file.stat().st_size + 31 * uneven


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama-tied", {"hidden_act": "gelu"}, "SiLU"),
        ("llama-tied", {"rope_parameters": LLAMA3 | {"rope_type": "yarn"}}, "'yarn' has no place"),
        ("qwen2-tied", {"rope_parameters": LLAMA3}, "'llama3' has no place"),
        ("gemma2", {"hidden_activation": "gelu"}, r"GELU \(tanh\)"),
        ("gemma2", {"query_pre_attn_scalar": 16}, "1/√32, and this model by 1/√16"),
        ("gemma2", {"final_logit_softcapping": None}, "no final_logit_softcapping"),
        ("gemma2", {"tie_word_embeddings": False}, "tied head"),
        ("gemma2", {"sliding_window": None}, "sliding window"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "unbounded scores"),
        ("gemma3", {"use_bidirectional_attention": True}, "causal model"),
        ("gemma3", {"layer_types": ["full_attention", *["sliding_attention"] * 6]}, "follow each other otherwise"),
        ("gemma3", {"rope_parameters": {"sliding_attention": LINEAR, "full_attention": LINEAR}}, "does not scale"),
        ("qwen2-tied", {"use_sliding_window": True}, "sliding window"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    make: Any, name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = make(name).model.clone()
    for key, value in changes.items():
        setattr(model.config, key, value)
    with pytest.raises(Unsupported, match=message):
        gguf.write(model, tmp_path / "x.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_mistrals_file_promises_no_more_than_its_window(make: Any, tmp_path: Path) -> None:
    made = make("mistral-window")
    metadata = read(made.file).metadata
    assert (metadata["llama.context_length"], metadata["llama.attention.sliding_window"]) == (64, 64)
    again = read_gguf(made.file, torch.float32)
    assert (again.config.max_position_embeddings, again.config.sliding_window) == (512, 64)
    # Beyond the window full attention, which is what llama.cpp computes, gives something else.
    ids = torch.randint(3, 400, (1, 100), generator=torch.Generator().manual_seed(2))
    open_window = again.clone()
    open_window.module.config.sliding_window = None
    within, beyond = logits_of(again, ids), logits_of(open_window, ids)
    torch.testing.assert_close(within[:64], beyond[:64], atol=1e-5, rtol=1e-5)
    assert float((within[64:] - beyond[64:]).abs().max()) > 0.01
    whole = read(make("mistral-whole").file).metadata
    assert (whole["llama.context_length"], whole["llama.attention.sliding_window"]) == (512, 0)


@every_case
def test_one_family_reads_a_file(make: Any, name: str) -> None:
    metadata = read(make(name).file).metadata
    readers = [family for family in families.all_families() if family.reads_gguf(metadata)]
    assert [type(family) for family in readers] == [type(make(name).model.family)]


def test_the_largest_gemma_2_is_scaled_as_llama_cpp_scales_it(make: Any) -> None:
    made = make("gemma2-27b")
    with PromptScorer(made.file, threads=1, context=24) as scorer:
        found = torch.from_numpy(numpy.array(scorer.logits(made.ids[0].tolist())))
    assert float(torch.cosine_similarity(made.logits, found, dim=-1).min()) > 0.999
    assert read_gguf(made.file, torch.float32).config.query_pre_attn_scalar == 8
    shallow = with_layers(made.model, range(44))
    with pytest.raises(Unsupported, match="with 44 layers by 1/√32, and this model by 1/√8"):
        shallow.family.gguf_metadata(shallow.config)


def test_gemmas_norms_lie_in_a_gguf_as_what_they_scale_by(make: Any) -> None:
    made = make("gemma3")
    stored, norms = read(made.file).tensors, made.model.anatomy.norm_weights()
    names = made.model.family.gguf_names(made.model.config)
    assert len(norms) == 7 * 6 + 1
    for name in norms:
        numpy.testing.assert_array_equal(stored[names[name]].floats(), (made.model.weight(name) + 1).detach().numpy())


def test_the_anatomy_makes_the_logits_that_the_model_makes(make: Any) -> None:
    for name in ("gemma2", "gemma3", "llama-tied"):
        made = make(name)
        anatomy, module = made.model.anatomy, made.model.module
        with torch.no_grad():
            hidden = module.base_model(made.ids).last_hidden_state[0]
            scores = module.get_submodule(anatomy.head)(hidden)
            torch.testing.assert_close(anatomy.logits(scores), made.logits, atol=1e-4, rtol=1e-4)
            embedding = module.get_submodule(anatomy.embedding)
            torch.testing.assert_close(embedding(made.ids), embedding.weight[made.ids] * anatomy.embedding_scale)
        assert (anatomy.logit_cap is not None) == (name == "gemma2")
        if anatomy.logit_cap is not None:
            assert float((scores - made.logits).abs().max()) > 1
            slopes = torch.func.vmap(torch.func.grad(anatomy.logits))(scores.flatten()[:50])
            torch.testing.assert_close(anatomy.logit_slopes(made.logits.flatten()[:50]), slopes, atol=1e-5, rtol=1e-4)


def test_a_weight_that_gguf_has_no_name_for_is_refused(make: Any, tmp_path: Path) -> None:
    model = make("llama-tied").model
    biased = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL, attention_bias=True))
    with pytest.raises(Unsupported, match=r"self_attn\.q_proj\.bias"):
        gguf.write(replace(model, module=biased), tmp_path / "x.gguf")
    assert list(tmp_path.iterdir()) == []


def test_llama_3_rope_factors_are_those_of_transformers(make: Any) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    made = make("llama-rope-llama3")
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](made.model.config)
    plain = 1.0 / 500000.0 ** (torch.arange(0, 16, 2) / 16)
    stored = read(made.file).tensors["rope_freqs.weight"].floats()
    numpy.testing.assert_allclose(stored, (plain / scaled).numpy(), rtol=1e-5)
    assert len(set(stored.round(3))) > 2  # unscaled, blended and scaled
