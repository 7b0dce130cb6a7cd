"""Phi-3 vision's checkpoints, tokens and prompts, against a second implementation of tests/tiny_phi3v.py."""

from __future__ import annotations

import copy
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import Phi3Config, Phi3ForCausalLM

from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.export import projector, safetensors
from smidgen.models.families.phi3v import Phi3V
from smidgen.models.load import read_folder
from smidgen.models.model import Model
from smidgen.models.vision import PLACE, Shown, embedded, seen

TINY = runpy.run_path(str(Path(__file__).parents[2] / "tiny_phi3v.py"))
CONFIG, EYES, TOWER_NAME, WIDTH, HIDDEN, BLOCKS = (
    TINY[name] for name in ("CONFIG", "EYES", "TOWER_NAME", "WIDTH", "HIDDEN", "BLOCKS")
)
published_weights, tokens_of_image = TINY["published_weights"], TINY["tokens_of_image"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, published_tokenizer: Any) -> Callable[..., Path]:
    """Writes a folder as published; keywords change the configuration, ``weights`` the weights."""

    def written(weights: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
        tokenizer = published_tokenizer("phi", CONFIG["vocab_size"], begins=True)
        found: Path = TINY["write"](tmp_path_factory.mktemp("phi3v") / "model", tokenizer, weights, **changes)
        return found

    return written


@pytest.fixture(scope="module")
def model(published: Any) -> Model:
    return read_folder(published(), torch.float32)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(numpy.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=numpy.uint8))


def asked(model: Model, *images: Image.Image, text: str = "What is it?") -> tuple[list[int], torch.Tensor]:
    """Return the prompt and the features of a question about images."""
    assert model.vision is not None
    pictures = model.vision.family.pictures(model.vision, images)
    shown = [Shown("user", (*pictures, text))]
    return model.vision.family.layout(model.vision, model.tokenizer, shown), seen(model, pictures)


@torch.no_grad()
def logits_of(model: Model, ids: list[int], features: torch.Tensor) -> torch.Tensor:
    return model.module(inputs_embeds=embedded(model, ids, features)).logits[0]


@pytest.mark.parametrize("size", [(50, 20), (20, 50), (40, 40)])
def test_an_image_becomes_the_tokens_of_the_second_implementation(model: Model, size: tuple[int, int]) -> None:
    vision = model.vision
    assert vision is not None
    picture = vision.family.picture(vision, noise(*size), count=2)
    found = seen(model, [picture])
    expected = torch.from_numpy(tokens_of_image(picture.pixels, picture.grid, published_weights())).float()
    assert found.shape == (picture.places, HIDDEN) == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    other = torch.from_numpy(tokens_of_image(picture.pixels, picture.grid, published_weights(), blocks=BLOCKS)).float()
    assert float((found - other).abs().max()) > 0.05  # the last block is not read


def test_the_logits_are_those_of_plain_phi3_on_what_the_second_implementation_sees(model: Model) -> None:
    vision, state = model.vision, published_weights()
    assert vision is not None
    names = ("vision_config", "img_processor", "embd_layer", "auto_map", "model_type", "architectures")
    given = {name: value for name, value in CONFIG.items() if name not in names}
    given["rope_scaling"] = CONFIG["rope_scaling"] | {"type": "longrope"}  # as it is called today
    plain = Phi3ForCausalLM(Phi3Config(**given)).eval()
    left = plain.load_state_dict({name: value for name, value in state.items() if not name.startswith(EYES)})
    assert not left.missing_keys and not left.unexpected_keys
    images = [noise(50, 20), noise(20, 50, 1)]
    pictures = vision.family.pictures(vision, images)
    ids, features = asked(model, *images)
    rows = [plain.model.embed_tokens(torch.tensor([max(0, number)]))[0] for number in ids]
    one, two = (tokens_of_image(picture.pixels, picture.grid, state) for picture in pictures)
    for place, row in zip([place for place, number in enumerate(ids) if number == PLACE], [*one, *two], strict=True):
        rows[place] = torch.from_numpy(row).float()
    with torch.no_grad():
        expected = plain(inputs_embeds=torch.stack(rows)[None]).logits[0]
    torch.testing.assert_close(logits_of(model, ids, features), expected, atol=1e-3, rtol=1e-3)


