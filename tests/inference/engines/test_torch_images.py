"""The torch engine answers with images as the second implementation of a tiny Mississippi does."""

from __future__ import annotations

import io
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from smidgen.errors import InvalidInput, Unsupported
from smidgen.export import packed
from smidgen.inference import seeing
from smidgen.inference.engine import Chunk, Message, open_engine
from smidgen.inference.llama_library import CHUNK
from smidgen.inference.options import GenerationOptions
from smidgen.inference.torch_library import TorchLibrary
from smidgen.models.load import read_folder
from smidgen.models.vision import PLACE, Picture, tiles
from smidgen.shrink.quantize.quantize import Quantize

TINY = runpy.run_path(str(Path(__file__).parents[2] / "tiny_mississippi.py"))
GREEDY = GenerationOptions(temperature=0, num_predict=6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def make(kind: str) -> tuple[Path, Any]:
        folder = tmp_path_factory.mktemp(kind) / "model"
        return folder, TINY["write"](folder, kind)

    return make


def picture(width: int, height: int, colour: int = 90) -> tuple[bytes, Image.Image]:
    image = Image.merge("RGB", [Image.effect_noise((width, height), colour) for _ in range(3)])
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue(), image


def told(chunks: Any) -> tuple[str, Chunk]:
    found = list(chunks)
    assert found[-1].done
    return "".join(chunk.text for chunk in found), found[-1]


@pytest.mark.parametrize("words", [4, 300])
def test_it_reads_what_the_second_implementation_reads(made: Any, words: int) -> None:
    folder, reference = made("llama")
    library = TorchLibrary(folder, 1)
    (small, _), (large, image) = picture(56, 56), picture(100, 60)
    # Of the longer text the images lie on both sides of where a chunk of the prompt ends.
    message = Message("user", "[img]" + "ab" * (words - 4) + "[img] cd?", (small, large))
    turns = seeing.shown(library.model, [message])
    ids = library.look(turns)
    (found,) = [rows[0] for rows in library.session().read_all(ids, len(ids) - 1) if len(rows)]
    pixels = torch.cat([part.pixels for part in turns[0].parts if isinstance(part, Picture)])
    grid = tiles.nearest(image.size, tiles.grids(1, 6), TINY["SIDE"])
    torch.testing.assert_close(pixels[1:], tiles.pixels(tiles.cut(image, grid, TINY["SIDE"])))
    assert (len(ids) > CHUNK) == (words > 4) and ids.count(PLACE) == len(pixels) * TINY["PLACES"]
    spelled = torch.tensor([[TINY["SPECIAL"]["<IMG_CONTEXT>"] if number == PLACE else number for number in ids]])
    expected = reference(spelled, pixels)[0, -1]
    torch.testing.assert_close(torch.from_numpy(numpy.array(found)), expected, atol=1e-4, rtol=1e-4)


def test_images_change_the_answer(made: Any) -> None:
    folder, _ = made("llama")
    answers = set()
    with open_engine(folder, threads=1) as engine:
        assert engine.sees
        for images in ((), (picture(56, 56)[0],), (picture(100, 60)[0],)):
            text, last = told(engine.chat([Message("user", "What is it?", images)], GREEDY))
            assert last.metrics.generated_tokens <= 6
            answers.add(text)
    assert len(answers) == 3


def test_images_stand_where_the_text_says(made: Any) -> None:
    folder, _ = made("mistral")
    (one, _), (two, _) = picture(56, 56), picture(56, 56, 10)
    with open_engine(folder, threads=1) as engine:
        asked = [Message("user", "Is [img] like [img]?", (one, two)), Message("assistant", "No."), Message("user", "?")]
        first = told(engine.chat(asked, GREEDY))
        assert first[0] == told(engine.chat(asked, GREEDY))[0]
        assert first[1].metrics.prompt_tokens == len(engine._library.look(seeing.shown(engine._library.model, asked)))


def test_places_are_no_tokens_that_penalties_punish(made: Any) -> None:
    folder, _ = made("llama")
    data, _ = picture(56, 56)
    options = GenerationOptions(temperature=0, num_predict=3, repeat_penalty=1.5, repeat_last_n=-1)
    with open_engine(folder, threads=1) as engine:
        assert told(engine.chat([Message("user", "A", (data,))], options))[1].metrics.generated_tokens == 3


def test_a_message_of_images_alone_is_read_out(made: Any) -> None:
    folder, _ = made("llama")
    data, _ = picture(56, 56)
    with open_engine(folder, threads=1) as engine:
        (turn,) = seeing.shown(engine._library.model, [Message("user", " ", (data,))])
        assert turn.parts[1] == "Read the text in the image."
        alone = told(engine.chat([Message("user", "", (data,))], GREEDY))[0]
        assert alone == told(engine.chat([Message("user", turn.parts[1], (data,))], GREEDY))[0]


def test_a_reading_that_is_only_white_space_ends() -> None:
    def answer(pieces: list[str]) -> Any:
        for piece in pieces:
            yield Chunk(piece)
        yield Chunk("", True, "length")

    spaces = ["a", *["\n", " "] * 200]
    text, last = told(seeing.ended_by_spaces(answer(spaces), 7))
    assert text == "a" + "\n " * 15 and (last.reason, last.metrics.prompt_tokens) == ("stop", 7)
    lines = ["a", *["\n"] * 29] * 3
    assert told(seeing.ended_by_spaces(answer(lines), 7)) == ("".join(lines), Chunk("", True, "length"))


def test_what_cannot_be_is_refused(made: Any, tmp_path: Path) -> None:
    folder, _ = made("llama")
    data, _ = picture(56, 56)
    with open_engine(folder, threads=1, context=20) as engine:
        with pytest.raises(InvalidInput, match="context holds 20"):
            told(engine.chat([Message("user", "What?", (data, data, data, data))], GREEDY))
        with pytest.raises(InvalidInput, match="role 'system'"):
            told(engine.chat([Message("system", "Be short."), Message("user", "What?", (data,))], GREEDY))
        with pytest.raises(InvalidInput, match="an image cannot be read"):
            told(engine.chat([Message("user", "What?", (b"no image",))], GREEDY))
        with pytest.raises(Unsupported, match="in conversations only"):
            told(engine.complete("What?", GREEDY, [data]))


def test_packed_matrices_answer_with_images(made: Any, tmp_path: Path) -> None:
    folder, _ = made("llama")
    model = read_folder(folder, torch.float32)
    ids = torch.randint(3, 90, (2, 32), generator=torch.Generator().manual_seed(0))
    packed.write(Quantize(default="integer:bits=8,group=16", solver="nearest").apply(model, ids), tmp_path / "small")
    data, _ = picture(100, 60)
    asked = [Message("user", "What is it?", (data,))]
    with open_engine(tmp_path / "small", threads=1) as small, open_engine(folder, threads=1) as whole:
        assert small.sees
        assert told(small.chat(asked, GREEDY))[0][:2] == told(whole.chat(asked, GREEDY))[0][:2]
