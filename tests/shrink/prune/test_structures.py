from dataclasses import replace

import pytest
import torch

from smidgen.models.model import PackedTensor
from smidgen.shrink.prune.structures.layer import Layer, with_layers
from smidgen.shrink.prune.structures.neuron import Neuron


def logits(model, tokens):
    with torch.no_grad():
        return model.module(input_ids=tokens, use_cache=False).logits


def packed(rows):
    return PackedTensor("q8_0", torch.zeros(rows, 68, dtype=torch.uint8), (rows, 64))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_removed_layers_are_those_that_the_stream_passes_over(tiny_model, windows, family):
    model = tiny_model(family, num_hidden_layers=4)
    result = Layer().remove(model, torch.tensor([0, 2]))
    handles = [
        model.module.model.layers[index].register_forward_hook(lambda _, inputs, output: inputs[0]) for index in (1, 3)
    ]
    expected = logits(model, windows)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(logits(result, windows), expected, rtol=0, atol=1e-5)
    assert (logits(model, windows) - expected).abs().max() > 0.1
    assert [layer.self_attn.layer_idx for layer in result.module.model.layers] == [0, 1]
    assert result.lineage.kept_layers == (0, 2)


def test_a_model_without_layers_generates_with_its_cache(tiny_model):
    result = Layer().remove(tiny_model(num_hidden_layers=4), torch.tensor([1, 3]))
    prompt = torch.tensor([[5, 6, 7]])
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with_cache, without = (result.module.generate(prompt, use_cache=use, **settings) for use in (True, False))
    assert torch.equal(with_cache, without)


def test_lists_of_one_value_per_layer_follow(tiny_model):
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    model = tiny_model(
        "qwen2", num_hidden_layers=4, use_sliding_window=True, sliding_window=8, max_window_layers=1, layer_types=kinds
    )
    result = Layer().remove(model, torch.tensor([0, 3]))
    assert result.config.layer_types == ["full_attention", "sliding_attention"]
    assert model.config.layer_types == kinds


def test_layers_twice_pruned_are_counted_in_the_origin(tiny_model):
    once = Layer().remove(tiny_model(num_hidden_layers=4), torch.tensor([0, 2, 3]))
    assert Layer().remove(once, torch.tensor([0, 2])).lineage.kept_layers == (0, 3)


def test_packed_weights_move_with_their_layer(tiny_model):
    names = ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight"]
    model = replace(tiny_model(), packed={name: packed(4) for name in names})
    result = Layer().remove(model, torch.tensor([0, 2]))
    assert result.packed == {names[0]: model.packed[names[0]], names[1]: model.packed[names[2]]}


def test_a_look_without_layers_shares_the_weights(tiny_model):
    model = tiny_model()
    view = with_layers(model, [0, 2])
    assert view.weight("model.layers.1.mlp.up_proj.weight").data_ptr() == (
        model.weight("model.layers.2.mlp.up_proj.weight").data_ptr()
    )


@pytest.mark.parametrize(("family", "changes"), [("llama", {}), ("llama", {"mlp_bias": True}), ("qwen2", {})])
def test_removed_neurons_are_those_that_no_longer_fire(tiny_model, windows, family, changes):
    model = tiny_model(family, **changes)
    kept = torch.stack([torch.randperm(128, generator=torch.Generator().manual_seed(i))[:96] for i in range(3)])
    kept = kept.sort(dim=1).values
    result = Neuron().remove(model, kept)
    silent = model.clone()
    with torch.no_grad():
        for block, indices in zip(model.anatomy.blocks, kept, strict=True):
            gone = torch.ones(128, dtype=torch.bool).index_fill_(0, indices, False)
            silent.weight(block.projections["down"].weight)[:, gone] = 0
    torch.testing.assert_close(logits(result, windows), logits(silent, windows), rtol=0, atol=1e-4)
    assert (logits(result, windows) - logits(model, windows)).abs().max() > 0.1
    assert result.config.intermediate_size == 96 and model.config.intermediate_size == 128
    assert {block.neurons for block in result.anatomy.blocks} == {96}


def test_packed_weights_of_cut_layers_are_dropped(tiny_model):
    mlp = [f"model.layers.1.mlp.{name}_proj.weight" for name in ("gate", "up", "down")]
    attention = "model.layers.1.self_attn.q_proj.weight"
    model = replace(tiny_model(), packed={name: packed(4) for name in [*mlp, attention]})
    result = Neuron().remove(model, torch.arange(64).repeat(3, 1))
    assert set(result.packed) == {attention}


@pytest.mark.parametrize(
    ("neurons", "asked", "expected"),
    [(1536, 1100, 1024), (1536, 5, 256), (128, 127, 96), (128, 5, 32), (256, 250, 224)],
)
def test_widths_are_rounded_to_whole_blocks(tiny_model, neurons, asked, expected):
    from smidgen.shrink.prune.prune import round_keep

    assert round_keep("neuron", asked, tiny_model(intermediate_size=neurons)) == expected