def test_published_files_are_read_whole_and_written_back_as_they_were(published: Any, tmp_path: Path) -> None:
    folder = published()
    model = read_folder(folder, torch.float32)
    assert model.parameter_count() == sum(value.numel() for value in published_weights().values())
    safetensors.write(model, tmp_path / "out", dtype="float32")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert written.keys() == published_weights().keys()
    for name, value in published_weights().items():
        assert torch.equal(written[name], value), name
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    changed = {"torch_dtype", "transformers_version", "dtype"}
    assert {name: config[name] for name in CONFIG if name not in changed} == {
        name: value for name, value in CONFIG.items() if name not in changed
    }
    again = read_folder(tmp_path / "out", torch.float32)
    ids, features = asked(model, noise(30, 40))
    assert asked(again, noise(30, 40))[0] == ids
    assert torch.equal(logits_of(again, ids, asked(again, noise(30, 40))[1]), logits_of(model, ids, features))


def test_an_embedding_under_its_second_name_is_taken_once(published: Any) -> None:
    weights = published_weights()
    second, old = f"{EYES}wte.weight", f"{TOWER_NAME}embeddings.position_ids"
    both = weights | {second: weights["model.embed_tokens.weight"].clone(), old: torch.arange(17)[None]}
    moved = {name: value for name, value in both.items() if name != "model.embed_tokens.weight"}
    for given in (both, moved):
        found = read_folder(published(given), torch.float32)
        assert torch.equal(found.weight("model.embed_tokens.weight"), weights["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    "name",
    [
        f"{EYES}glb_GN",
        f"{EYES}sub_GN",
        f"{EYES}img_projection.2.bias",
        f"{TOWER_NAME}pre_layrnorm.weight",
        "model.layers.1.self_attn.qkv_proj.weight",
    ],
)
def test_a_weight_that_is_missing_or_unknown_is_named(published: Any, name: str) -> None:
    weights = published_weights()
    with pytest.raises(DamagedFile, match="lack"):
        read_folder(published({key: value for key, value in weights.items() if key != name}), torch.float32)
    with pytest.raises(DamagedFile, match="beyond what is known"):
        read_folder(published(weights | {f"{name}_2": weights[name].clone()}), torch.float32)


def test_a_separator_of_another_width_is_named(published: Any) -> None:
    with pytest.raises(DamagedFile, match="glb_GN"):
        read_folder(published(published_weights() | {f"{EYES}glb_GN": torch.zeros(1, 1, WIDTH)}), torch.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_processor": {"layer_idx": -5}}, "3 blocks has no hidden state -5"),
        ({"img_processor": ["clip"]}, "'img_processor' is no object"),
        ({"vision_config": TINY["TOWER"] | {"image_size": 42}}, "do not go in twos into 42"),
        ({"vision_config": TINY["TOWER"] | {"num_attention_heads": 5}}, "5"),
        ({"rope_scaling": CONFIG["rope_scaling"] | {"short_factor": [1.0]}}, "short_factor"),
    ],
)
def test_configurations_that_cannot_be_are_refused(published: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DamagedFile, match=message):
        read_folder(published(**changes), torch.float32)


@pytest.mark.parametrize(
    ("entry", "changes", "message"),
    [
        ("embd_layer", {"hd_transform_order": "both"}, "hd_transform_order 'both'.*'sub_glb' or 'glb_sub'"),
        ("embd_layer", {"use_hd_transform": False}, "use_hd_transform False"),
        ("embd_layer", {"projection_cls": "linear"}, "projection_cls 'linear'"),
        ("img_processor", {"type_feature": "cls_patch"}, "type_feature 'cls_patch'"),
    ],
)
def test_what_is_not_known_of_the_eyes_is_refused(
    published: Any, entry: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Unsupported, match=message):
        read_folder(published(**{entry: CONFIG[entry] | changes}), torch.float32)


def test_the_other_order_puts_the_small_page_first(model: Model, published: Any) -> None:
    turned = read_folder(published(embd_layer=CONFIG["embd_layer"] | {"hd_transform_order": "glb_sub"}), torch.float32)
    large_first, small_first = asked(model, noise(50, 20))[1], asked(turned, noise(50, 20))[1]
    small = 2 * (2 + 1)  # two lines of two tokens and a separator
    large, between, last = large_first.split([len(large_first) - small - 1, 1, small])
    torch.testing.assert_close(small_first, torch.cat([last, between, large]))
    assert not torch.allclose(small_first, large_first, atol=1e-2)


def test_the_separators_are_seen(model: Model, published: Any) -> None:
    weights = published_weights()
    found = asked(model, noise(50, 20))[1]  # five tiles by two of four tokens each
    for name, lines in (("glb_GN", [44]), ("sub_GN", [10, 21, 32, 43, 47, 50])):
        blind = read_folder(
            published(weights | {f"{EYES}{name}": torch.zeros_like(weights[f"{EYES}{name}"])}), torch.float32
        )
        changed = (asked(blind, noise(50, 20))[1] - found).abs().amax(-1) > 1e-4
        assert changed.nonzero()[:, 0].tolist() == lines


