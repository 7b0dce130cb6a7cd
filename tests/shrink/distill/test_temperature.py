import pytest
import torch

from smidgen.errors import InvalidInput
from smidgen.shrink.distill.temperature import Temperature, for_entropy, mean_entropy

LOGITS = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)) * 4


def test_constant_and_annealed():
    assert [Temperature(2.0).at(step, 5) for step in range(5)] == [2.0] * 5
    assert [Temperature(3.0, 1.0).at(step, 3) for step in (0, 1, 2)] == [3.0, 2.0, 1.0]
    assert Temperature(3.0, 1.0).at(0, 1) == 3.0


@pytest.mark.parametrize("target", [0.3, 1.5, 3.5])
def test_the_entropy_is_reached(target):
    assert mean_entropy(LOGITS, for_entropy(LOGITS, target)) == pytest.approx(target, abs=1e-3)


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidInput, match=r"At temperature 1 it is"):
        for_entropy(LOGITS, 5.0)
    for wrong in (0.0, 1000.0, float("nan")):
        with pytest.raises(InvalidInput):
            Temperature(wrong)
    with pytest.raises(InvalidInput):
        Temperature(1.0, -1.0)
