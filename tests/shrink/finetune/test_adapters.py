import json
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy
import pytest
import torch
from gguf import GGUFReader
from peft import PeftModel
from transformers import AutoModelForCausalLM

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound, Unsupported
from smidgen.export import adapter as adapter_files
from smidgen.export import gguf, safetensors
from smidgen.models.load import read_gguf
from smidgen.models.packed import held_bytes, is_packed, unpacked
from smidgen.shrink.finetune import reading
from smidgen.shrink.finetune.adapters import Adapter
from smidgen.shrink.finetune.finetune import Finetune
from smidgen.shrink.finetune.packed import as_stored, on_packed_base
from smidgen.shrink.prune.prune import Prune

FAST = {"learning_rate": 2e-2, "steps": 10, "batch_size": 4, "length": 64, "rank": 4, "patience": 0}
IDS = torch.tensor([[5, 9, 77, 200, 31, 8, 120, 66, 300, 12]])
ENGINE = """
import ctypes, sys, json
import numpy
from smidgen.inference.llama_library import LlamaLibrary

model, adapter, ids, out = sys.argv[1:]
engine = LlamaLibrary(model, 1, 256)
library = engine._library
library.llama_adapter_lora_init.restype = ctypes.c_void_p
library.llama_adapter_lora_init.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
if adapter:
    loaded = library.llama_adapter_lora_init(engine._model, adapter.encode())
    assert loaded, engine._first_error
    put = library.llama_set_adapters_lora
    put.restype = ctypes.c_int32
    put.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.POINTER(ctypes.c_float)]
    assert put(engine._context, (ctypes.c_void_p * 1)(loaded), 1, (ctypes.c_float * 1)(1.0)) == 0
numpy.save(out, numpy.concatenate(list(engine.read_all(json.loads(ids), 0))))
"""


def logits(model, ids=IDS):
    with torch.no_grad():
        return model.module(input_ids=ids, use_cache=False).logits[0]


