"""Arithmetic runs in the type the machine is fast in, and sums leave it."""

import pytest
import torch

from smidgen import machine
from smidgen.shrink import precision


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_products_run_in_the_type_that_is_fast(monkeypatch, fast, dtype):
    monkeypatch.setattr(precision, "_fast_bfloat16", lambda: fast)
    ones = torch.ones(4, 4)
    with precision.autocast():
        assert (ones @ ones).dtype == dtype
        with precision.exact():
            assert (ones @ ones).dtype == torch.float32
        assert (ones @ ones).dtype == dtype
    assert (ones @ ones).dtype == torch.float32
    assert precision.working_type() == dtype


def test_the_machine_decides():
    expected = torch.bfloat16 if machine.inspect().fast_bfloat16 else torch.float32
    assert precision.working_type() == expected
