"""Models into memory: folders and GGUF files, whole, damaged, and whole but contradicting themselves."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, Qwen2Config

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound, SmidgenError, Unsupported
from smidgen.export import gguf, safetensors
from smidgen.models.checkpoint import gguf as container
from smidgen.models.load import load, load_local, read_folder, read_gguf
from smidgen.models.model import Model
from smidgen.models.sources import LocalModel

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 400,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, published_tokenizer: Callable[..., Any]) -> Path:
    """An untied Llama as transformers writes it. Read only."""
    folder: Path = tmp_path_factory.mktemp("original")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(**SMALL)).save_pretrained(folder)
    published_tokenizer("smollm", 400).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    shutil.copytree(original, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def model(original: Path) -> Model:
    return read_folder(original, torch.float32)


@pytest.fixture(scope="module")
def file(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a GGUF. Read only."""
    path: Path = tmp_path_factory.mktemp("file") / "model.gguf"
    gguf.write(model, path)
    return path


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_a_lineage_is_kept_through_writing_and_reading(model: Model, tmp_path: Path) -> None:
    pruned = model.with_step("prune", structure="layer", keep=2)
    origin = replace(model.lineage.origin, name="x", licence="mit", base_model="org/x", dequantised_from="Q4_1")
    lineage = replace(pruned.lineage, origin=origin, kept_layers=(0, 2), kept_tokens=(1, 5))
    safetensors.write(replace(pruned, lineage=lineage), tmp_path / "out")
    assert read_folder(tmp_path / "out", torch.float32).lineage == lineage


def test_what_a_source_knows_becomes_the_origin_of_an_untouched_model_only(model: Model, tmp_path: Path) -> None:
    safetensors.write(model, tmp_path / "plain")
    safetensors.write(model.with_step("prune"), tmp_path / "made")

    def loaded(name: str) -> Model:
        path = tmp_path / name
        local = LocalModel(
            name="n",
            path=path,
            kind="safetensors",
            sha256="ab",
            bytes=7,
            licence="mit",
            base_model="o/n",
            files=(),
            facts={},
        )
        return load_local(local)

    origin = loaded("plain").lineage.origin
    assert (origin.name, origin.sha256, origin.bytes, origin.licence, origin.base_model) == ("n", "ab", 7, "mit", "o/n")
    assert loaded("made").lineage == model.with_step("prune").lineage


def test_a_reference_is_loaded_in_the_asked_type(original: Path, file: Path) -> None:
    for name in (original, file):
        loaded = load(str(name), dtype="bfloat16", offline=True)
        assert {parameter.dtype for parameter in loaded.module.parameters()} == {torch.bfloat16}
        assert not loaded.module.training
        assert len(loaded.lineage.origin.sha256) == 64
    with pytest.raises(ReferenceNotFound):
        load("./nothing-here", offline=True)


def test_generation_settings_and_special_tokens_survive(folder: Path, tmp_path: Path) -> None:
    GenerationConfig(eos_token_id=[2, 0], do_sample=True, temperature=0.6, top_p=0.9).save_pretrained(folder)
    loaded = read_folder(folder, torch.float32)
    safetensors.write(loaded, tmp_path / "out")
    again = read_folder(tmp_path / "out", torch.float32)
    assert again.module.generation_config.eos_token_id == [2, 0]
    assert again.module.generation_config.temperature == 0.6
    assert again.tokenizer.special_tokens_map == loaded.tokenizer.special_tokens_map
    assert again.tokenizer.chat_template == loaded.tokenizer.chat_template


