"""llama.cpp sees through a written projector what torch sees, where the image fits its tiles."""

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

from smidgen.errors import Unsupported
from smidgen.export import gguf, projector
from smidgen.inference import seeing
from smidgen.inference.engine import Message, open_engine
from smidgen.inference.llama_server import prompt_field
from smidgen.inference.options import GenerationOptions
from smidgen.inference.torch_library import TorchLibrary
from smidgen.models.checkpoint.gguf import read
from smidgen.models.files import projector_beside
from smidgen.models.load import read_folder, read_gguf
from smidgen.models.model import Model
from smidgen.models.vision import tower
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.quantize.quantize import Quantize

TINY = runpy.run_path(str(Path(__file__).parents[1] / "tiny_mississippi.py"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make each kind once: its folder and the model."""

    @cache
    def make(kind: str) -> tuple[Path, Model]:
        folder = tmp_path_factory.mktemp(kind) / "model"
        TINY["write"](folder, kind)
        return folder, read_folder(folder, torch.float32)

    return make


def noise(width: int, height: int) -> bytes:
    values = numpy.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=numpy.uint8)
    data = io.BytesIO()
    Image.fromarray(values).save(data, "PNG")
    return data.getvalue()


def written(model: Model, folder: Path) -> Path:
    gguf.write(model, folder / "model.gguf", float_format="float32")
    projector.write(model, projector_beside(folder / "model.gguf"), float_format="float32")
    return folder / "model.gguf"


def test_llama_cpp_gives_the_logits_of_torch(made: Any, tmp_path: Path) -> None:
    folder, model = made("llama")
    file, library = written(model, tmp_path), TorchLibrary(folder, 1)
    with open_engine(file, threads=1, context=256, projector=projector_beside(file)) as engine:
        for image in (None, noise(56, 56), noise(112, 56), noise(112, 168)):
            images = () if image is None else (image,)
            message = Message("user", "What is it?", images)
            ids = library.look(seeing.shown(library.model, [message]))
            (row,) = [rows[-1] for rows in library.session().read_all(ids, len(ids) - 1) if len(rows)]
            expected = torch.from_numpy(numpy.array(row)).log_softmax(-1)
            mark = f"{engine.image_mark}\n" if images else ""
            text = f"<|prompt|>{mark}What is it?<|end|><|answer|>"
            asked = {"prompt": prompt_field(text, images), "n_predict": 1, "n_probs": 10, "temperature": 0}
            answer = engine._client.post(f"{engine._server.address}/completion", json=asked).json()
            assert answer["tokens_evaluated"] == len(ids)
            for each in answer["completion_probabilities"][0]["top_logprobs"]:
                assert each["logprob"] == pytest.approx(float(expected[each["id"]]), abs=0.02)
            # The template that lies in the file lays the same out, without a token before it.
            (*_, last) = engine.chat([message], GenerationOptions(temperature=0, num_predict=1))
            assert last.metrics.prompt_tokens == len(ids)


def test_an_answer_refuses_system_messages_in_llama_cpp_too(made: Any) -> None:
    from jinja2 import TemplateError

    _, model = made("llama")
    tokenizer = model.tokenizer
    template = model.vision.family.gguf_layout()["tokenizer.chat_template"]
    said = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}, {"role": "user", "content": "C"}]
    text = tokenizer.apply_chat_template(said, chat_template=template, add_generation_prompt=True, tokenize=False)
    assert text == "<|prompt|>A<|end|><|answer|>B<|end|><|prompt|>C<|end|><|answer|>"
    with pytest.raises(TemplateError, match="questions and answers"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}], chat_template=template, tokenize=False)


def test_a_shrunk_model_goes_through_both_files(made: Any, tmp_path: Path) -> None:
    _, model = made("llama")
    windows = tower.windows(model, [Image.open(io.BytesIO(noise(112, 168))).convert("RGB")], 7)
    small = tower.put_back(model, Prune("neuron", "l2", keep=32).apply(tower.taken(model), windows))
    small = tower.put_back(small, Quantize(default="q8_0").apply(tower.taken(small), windows))
    small = Prune("width", "l2", keep=32).apply(small, torch.randint(3, 250, (2, 32)))
    file = written(small, tmp_path)
    stored = read(projector_beside(file))
    assert stored.metadata["clip.vision.feed_forward_length"] == 32
    assert stored.metadata["clip.vision.projection_dim"] == 32
    assert {stored.tensors[f"v.blk.0.{name}.weight"].format for name in ("attn_q", "ffn_up", "ffn_down")} == {"Q8_0"}
    assert read_gguf(file, torch.float32).anatomy.hidden_size == 32
    with open_engine(file, threads=1, context=256, projector=projector_beside(file)) as engine:
        (*_, last) = engine.chat(
            [Message("user", "What?", (noise(112, 56),))], GenerationOptions(temperature=0, num_predict=2)
        )
    assert last.metrics.prompt_tokens > 3 * TINY["PLACES"]


def test_what_llama_cpp_cannot_see_is_refused(made: Any, tmp_path: Path) -> None:
    _, double = made("mistral")
    with pytest.raises(Unsupported, match="looks at an image twice"):
        projector.write(double, tmp_path / "x.gguf")
    _, model = made("llama")
    windows = tower.windows(model, [Image.new("RGB", (56, 56))], 1)
    cut = tower.put_back(
        model, Prune("head", "l2", keep=3, whole_groups=True, repair=False).apply(tower.taken(model), windows)
    )
    with pytest.raises(Unsupported, match="heads that make up its width"):
        projector.require_writable(cut)
    with pytest.raises(Unsupported, match="no projector"):
        projector.write(read_gguf(written(model, tmp_path), torch.float32), tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()