def in_llama_cpp(model_file, adapter_file, out):
    """Logits of `IDS` that llama.cpp computes, with an adapter or none."""
    words = [str(model_file), str(adapter_file or ""), json.dumps(IDS[0].tolist()), str(out)]
    done = subprocess.run([sys.executable, "-c", ENGINE, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return torch.from_numpy(numpy.load(out))


def cosine(one, other):
    return float(torch.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0))


@pytest.fixture(scope="module")
def trained(chatty, lessons):
    """A model and what was trained on top of it, by method and family; trained once."""
    known = {}

    def train(method, family="llama"):
        if (method, family) not in known:
            model = chatty(family)
            known[method, family] = model, Finetune(method=method, **FAST).run(model, *lessons)
        return known[method, family]

    return train


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_plain_peft_loads_it_on_plain_transformers(method, trained, tmp_path):
    model, result = trained(method)
    safetensors.write(model, tmp_path / "base", dtype="float32")
    adapter_files.write(result.adapter, result.model, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        plain = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        found = plain(input_ids=IDS, use_cache=False).logits[0]
    assert torch.allclose(found, logits(result.model), atol=1e-4)
    assert not torch.allclose(found, logits(model), atol=1e-2)
    assert (tmp_path / "adapter" / "adapter.gguf").exists() == (method == "lora")


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_that_is_read_back_merges_to_the_same(method, trained, tmp_path):
    model, result = trained(method)
    adapter_files.write(result.adapter, result.model, tmp_path)
    again = Adapter.read(tmp_path)
    assert replace(again, weights={}) == replace(result.adapter, weights={}, targets=tuple(sorted(again.targets)))
    assert torch.equal(logits(again.merged(model)), logits(result.model))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_llama_cpp_computes_with_it_what_the_merged_model_computes(family, trained, tmp_path):
    model, result = trained("lora", family)
    gguf.write(model, tmp_path / "base.gguf", float_format="float32")
    adapter_files.write_gguf(result.adapter, model, tmp_path / "adapter.gguf")
    without = in_llama_cpp(tmp_path / "base.gguf", None, tmp_path / "a.npy")
    found = in_llama_cpp(tmp_path / "base.gguf", tmp_path / "adapter.gguf", tmp_path / "b.npy")
    assert cosine(without, logits(model)) > 0.9999 and cosine(found, logits(result.model)) > 0.9999
    assert cosine(without, logits(result.model)) < 0.99


def test_llama_cpp_puts_it_on_a_model_whose_blocks_differ(chatty, lessons, windows, tmp_path):
    cut = Prune("head", "l2", allocation=(4, 0, 2)).apply(chatty(), windows)
    cut = Prune("neuron", "l2", allocation=(96, 64, 128)).apply(cut, windows)
    result = Finetune(method="lora", **FAST).run(cut, *lessons)
    gguf.write(cut, tmp_path / "base.gguf", float_format="float32")
    adapter_files.write(result.adapter, result.model, tmp_path / "apart")
    found = in_llama_cpp(tmp_path / "base.gguf", tmp_path / "apart" / "adapter.gguf", tmp_path / "a.npy")
    assert cosine(found, logits(result.model)) > 0.9999 > cosine(logits(cut), logits(result.model))


def test_llama_cpp_puts_it_on_the_attention_of_a_model_with_experts(chatty, lessons, tmp_path):
    model = chatty("phimoe", num_local_experts=4, num_hidden_layers=2, tie_word_embeddings=False)
    result = Finetune(method="lora", targets="attention", **FAST).run(model, *lessons)
    gguf.write(model, tmp_path / "base.gguf", float_format="float32")
    adapter_files.write(result.adapter, result.model, tmp_path / "apart")
    found = in_llama_cpp(tmp_path / "base.gguf", tmp_path / "apart" / "adapter.gguf", tmp_path / "a.npy")
    assert cosine(found, logits(result.model)) > 0.9999 > cosine(logits(model), logits(result.model))
    again = reading.merge(tmp_path / "apart" / "adapter.gguf", model)
    assert cosine(logits(again), logits(result.model)) > 0.9999


def test_an_adapter_on_experts_has_no_place_in_a_gguf(chatty, lessons, tmp_path):
    model = chatty("phimoe", num_local_experts=4, num_hidden_layers=1, tie_word_embeddings=False)
    result = Finetune(method="lora", targets="mlp", **FAST | {"steps": 1}).run(model, *lessons)
    adapter_files.write(result.adapter, result.model, tmp_path / "apart")
    assert not (tmp_path / "apart" / "adapter.gguf").exists()
    with pytest.raises(Unsupported, match="no place in GGUF"):
        adapter_files.write_gguf(result.adapter, model, tmp_path / "adapter.gguf")
    assert torch.equal(logits(reading.merge(tmp_path / "apart", model)), logits(result.model))


def test_the_gguf_reader_finds_what_was_written(trained, tmp_path):
    model, result = trained("lora")
    adapter_files.write_gguf(result.adapter, model, tmp_path / "adapter.gguf")
    read = GGUFReader(tmp_path / "adapter.gguf")
    fields = {name: read.get_field(name).contents() for name in read.fields if name[:8] in ("general.", "adapter.")}
    assert fields["general.type"] == "adapter" and fields["adapter.type"] == "lora"
    assert fields["adapter.lora.alpha"] == 8.0 and fields["general.architecture"] == "llama"
    shapes = {tensor.name: tuple(map(int, tensor.shape)) for tensor in read.tensors}
    assert len(shapes) == 2 * 7 * 3 and shapes["blk.0.ffn_down.weight.lora_a"] == (128, 4)
    assert shapes["blk.0.ffn_down.weight.lora_b"] == (4, 64)


def test_llama_cpp_puts_it_on_the_quantized_file_it_was_trained_on(chatty, lessons, quantized, tmp_path):
    model = quantized(chatty())
    result = Finetune(method="qlora", **FAST).run(model, *lessons)
    gguf.write(model, tmp_path / "base.gguf")
    adapter_files.write_gguf(result.adapter, model, tmp_path / "adapter.gguf")
    found = in_llama_cpp(tmp_path / "base.gguf", tmp_path / "adapter.gguf", tmp_path / "a.npy")
    assert cosine(found, logits(result.model)) > 0.999 > cosine(logits(model), logits(result.model))


def test_qlora_trains_as_lora_does_on_the_values_of_its_base(chatty, lessons, quantized):
    model = quantized(chatty())
    lora, qlora = (Finetune(method=method, **FAST).run(model, *lessons) for method in ("lora", "qlora"))
    assert qlora.curves["held_out"] == [pytest.approx(point, rel=1e-4) for point in lora.curves["held_out"]]
    for name, weight in lora.adapter.weights.items():
        assert torch.allclose(weight, qlora.adapter.weights[name], atol=1e-3), name


def test_a_file_gives_back_the_bytes_it_stores(chatty, quantized, tmp_path):
    model = quantized(chatty(), "q4_0")
    gguf.write(model, tmp_path / "stored.gguf")
    read = read_gguf(tmp_path / "stored.gguf", torch.float32)
    again = as_stored(read, tmp_path / "stored.gguf")
    assert read.packed == {} and again.packed.keys() == model.packed.keys()
    for name, packed in model.packed.items():
        assert again.packed[name].format == "q4_0" and torch.equal(again.packed[name].data, packed.data)
    gguf.write(chatty(), tmp_path / "floats.gguf")
    assert as_stored(chatty(), tmp_path / "floats.gguf").packed == {}


@pytest.mark.parametrize("tied", [True, False])
def test_a_packed_base_computes_the_same_from_fewer_bytes(tied, chatty, quantized):
    model = quantized(chatty(tie_word_embeddings=tied), "q4_0")
    packed = on_packed_base(model)
    assert torch.allclose(logits(packed), logits(model), atol=1e-5)
    assert held_bytes(packed.module) < 0.2 * held_bytes(model.module)
    assert type(model.module.lm_head) is torch.nn.Linear and model.module.lm_head.weight.requires_grad


@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("qwen2", False)])
def test_a_model_that_was_held_as_bytes_comes_back_whole(family, tied, chatty, quantized):
    model = quantized(chatty(family, tie_word_embeddings=tied), "q4_0")
    again = unpacked(on_packed_base(model))
    state, found = model.module.state_dict(), again.module.state_dict()
    assert state.keys() == found.keys() and all(torch.equal(value, found[name]) for name, value in state.items())
    assert (again.module.lm_head.weight is again.module.model.embed_tokens.weight) == tied
    assert not is_packed(again.module) and not is_packed(model.module) and torch.equal(logits(again), logits(model))


