"""The torch engine answers with images as transformers' Phi-3 does on what the second implementation sees."""

from __future__ import annotations

import io
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from transformers import Phi3Config, Phi3ForCausalLM

from smidgen.inference import seeing
from smidgen.inference.engine import Message, open_engine
from smidgen.inference.llama_library import CHUNK
from smidgen.inference.options import GenerationOptions
from smidgen.inference.torch_library import TorchLibrary
from smidgen.models.families import _phi3v_images as images

TINY = runpy.run_path(str(Path(__file__).parents[2] / "tiny_phi3v.py"))
CONFIG, EYES, SIDE = TINY["CONFIG"], TINY["EYES"], TINY["SIDE"]
GREEDY = GenerationOptions(temperature=0, num_predict=6, repeat_penalty=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, published_tokenizer: Any) -> Path:
    tokenizer = published_tokenizer("phi", 512, begins=True)
    found: Path = TINY["write"](tmp_path_factory.mktemp("phi3v") / "model", tokenizer)
    return found


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(numpy.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=numpy.uint8))


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


@torch.no_grad()
def expected(shown: Sequence[Image.Image], question: str, tokenizer: Any, written: Sequence[int]) -> torch.Tensor:
    """Return the logits of what follows, after the prompt and after each token written; each reads all anew."""
    names = ("vision_config", "img_processor", "embd_layer", "auto_map", "model_type", "architectures")
    given = {name: value for name, value in CONFIG.items() if name not in names}
    given["rope_scaling"] = CONFIG["rope_scaling"] | {"type": "longrope"}
    state = TINY["published_weights"]()
    plain = Phi3ForCausalLM(Phi3Config(**given)).eval()
    plain.load_state_dict({name: value for name, value in state.items() if not name.startswith(EYES)})
    parts, most = [tokenizer("<|user|>\n").input_ids], 16 if len(shown) == 1 else 4
    rows = []
    for number, image in enumerate(shown):
        found = images.layout(image.width, image.height, most, SIDE)
        grid = (found.columns, found.rows)
        seen = TINY["tokens_of_image"](images.tiles(image, most, SIDE), grid, state)
        last = number == len(shown) - 1
        text = f"\n{question}<|end|>\n<|assistant|>\n" if last else "\n"
        rows += [embedded(plain, parts.pop()), torch.from_numpy(seen).float()]
        parts.append(tokenizer(text).input_ids)
    stream = torch.cat([*rows, embedded(plain, parts.pop())])
    ends = [len(stream) + number for number in range(len(written) + 1)]
    whole = torch.cat([stream, embedded(plain, list(written))])
    return torch.stack([plain(inputs_embeds=whole[None, :end]).logits[0, -1] for end in ends])


def embedded(plain: Any, ids: list[int]) -> torch.Tensor:
    rows: torch.Tensor = plain.model.embed_tokens(torch.tensor(ids))
    return rows


@pytest.mark.parametrize("count", [1, 2, 24])
def test_it_reads_what_the_second_implementation_reads(folder: Path, count: int) -> None:
    shown = [noise(40, 30 + 10 * (number % 3), number) for number in range(count)]
    library, written = TorchLibrary(folder, 1), [40, 50, 60]
    ids = library.look(seeing.shown(library.model, [Message("user", "What is it?", tuple(map(png, shown)))]))
    found = [rows[-1] for rows in library.read_all(ids, len(ids) - 1) if len(rows)]
    found += [library.read([token], len(ids) + number, 0)[-1] for number, token in enumerate(written)]
    logits = torch.from_numpy(numpy.array(found))
    torch.testing.assert_close(logits, expected(shown, "What is it?", library.tokenizer, written), atol=1e-3, rtol=1e-3)
    # Beyond 600 tokens all are rotated by other factors, those too that were read in an earlier chunk.
    assert (len(ids) > CONFIG["original_max_position_embeddings"] > CHUNK) == (count == 24)


def test_an_answer_that_grows_beyond_where_the_rope_turns_is_read_anew(folder: Path) -> None:
    library, turns = TorchLibrary(folder, 1), CONFIG["original_max_position_embeddings"]
    ids = torch.randint(3, 400, (turns + 3,), generator=torch.Generator().manual_seed(1)).tolist()
    for _ in library.read_all(ids[: turns - 2], turns - 3):
        pass
    found = [library.next_row(ids[:count]) for count in range(turns - 1, turns + 4)]
    with torch.no_grad():
        expected = [
            library.model.module(torch.tensor([ids[:count]])).logits[0, -1] for count in range(turns - 1, turns + 4)
        ]
    torch.testing.assert_close(torch.from_numpy(numpy.array(found)), torch.stack(expected), atol=1e-3, rtol=1e-3)


def test_images_change_the_answer(folder: Path) -> None:
    answers = set()
    with open_engine(folder, threads=1) as engine:
        assert engine.sees
        for shown in ((), (noise(40, 40),), (noise(40, 40), noise(50, 20, 1))):
            chunks = list(engine.chat([Message("user", "What is it?", tuple(map(png, shown)))], GREEDY))
            answers.add("".join(chunk.text for chunk in chunks))
            assert chunks[-1].metrics.generated_tokens == 6
    assert len(answers) == 3