def test_one_image_is_cut_finer_than_several(model: Model) -> None:
    vision = model.vision
    assert vision is not None
    alone = vision.family.pictures(vision, [noise(40, 40)])
    among = vision.family.pictures(vision, [noise(40, 40), noise(40, 30)])
    assert [picture.grid for picture in alone] == [(4, 4)]
    assert [picture.grid for picture in among] == [(2, 2), (2, 2)]
    assert [len(picture.pixels) for picture in (*alone, *among)] == [17, 5, 5]
    assert alone[0].places == 17 * 4 + 1 + 5 * 2 and among[0].places == 5 * 4 + 1 + 3 * 2


def test_every_image_stands_on_a_line_before_the_question(model: Model) -> None:
    vision, tokenizer = model.vision, model.tokenizer
    assert vision is not None
    pictures = vision.family.pictures(vision, [noise(40, 40), noise(50, 20)])
    begin = [1]
    expected = [
        *tokenizer("<|user|>\n").input_ids,
        *[PLACE] * pictures[0].places,
        *tokenizer("\n").input_ids,
        *[PLACE] * pictures[1].places,
        *tokenizer("\nHow do they differ?<|end|>\n<|assistant|>\n").input_ids,
    ]
    shown = [Shown("user", (*pictures, "How do they differ?"))]
    assert vision.family.layout(vision, tokenizer, shown) == expected
    # Each piece of text begins as a text does, as it was when the model was trained.
    assert [expected[0], expected[2 + pictures[0].places]] == begin * 2
    assert expected.count(1) == 3


def test_a_text_may_say_where_its_images_belong(model: Model) -> None:
    vision, tokenizer = model.vision, model.tokenizer
    assert vision is not None
    one, two = vision.family.pictures(vision, [noise(40, 40), noise(50, 20)])
    ids = vision.family.layout(vision, tokenizer, [Shown("user", (one, two, "Is <|image_1|> like <|image_2|>?"))])
    pieces = ("<|user|>\nIs ", " like ", "?<|end|>\n<|assistant|>\n")
    first, middle, last = (tokenizer(piece).input_ids for piece in pieces)
    assert ids == [*first, *[PLACE] * one.places, *middle, *[PLACE] * two.places, *last]
    with pytest.raises(InvalidInput, match="in order"):
        vision.family.layout(vision, tokenizer, [Shown("user", (one, two, "<|image_2|> or <|image_1|>?"))])


@pytest.mark.parametrize("text", ["What is <|image_2|>?", "<|image_1|> or <|image_1|>?", "<|image_0|>"])
def test_images_that_are_not_there_cannot_be_named(model: Model, text: str) -> None:
    vision = model.vision
    assert vision is not None
    picture = vision.family.picture(vision, noise(40, 40))
    for parts in ((picture, text), (text,)):
        with pytest.raises(InvalidInput, match=r"The texts name the images <\|image_\d\|>"):
            vision.family.layout(vision, model.tokenizer, [Shown("user", parts)])


def test_turns_follow_each_other_as_published(model: Model) -> None:
    vision, tokenizer = model.vision, model.tokenizer
    assert vision is not None
    said = (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"))
    turns = [Shown(role, (text,)) for role, text in said]
    text = "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nBye<|end|>\n"
    expected = tokenizer(f"{text}<|assistant|>\n").input_ids
    assert vision.family.layout(vision, tokenizer, turns) == expected
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    assert vision.family.layout(vision, bare, turns) == expected


def test_missing_places_are_refused(model: Model) -> None:
    ids, features = asked(model, noise(40, 40))
    with pytest.raises(InvalidInput, match="places for images"):
        embedded(model, [number for place, number in enumerate(ids) if place != ids.index(PLACE)], features)


def test_llama_cpp_has_no_place_for_its_eyes(model: Model, tmp_path: Path) -> None:
    for refused in (lambda: projector.require_writable(model), lambda: projector.write(model, tmp_path / "x.gguf")):
        with pytest.raises(Unsupported, match="the vision part of a Phi-3 vision"):
            refused()
    assert not list(tmp_path.iterdir())


def test_a_published_tower_has_304_million_weights() -> None:
    config = {name: value for name, value in CONFIG.items() if name != "vision_config"} | {"hidden_size": 3072}
    with torch.device("meta"):
        eyes = Phi3V().eyes(config, Phi3Config(hidden_size=3072))
    counts = {name: sum(value.numel() for value in part.parameters()) for name, part in eyes.named_children()}
    assert counts == {"img_processor": 303_507_456, "img_projection": 4096 * 3072 + 3072 + 3072 * 3072 + 3072}
    with torch.device("meta"):
        features = eyes(torch.zeros(1 + 12, 3, 336, 336), 3, 4)
    assert features.shape == (1921, 3072)