def test_a_model_held_as_bytes_alone_is_trained_and_merged_alike(chatty, lessons, quantized):
    model, work = quantized(chatty()), Finetune(method="qlora", **FAST)
    one, two = (work.run(each, *lessons) for each in (model, on_packed_base(model)))
    assert one.curves == two.curves and one.model.packed.keys() == two.model.packed.keys()
    state = two.model.module.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.model.module.state_dict().items())


def test_a_packed_base_passes_the_gradient_on(chatty, quantized):
    model = quantized(chatty())
    slopes = []
    for each in (model, on_packed_base(model)):
        read = model.module.model.embed_tokens(IDS).detach().requires_grad_()
        each.module(inputs_embeds=read, use_cache=False).logits.square().mean().backward()
        slopes.append(read.grad)
    assert torch.allclose(*slopes, rtol=1e-4, atol=1e-7)


def test_a_dora_has_no_place_in_gguf(trained, tmp_path):
    model, result = trained("dora")
    with pytest.raises(Unsupported, match="Merge it"):
        adapter_files.write_gguf(result.adapter, model, tmp_path / "adapter.gguf")


def test_adapters_of_other_models_and_broken_ones_are_refused(trained, chatty, tmp_path):
    _, result = trained("lora")
    with pytest.raises(InvalidInput, match="that has 'model"):
        result.adapter.merged(chatty(num_hidden_layers=2))
    with pytest.raises(InvalidInput, match="other sizes"):
        result.adapter.merged(chatty(intermediate_size=160))
    with pytest.raises(ReferenceNotFound, match=r"adapter_config\.json"):
        Adapter.read(tmp_path)
    adapter_files.write(result.adapter, result.model, tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(DamagedFile, match="cannot be read"):
        Adapter.read(tmp_path)