def test_settings_that_transformers_would_not_save_do_not_stop_the_writing(folder: Path, tmp_path: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False, "temperature": 0.6, "top_p": 0.9}))
    loaded = read_folder(folder, torch.float32)
    safetensors.write(loaded, tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (settings["temperature"], settings["top_p"]) == (0.6, 0.9)


def test_a_folder_splits_text_as_its_file_says_and_not_as_its_architecture_does(
    tmp_path: Path, published_tokenizer: Callable[..., Any]
) -> None:
    AutoModelForCausalLM.from_config(Qwen2Config(**SMALL)).save_pretrained(tmp_path)
    tokenizer = published_tokenizer("gpt-2", 400)
    tokenizer.save_pretrained(tmp_path)
    found = read_folder(tmp_path, torch.float32).tokenizer
    text = "for x in range(12345):\n\n    you'LL\u00e9"
    assert found(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert found.backend_tokenizer.pre_tokenizer.__getstate__() == (
        tokenizer.backend_tokenizer.pre_tokenizer.__getstate__()
    )


def test_a_tokenizer_without_its_own_file_is_made_by_transformers(folder: Path) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(spec["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in spec["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    assert read_folder(folder, torch.float32).tokenizer("def f")["input_ids"]


def test_padding_and_truncation_saved_with_a_tokenizer_are_off(folder: Path) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    spec["padding"] = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                       "pad_type_id": 0, "pad_token": "<|endoftext|>"}  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    tokenizer = read_folder(folder, torch.float32).tokenizer
    assert len(tokenizer("a b c d e f g h i j k")["input_ids"]) > 8
    assert len(tokenizer("a")["input_ids"]) == 1


def test_code_beside_a_known_architecture_is_not_run(folder: Path) -> None:
    (folder / "modeling_mine.py").write_text("raise SystemExit('ran')")
    change_config(folder, auto_map={"AutoModelForCausalLM": "modeling_mine.Mine", "AutoConfig": "modeling_mine.Config"})
    assert read_folder(folder, torch.float32).config.model_type == "llama"


def _drop(folder: Path, name: str) -> None:
    state = load_file(folder / "model.safetensors")
    del state[name]
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def _reshape(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["model.layers.0.mlp.up_proj.weight"] = torch.zeros(95, 64)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _cut(folder: Path, name: str, size: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda f: _drop(f, "model.norm.weight"), DamagedFile, r"lack 1 tensors, the first is 'model\.norm\.weight'"),
        (_reshape, DamagedFile, "cannot be read"),
        (lambda f: _cut(f, "model.safetensors", 4), DamagedFile, "weights in .* cannot be read"),
        (lambda f: _cut(f, "model.safetensors", 900), DamagedFile, "weights in .* cannot be read"),
        (lambda f: _cut(f, "model.safetensors", 90000), DamagedFile, "weights in .* cannot be read"),
        (_pickle, DamagedFile, "cannot be read"),
        (lambda f: (f / "model.safetensors").unlink(), DamagedFile, "cannot be read"),
        (lambda f: (f / "config.json").unlink(), InvalidInput, "holds no config.json"),
        (lambda f: _cut(f, "config.json", 30), DamagedFile, "is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), DamagedFile, "not a JSON object"),
        (lambda f: (f / "config.json").write_bytes(b"\xff"), DamagedFile, "is not JSON"),
        (lambda f: change_config(f, architectures=["GPT2LMHeadModel"]), Unsupported, "Known: .*LlamaForCausalLM"),
        (lambda f: change_config(f, architectures=None, model_type="x"), Unsupported, "architecture 'x'"),
        (lambda f: change_config(f, model_type="mine", auto_map={"AutoConfig": "a.B"}), Unsupported, "own code"),
        (lambda f: change_config(f, hidden_size="wide"), DamagedFile, "config.json"),
        (lambda f: change_config(f, hidden_size=63), DamagedFile, "config.json"),
        (lambda f: change_config(f, num_attention_heads=0), DamagedFile, "cannot be"),
        (lambda f: change_config(f, num_hidden_layers=3), DamagedFile, "lack 9 tensors"),
        (lambda f: (f / "tokenizer.json").unlink(), DamagedFile, "tokenizer in .* cannot be read"),
        (lambda f: _cut(f, "tokenizer.json", 500), DamagedFile, "tokenizer in .* cannot be read"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), DamagedFile, "tokenizer in .* cannot be read"),
        (lambda f: (f / "smidgen.json").write_text("{"), DamagedFile, "smidgen.json cannot be read"),
        (lambda f: (f / "smidgen.json").write_text("[1]"), DamagedFile, "smidgen.json cannot be read"),
        (lambda f: (f / "smidgen.json").write_text('{"origin": {}}'), DamagedFile, "smidgen.json cannot be read"),
    ],
)
def test_a_damaged_folder_is_refused_in_words(
    folder: Path, damage: Callable[[Path], object], error: type[SmidgenError], message: str
) -> None:
    damage(folder)
    with pytest.raises(error, match=message) as caught:
        read_folder(folder, torch.float32)
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 600


Pairs = dict[str, Any]


def rewrite(
    file: Path, path: Path, pairs: Pairs, tensors: Callable[[dict[str, container.StoredTensor]], None] | None
) -> Path:
    """Write a GGUF again with other metadata (None: without) and other tensors; well formed, whatever it says."""
    read = container.read(file)
    metadata = {key: value for key, value in (read.metadata | pairs).items() if value is not None}
    stored = dict(read.tensors)
    if tensors:
        tensors(stored)
    container.write(path, {"general.architecture": "llama"} | metadata, stored.values())
    return path


REQUIRED = ("embedding_length", "block_count", "context_length", "feed_forward_length", "attention.head_count",
            "attention.layer_norm_rms_epsilon")  # fmt: skip
SIZES = tuple(f"llama.{key}" for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"))
TOKENS = [f"t{number}" for number in range(390)]


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        *(({f"llama.{key}": None}, DamagedFile, f"lacks 'llama.{key}'") for key in REQUIRED),
        ({"general.architecture": "mamba"}, Unsupported, "architecture 'mamba'"),
        ({"llama.embedding_length": 128}, DamagedFile, "metadata promise"),
        ({"llama.embedding_length": 0}, DamagedFile, "is 0, not a count"),
        ({"llama.embedding_length": 65}, DamagedFile, "cannot be|promise"),
        ({"llama.embedding_length": "64"}, DamagedFile, "is '64', not a count"),
        ({"llama.embedding_length": 2**40}, DamagedFile, "not a count"),
        ({"llama.block_count": 3}, DamagedFile, r"lacks the tensor 'blk\.2"),
        ({"llama.block_count": 1}, Unsupported, r"holds the tensor 'blk\.1"),
        ({"llama.block_count": 2**31 - 1}, DamagedFile, "claims 2,147,483,647 blocks"),
        ({"llama.feed_forward_length": 2**31 - 1}, DamagedFile, "metadata promise"),
        ({"llama.feed_forward_length": [96, 64]}, Unsupported, "layer by layer"),
        ({"llama.attention.head_count": 0}, DamagedFile, "is 0, not a count"),
        ({"llama.attention.head_count": 3}, DamagedFile, "do not divide"),
        ({"llama.attention.head_count": [4, 4]}, Unsupported, "layer by layer"),
        ({"llama.attention.head_count": 8}, DamagedFile, "metadata promise"),
        (dict.fromkeys(("llama.attention.head_count", *SIZES), 2**30), DamagedFile, "do not divide|cannot be|promise"),
        (dict.fromkeys(SIZES, 2**30), DamagedFile, "metadata promise"),
        ({"llama.attention.head_count_kv": 3}, DamagedFile, "4 heads do not divide among 3"),
        ({"llama.attention.head_count_kv": 0}, DamagedFile, "is 0, not a count"),
        ({"llama.attention.key_length": 15}, DamagedFile, "is odd"),
        ({"llama.attention.value_length": 32}, Unsupported, "head size of 16"),
        ({"llama.rope.dimension_count": 8}, Unsupported, "head size of 16"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, DamagedFile, "is nan, not a number"),
        ({"llama.attention.layer_norm_rms_epsilon": "x"}, DamagedFile, "is 'x', not a number"),
        ({"llama.rope.freq_base": -1.0}, DamagedFile, "not a number above 0"),
        ({"llama.rope.freq_base": float("inf")}, DamagedFile, "not a number above 0"),
        ({"llama.rope.scaling.type": "yarn"}, Unsupported, "rope scaling 'yarn'"),
        ({"llama.rope.scaling.type": "linear"}, DamagedFile, "lacks 'llama.rope.scaling.factor'"),
        ({"llama.rope.scaling.type": ["linear"]}, Unsupported, "rope scaling"),
        ({"tokenizer.ggml.tokens": None}, DamagedFile, "no list of tokenizer tokens"),
        ({"tokenizer.ggml.tokens": 3}, DamagedFile, "no list of tokenizer tokens"),
        ({"tokenizer.ggml.tokens": TOKENS}, DamagedFile, "promise \\(390, 64\\)"),
        ({"tokenizer.ggml.merges": None}, DamagedFile, "no list of tokenizer merges"),
        ({"tokenizer.ggml.merges": ["no way"]}, DamagedFile, "merges 'no way'"),
        ({"tokenizer.ggml.pre": "other"}, Unsupported, "splitting 'other'"),
    ],
)
def test_a_gguf_that_contradicts_itself_is_refused_in_words(
    file: Path, tmp_path: Path, pairs: Pairs, error: type[SmidgenError], message: str
) -> None:
    path = rewrite(file, tmp_path / "odd.gguf", pairs, None)
    with pytest.raises(error, match=message) as caught:
        read_gguf(path, torch.float32)
    assert len(str(caught.value)) < 600


def _put(name: str, shape: tuple[int, ...], kind: int = 0) -> Callable[[dict[str, container.StoredTensor]], None]:
    width = {0: 4, 24: 1}[kind]

    def put(tensors: dict[str, container.StoredTensor]) -> None:
        rows = int(torch.tensor(shape[:-1]).prod()) if len(shape) > 1 else 1
        data = torch.zeros(rows, shape[-1] * width, dtype=torch.uint8).numpy()
        tensors[name] = container.StoredTensor(name, shape, kind, data)

    return put


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda tensors: tensors.pop("blk.1.ffn_up.weight"), DamagedFile, r"lacks the tensor 'blk\.1\.ffn_up"),
        (lambda tensors: tensors.pop("token_embd.weight"), DamagedFile, "lacks the tensor 'token_embd"),
        (_put("blk.0.attn_q.bias", (64,)), Unsupported, r"'blk\.0\.attn_q\.bias', which has no place"),
        (_put("blk.0.attn_norm.weight", (63,)), DamagedFile, r"shape \(63,\), and its metadata promise \(64,\)"),
        (_put("output_norm.weight", (1, 64)), DamagedFile, r"promise \(64,\)"),
        (_put("token_embd.weight", (400,)), DamagedFile, r"promise \(400, 64\)"),
        (_put("output.weight", (4, 100, 64)), DamagedFile, r"promise \(400, 64\)"),
        (_put("blk.0.attn_norm.weight", (64,), 24), Unsupported, "stored as I8"),
        (_put("blk.0.ffn_up.weight", (96, 64), 24), Unsupported, "stored as I8"),
        (_put("rope_freqs.weight", (8,)), Unsupported, "rope factors are not those"),
        (_put("rope_freqs.weight", (2, 4)), Unsupported, "rope factors are not those"),
        (_put("rope_freqs.weight", (5,)), Unsupported, "rope factors are not those"),
    ],
)
def test_a_gguf_with_the_wrong_tensors_is_refused_in_words(
    file: Path, tmp_path: Path, change: Any, error: type[SmidgenError], message: str
) -> None:
    path = rewrite(file, tmp_path / "odd.gguf", {}, change)
    with pytest.raises(error, match=message):
        read_gguf(path, torch.float32)


