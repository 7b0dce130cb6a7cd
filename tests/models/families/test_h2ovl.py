"""Mississippi's checkpoints, tokens and prompts, against a second implementation of tests/tiny_mississippi.py."""

from __future__ import annotations

import json
import runpy
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import InternVLForConditionalGeneration

from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.export import safetensors
from smidgen.models.load import read_folder
from smidgen.models.model import Model
from smidgen.models.vision import PLACE, Shown, embedded, seen

TINY = runpy.run_path(str(Path(__file__).parents[2] / "tiny_mississippi.py"))
PLACES, SPECIAL = TINY["PLACES"], TINY["SPECIAL"]
both = pytest.mark.parametrize("kind", ["llama", "mistral"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make each kind once: its folder, the second implementation, the model as it is read."""

    @cache
    def make(kind: str) -> tuple[Path, Any, Model]:
        folder = tmp_path_factory.mktemp(kind) / "model"
        reference = TINY["write"](folder, kind)
        return folder, reference, read_folder(folder, torch.float32)

    return make


def noise(width: int, height: int) -> Image.Image:
    return Image.merge("RGB", [Image.effect_noise((width, height), 90) for _ in range(3)])


def asked(model: Model, *images: Image.Image, question: str = "What is it?") -> tuple[list[int], Any]:
    """Lay a question out; returns its tokens and the pixels of all images."""
    vision = model.vision
    assert vision is not None
    pictures = vision.family.pictures(vision, images)
    ids = vision.family.layout(vision, model.tokenizer, [Shown("user", (*pictures, question))])
    return ids, pictures


@torch.no_grad()
def logits_of(model: Model, ids: list[int], pictures: Any) -> torch.Tensor:
    return model.module(inputs_embeds=embedded(model, ids, seen(model, pictures))).logits


def spelled(ids: list[int]) -> torch.Tensor:
    return torch.tensor([[SPECIAL["<IMG_CONTEXT>"] if number == PLACE else number for number in ids]])


@both
def test_published_files_give_the_logits_of_the_second_implementation(made: Any, kind: str) -> None:
    _, reference, model = made(kind)
    assert type(model.module).__name__.lower() == f"{kind}forcausallm"
    for images in ([noise(100, 60)], [noise(56, 56), noise(60, 130)]):
        ids, pictures = asked(model, *images)
        pixels = torch.cat([picture.pixels for picture in pictures])
        torch.testing.assert_close(seen(model, pictures), reference.features(pixels), atol=1e-5, rtol=1e-5)
        expected = reference(spelled(ids), pixels)
        torch.testing.assert_close(logits_of(model, ids, pictures), expected, atol=1e-4, rtol=1e-4)


@both
@torch.no_grad()
def test_transformers_own_internvl_gives_them_too(made: Any, kind: str) -> None:
    _, reference, model = made(kind)
    ids, (picture,) = asked(model, noise(100, 60))
    whole = model.vision.family.native(model)
    assert isinstance(whole, InternVLForConditionalGeneration)
    whole.config.image_token_id = SPECIAL["<IMG_CONTEXT>"]
    found = whole(input_ids=spelled(ids), pixel_values=picture.pixels).logits
    torch.testing.assert_close(found, reference(spelled(ids), picture.pixels), atol=1e-4, rtol=1e-4)
    assert whole.lm_head.weight is model.module.lm_head.weight


@both
def test_it_is_written_as_it_was_published(made: Any, kind: str, tmp_path: Path) -> None:
    folder, reference, model = made(kind)
    safetensors.write(model, tmp_path / "again", dtype="float32")
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert set(before) == set(after) == set(reference.state_dict())
    assert all(torch.equal(before[name], after[name]) for name in before)
    old, new = (json.loads((place / "config.json").read_text()) for place in (folder, tmp_path / "again"))
    assert {name: new[name] for name in old if name not in ("llm_config", "torch_dtype")} == {
        name: value for name, value in old.items() if name not in ("llm_config", "torch_dtype")
    }
    assert new["llm_config"]["rope_theta"] == TINY["TEXTS"][kind][2]
    again = read_folder(tmp_path / "again", torch.float32)
    assert again.config.rope_parameters["rope_theta"] == TINY["TEXTS"][kind][2]
    assert again.parameter_count() == sum(value.numel() for value in reference.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("vision_model.encoder.layers.1.ls2"), r"lack 1 tensors.*layer\.1\.lambda_2"),
        (lambda state: state.pop("language_model.model.layers.1.mlp.up_proj.weight"), r"lack.*layers\.1\.mlp\.up_proj"),
        (lambda state: state.update({"vision_model.extra": torch.zeros(2)}), r"beyond what is known.*extra"),
        (lambda state: state.update({"language_model.more": torch.zeros(2)}), r"beyond what is known.*'more'"),
        (lambda state: state.update({"mlp1.1.bias": torch.zeros(3)}), r"do not fit"),
    ],
)
def test_missing_and_unexpected_weights_are_named(made: Any, tmp_path: Path, change: Any, message: str) -> None:
    folder, *_ = made("llama")
    shutil.copytree(folder, tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model" / "model.safetensors")
    with pytest.raises(DamagedFile, match=message):
        read_folder(tmp_path / "model", torch.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"ps_version": "v1"}, Unsupported, "ps_version 'v1'"),
        ({"select_layer": -4}, Unsupported, "select_layer -4"),
        ({"llm_config": {"model_type": "internlm2"}}, Unsupported, "'internlm2'.*\n?.*Llama, Mistral"),
        ({"llm_config": None}, DamagedFile, "no entry 'llm_config'"),
        ({"vision_config": 3}, DamagedFile, "no entry 'vision_config'"),
    ],
)
def test_configurations_that_cannot_be_are_refused(
    made: Any, tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    folder, *_ = made("llama")
    shutil.copytree(folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=message) as caught:
        read_folder(tmp_path / "model", torch.float32)
    assert "Traceback" not in str(caught.value)


def test_the_prompt_is_as_published_and_nothing_stands_before_it(made: Any) -> None:
    _, _, model = made("llama")
    tokenizer = model.tokenizer
    assert tokenizer("x").input_ids[0] == 1  # left alone it would put a token there
    ids, (picture,) = asked(model, noise(56, 56), question="What?")
    assert picture.places == PLACES and len(picture.pixels) == 1
    text = f"<|prompt|><img>{'<IMG_CONTEXT>' * PLACES}</img>\nWhat?<|end|><|answer|>"
    assert spelled(ids)[0].tolist() == tokenizer(text, add_special_tokens=False).input_ids
    assert ids[:2] == [SPECIAL["<|prompt|>"], SPECIAL["<img>"]] and ids[-1] == SPECIAL["<|answer|>"]
    assert ids[2 : 2 + PLACES] == [PLACE] * PLACES and ids.count(PLACE) == PLACES


def test_turns_follow_each_other_and_system_messages_are_refused(made: Any) -> None:
    _, _, model = made("llama")
    vision = model.vision
    said = [Shown("user", ("A",)), Shown("assistant", ("B",)), Shown("user", ("C",))]
    ids = vision.family.layout(vision, model.tokenizer, said)
    expected = "<|prompt|>A<|end|><|answer|>B<|end|><|prompt|>C<|end|><|answer|>"
    assert ids == model.tokenizer(expected, add_special_tokens=False).input_ids
    with pytest.raises(InvalidInput, match="no message of the role 'system'") as caught:
        vision.family.layout(vision, model.tokenizer, [Shown("system", ("Be short.",)), *said])
    assert "question" in str(caught.value.remedy)


def test_a_begin_token_a_lost_tile_and_another_layout_change_the_answer(made: Any) -> None:
    """What gives fluent nonsense with the real models is told apart by the scores of the tiny one."""
    _, _, model = made("llama")
    ids, pictures = asked(model, noise(100, 60))
    last = logits_of(model, ids, pictures)[0, -1]
    thumbnail = [replace(pictures[0], pixels=pictures[0].pixels[-1:], places=PLACES)]
    short = [*ids[:2], *[PLACE] * PLACES, *ids[2 + pictures[0].places :]]
    wrong = {
        "begun": logits_of(model, [1, *ids], pictures),
        "without the answer's mark": logits_of(model, ids[:-1], pictures),
        "without the question's mark": logits_of(model, ids[1:], pictures),
        "one tile": logits_of(model, short, thumbnail),
    }
    assert {kind: bool((found[0, -1] - last).abs().max() > 0.01) for kind, found in wrong.items()} == dict.fromkeys(
        wrong, True
    )
    with pytest.raises(InvalidInput, match=f"has {PLACES} places for images, which take {pictures[0].places}"):
        logits_of(model, short, pictures)


def test_a_text_cannot_claim_places(made: Any) -> None:
    _, _, model = made("llama")
    vision = model.vision
    with pytest.raises(InvalidInput, match="<IMG_CONTEXT>"):
        vision.family.layout(vision, model.tokenizer, [Shown("user", ("See <IMG_CONTEXT>",))])


def test_answers_end_at_both_ends(made: Any) -> None:
    _, _, model = made("llama")
    assert model.vision.family.end_tokens(model.vision, model.tokenizer) == {2, SPECIAL["<|end|>"]}


@pytest.mark.parametrize(
    ("size", "one", "two"),
    [((448, 448), 1, 5), ((800, 800), 5, 5), ((1240, 1754), 7, 13), ((1754, 1240), 7, 13)],
)
def test_as_many_tiles_as_published(made: Any, size: tuple[int, int], one: int, two: int) -> None:
    scaled = (size[0] // 8, size[1] // 8)  # tiles of 56 pixels stand for those of 448
    for kind, count in (("llama", one), ("mistral", two)):
        vision = made(kind)[2].vision
        picture = vision.family.picture(vision, noise(*scaled))
        assert (len(picture.pixels), picture.places) == (count, count * PLACES)


def test_several_images_are_looked_at_once_each(made: Any) -> None:
    vision = made("mistral")[2].vision
    images = [noise(155, 219), noise(56, 56)]
    assert [len(picture.pixels) for picture in vision.family.pictures(vision, images)] == [7, 1]
    assert len(vision.family.picture(vision, images[0]).pixels) == 13
