from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from smidgen import formats
from smidgen.data.rows import Corpus, Row
from smidgen.models.model import Model, PackedTensor


@pytest.fixture(autouse=True)
def plain_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smidgen.shrink.precision._fast_bfloat16", lambda: False)


@pytest.fixture(scope="session")
def chatty(tiny_model: Callable[..., Model], published_tokenizer: Callable[..., Any]) -> Callable[..., Model]:
    """Builds tiny models whose tokenizer has a chat template: ``chatty("qwen2", hidden_size=32)``."""

    def build(family: str = "llama", **changes: Any) -> Model:
        values = {"initializer_range": 0.08, **changes}
        return replace(tiny_model(family, **values), tokenizer=published_tokenizer("smollm", 400))

    return build


@pytest.fixture(scope="session")
def lessons() -> tuple[Corpus, Corpus]:
    """Texts with labels, which a tiny model learns in a few steps: what is trained on and what is held out."""

    def rows(numbers: range) -> tuple[Row, ...]:
        return tuple(
            Row(f"{n} {'win cash' if n % 2 else 'see you'}", label="spam" if n % 2 else "ham") for n in numbers
        )

    return Corpus("trained", rows(range(40))), Corpus("held out", rows(range(100, 112)))


@pytest.fixture(scope="session")
def quantized() -> Callable[..., Model]:
    """Stores every matrix of a model in a block format: ``quantized(model, "q8_0")``."""

    def store(model: Model, name: str = "q8_0") -> Model:
        result, packed, number_format = model.clone(), {}, formats.find(name)
        for matrix in model.anatomy.matrices():
            weight = result.weight(matrix).detach()
            data = number_format.quantize(weight.float())
            weight.copy_(number_format.unpack(data))
            packed[matrix] = PackedTensor(name, data, (weight.shape[0], weight.shape[1]))
        return replace(result, packed=packed)

    return store
