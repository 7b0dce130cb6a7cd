"""What every number format of GGUF must keep, run on every such file of the room."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen import formats, registry
from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.formats._block import BlockFormat, Scales
from smidgen.formats._format import FloatFormat, NumberFormat

ALL = [each for each in map(formats.find, formats.names()) if each.ggml_type is not None]
BLOCKS = [each for each in ALL if isinstance(each, BlockFormat)]
each_format = pytest.mark.parametrize("number_format", ALL, ids=lambda each: each.name)
each_block = pytest.mark.parametrize("number_format", BLOCKS, ids=lambda each: each.name)


def oracle(number_format: NumberFormat, packed: torch.Tensor) -> torch.Tensor:
    with np.errstate(all="ignore"):  # bytes drawn at random hold scales that are not numbers
        values = gguf.quants.dequantize(packed.numpy(), gguf.GGMLQuantizationType(number_format.ggml_type))
    return torch.from_numpy(np.array(values, dtype=np.float32))


def random_weights(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator).mul_(0.05)


def test_the_room_holds_eighteen_formats_of_gguf():
    assert len(ALL) == 18
    assert len(BLOCKS) == 15


@each_format
def test_sizes_are_those_of_gguf(number_format):
    kind = gguf.GGMLQuantizationType(number_format.ggml_type)
    assert kind.name == number_format.name
    assert gguf.GGML_QUANT_SIZES[kind] == (number_format.block_size, number_format.type_size)
    assert formats.by_ggml_type(int(kind)) == number_format == formats.find(number_format.name.lower())


@each_format
def test_bits_per_weight_are_true(number_format):
    weights = random_weights(3, 512)
    packed = number_format.quantize(weights)
    assert packed.dtype == torch.uint8
    assert packed.numel() == number_format.bytes_for((3, 512))
    assert number_format.bits_per_weight == 8 * packed.numel() / weights.numel()


@each_format
def test_unpacking_is_bit_for_bit_what_gguf_reads(number_format):
    for seed, rows in ((1, 1), (2, 7), (3, 300)):
        packed = number_format.quantize(random_weights(rows, 512, seed))
        unpacked = number_format.unpack(packed)
        assert torch.equal(unpacked.view(torch.int32), oracle(number_format, packed).view(torch.int32))


@each_block
def test_any_bytes_are_read_as_gguf_reads_them_and_packed_again_unchanged(number_format):
    generator = np.random.default_rng(5)
    packed = torch.from_numpy(generator.integers(0, 256, (16, 2 * number_format.type_size), dtype=np.uint8))
    codes, scales = number_format.unpack_codes(packed)
    sound = torch.stack([part.isfinite().flatten(1).all(1) for part in (scales.scale, scales.minimum)]).all(0)
    assert sound.sum() >= 8
    assert torch.equal(number_format.unpack(packed)[sound], oracle(number_format, packed)[sound])
    again = number_format.pack(codes, scales)
    assert torch.equal(number_format.unpack(again)[sound], number_format.unpack(packed)[sound])
    assert torch.equal(number_format.pack(*number_format.unpack_codes(again)), again)
    if number_format.name != "TQ1_0":  # five digits of three values fill 243 of the 256 bytes
        assert torch.equal(again, packed)


@each_block
def test_packing_again_changes_nothing(number_format):
    packed = number_format.quantize(random_weights(40, 512))
    codes, scales = number_format.unpack_codes(packed)
    values = number_format.unpack(packed).reshape(40, -1, number_format.group_size)
    shape = (40, values.shape[1], 1)
    again = number_format.encode(values, scales.scale.reshape(shape), scales.minimum.reshape(shape))
    written = number_format.pack(again.reshape(codes.shape), scales)
    assert torch.equal(number_format.unpack(written), number_format.unpack(packed))


@each_block
def test_fit_encode_and_pack_block_by_block_equal_quantize(number_format):
    weights, importance = random_weights(20, 512), torch.rand(512, generator=torch.Generator().manual_seed(1))
    parts, coded = [], []
    for start in range(0, 512, number_format.block_size):
        here = slice(start, start + number_format.block_size)
        scales = number_format.fit(weights[:, here], importance[here])
        groups = number_format.block_size // number_format.group_size
        assert scales.scale.shape == scales.minimum.shape == (20, groups)
        grouped = weights[:, here].reshape(20, groups, -1)
        coded.append(number_format.encode(grouped, scales.scale[..., None], scales.minimum[..., None]).flatten(1))
        parts.append(scales)
    packed = number_format.pack(torch.stack(coded, 1), Scales.stack(parts))
    whole = number_format.quantize(weights, importance)
    assert torch.equal(whole, number_format.quantize(weights, importance.expand(20, -1)))
    blocks = (packed == whole).reshape(-1, number_format.type_size).all(1)
    assert blocks.float().mean() > 0.9  # sums over other numbers of columns may round otherwise and tip a tie
    harm = [((number_format.unpack(each) - weights).square() * importance).sum() for each in (packed, whole)]
    torch.testing.assert_close(*harm, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["q4_1", "q4_k"])
def test_bytes_do_not_depend_on_the_number_of_threads(name):
    weights, number_format = random_weights(300, 512), formats.find(name)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = number_format.quantize(weights)
        torch.set_num_threads(3)
        assert torch.equal(number_format.quantize(weights), alone)
    finally:
        torch.set_num_threads(before)


@each_block
def test_codes_are_the_nearest_levels(number_format):
    levels = torch.tensor(number_format.levels, dtype=torch.float32)
    assert len(set(number_format.levels)) >= len(levels) - 1, "only zero may stand twice"
    values = random_weights(5, 64) * 40
    scale, minimum = torch.full((5, 1), 0.05), torch.full((5, 1), 0.3)
    decoded = number_format.decode(number_format.encode(values, scale, minimum), scale, minimum)
    nearest = (values[..., None] - (0.05 * levels - 0.3)).abs().amin(-1)
    torch.testing.assert_close((values - decoded).abs(), nearest, atol=1e-5, rtol=0)
    assert number_format.encode(values, torch.zeros(5, 1), minimum).dtype == torch.uint8


def peculiar(columns: int) -> dict[str, torch.Tensor]:
    outlier = random_weights(1, columns)
    outlier[0, 3] = 1e4
    return {
        "zeros": torch.zeros(1, columns),
        "outlier": outlier,
        "constant": torch.full((1, columns), 0.1),
        "negative constant": torch.full((1, columns), -0.1),
        "negative": -random_weights(1, columns).abs() - 0.01,
        "positive": random_weights(1, columns).abs() + 0.01,
        "tiny": random_weights(1, columns) * 1e-6,
        "vanishing": random_weights(1, columns) * 1e-30,
        "one weight": torch.nn.functional.one_hot(torch.tensor([7]), columns).float(),
    }


@each_format
@pytest.mark.parametrize("case", list(peculiar(32)))
def test_peculiar_rows_stay_finite_and_near(number_format, case):
    weights = peculiar(256)[case]
    packed = number_format.quantize(weights)
    unpacked = number_format.unpack(packed)
    assert torch.equal(unpacked, oracle(number_format, packed))
    step = 0.01
    if isinstance(number_format, BlockFormat):
        levels = torch.tensor(sorted(number_format.levels))
        step = 1.2 * float(levels.diff().max() / levels.abs().max())
    largest = weights.abs().max().item()
    assert (unpacked - weights).abs().max().item() <= step * largest + 6e-8 * 16
    if case == "zeros":
        assert not unpacked.any()


@each_block
def test_weights_beyond_the_range_of_the_scales_stay_finite(number_format):
    weights = random_weights(2, 256)
    weights[1, 9] = 1e37
    assert bool(number_format.unpack(number_format.quantize(weights)).isfinite().all())


@each_format
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_a_number_is_refused_with_its_row(number_format, bad):
    weights = random_weights(5, 256)
    weights[3, 17] = bad
    with pytest.raises(InvalidInput, match="row 3, column 17"):
        number_format.quantize(weights)
    if isinstance(number_format, BlockFormat):
        with pytest.raises(InvalidInput, match="row 3"):
            number_format.fit(weights[:, : number_format.block_size])


@each_format
def test_rows_that_do_not_divide_into_blocks_are_refused(number_format):
    if isinstance(number_format, FloatFormat):
        assert number_format.fits(33)
        return
    assert number_format.fits(512) and not number_format.fits(513) and not number_format.fits(0)
    for attempt in (lambda: number_format.bytes_for((4, 513)), lambda: number_format.quantize(torch.zeros(4, 513))):
        with pytest.raises(Unsupported, match=str(number_format.block_size)):
            attempt()


@each_block
def test_damaged_bytes_and_bad_importance_are_refused(number_format):
    with pytest.raises(DamagedFile, match=number_format.name):
        number_format.unpack(torch.zeros(2, number_format.type_size + 1, dtype=torch.uint8))
    with pytest.raises(InvalidInput, match="shape"):
        number_format.quantize(torch.zeros(2, 256), torch.ones(255))
    with pytest.raises(InvalidInput, match="negative"):
        number_format.quantize(torch.zeros(2, 256), -torch.ones(256))
    with pytest.raises(InvalidInput, match=str(number_format.block_size)):
        number_format.fit(torch.zeros(2, 31))


@each_block
def test_importance_moves_the_error_to_where_it_counts_less(number_format):
    weights = random_weights(64, 256)
    importance = torch.where(torch.arange(256) % 4 == 0, 1.0, 0.001)

    def harm(packed: torch.Tensor) -> float:
        return float(((number_format.unpack(packed) - weights).square() * importance).sum())

    coarse = number_format.name in ("MXFP4", "TQ1_0")  # few scales to choose from, few levels to choose among
    bound = (0.98 if coarse else 0.9) * harm(number_format.quantize(weights))
    assert harm(number_format.quantize(weights, importance)) < bound
    nothing = number_format.quantize(weights, torch.zeros(256))
    assert torch.equal(nothing, number_format.quantize(weights))


@each_format
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 4),
    size=st.floats(1e-3, 1e3),
    shift=st.floats(-2, 2),
    power=st.sampled_from([1, 3]),
)
def test_error_is_no_more_than_that_of_all_zeros(number_format, seed, rows, size, shift, power):
    weights = (random_weights(rows, 256, seed) * 20 + shift) ** power
    weights = weights / weights.abs().max() * size
    packed = number_format.quantize(weights)
    unpacked = number_format.unpack(packed)
    assert torch.equal(unpacked, oracle(number_format, packed))
    allowed = 0.3 if number_format.bits_per_weight > 2.5 else 0.6
    assert (unpacked - weights).square().sum() < allowed * weights.square().sum()


def test_formats_are_found_without_loading_torch():
    import subprocess
    import sys

    script = (
        "import sys; from smidgen import formats; [formats.find(name) for name in formats.names()]; "
        "assert formats.by_ggml_type(12).name == 'Q4_K'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert registry.find("smidgen.formats", "q4_k").name == "Q4_K"