def test_what_a_gguf_may_leave_out_is_filled_in(file: Path, tmp_path: Path) -> None:
    optional = (
        "attention.key_length",
        "attention.value_length",
        "rope.dimension_count",
        "rope.freq_base",
        "vocab_size",
    )
    path = rewrite(file, tmp_path / "bare.gguf", {f"llama.{key}": None for key in optional}, None)
    bare, whole = read_gguf(path, torch.float32), read_gguf(file, torch.float32)
    assert bare.config.rope_parameters == whole.config.rope_parameters
    assert bare.anatomy == whole.anatomy


def test_a_gguf_names_its_licence_and_its_original(model: Model, tmp_path: Path) -> None:
    origin = replace(model.lineage.origin, licence="apache-2.0", base_model="org/name")
    gguf.write(replace(model, lineage=replace(model.lineage, origin=origin)), tmp_path / "a.gguf")
    found = read_gguf(tmp_path / "a.gguf", torch.float32).lineage.origin
    assert (found.licence, found.base_model, found.dequantised_from) == ("apache-2.0", "org/name", None)
    assert found.bytes == (tmp_path / "a.gguf").stat().st_size


def test_the_published_model_says_what_it_was_dequantised_from(smollm2_gguf: Path) -> None:
    model = read_gguf(smollm2_gguf, torch.bfloat16)
    assert model.lineage.origin.dequantised_from == "Q4_1"
    assert model.parameter_count() == 134_515_008
    assert model.config.rope_parameters == {"rope_type": "default", "rope_theta": 100000.0}
    assert (model.config.rms_norm_eps, model.anatomy.tied, len(model.anatomy.blocks)) == (1e-5, True, 30)


@settings(max_examples=150, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(4, 2600), st.integers(1, 255)), min_size=1, max_size=3))
def test_flipped_bytes_never_reach_transformers(
    flips: list[tuple[int, int]], file: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(file.read_bytes())
    # The vocabulary is long and dull: half of the places lie before it, half in the headers behind it.
    behind = content.index(b"token_embd.weight") - 1300
    for place, change in flips:
        content[place if place < 1300 else behind + place - 1300] ^= change
    path = tmp_path_factory.getbasetemp() / "flipped.gguf"
    path.write_bytes(content)
    with contextlib.suppress(SmidgenError):
        assert read_gguf(path, torch.float32).parameter_count() > 0
