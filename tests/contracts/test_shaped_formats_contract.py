"""What every number format without a place in GGUF must keep, run on every such file with several parameters."""

from __future__ import annotations

import pytest
import torch

from smidgen import formats
from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.shrink.quantize import solvers

SPELLED = {
    "binary": ("", "group=0", "residual=2", "residual=2,group=8", "group=32"),
    "fixed_point": ("", "bits=4,group=32", "bits=2"),
    "float4": ("", "group=0", "group=8"),
    "float8": ("", "kind=e5m2", "group=32"),
    "hierarchical": ("", "bits=4,group=0", "bits=3,group=8"),
    "integer": (
        "",
        "group=0,shared=true",
        "bits=4,group=32,symmetric=false,shared=true",
        "group=0",
        "bits=4,symmetric=false",
        "bits=3,group=32",
        "bits=2,group=8,symmetric=false",
    ),
    "kmeans": ("", "bits=3", "bits=1"),
    "table": ("", "values=e2m1,group=0", "values=iq4_nl,group=32"),
    "vector": (
        "",
        "codebook=learned,size=2,bits=6",
        "codebook=learned,size=4,bits=8",
        "codebook=learned,size=8,bits=8",
    ),
    "tiers": ("", "top=10,second=0,low=1", "group=8,middle=3"),
    "ternary": ("", "group=64", "group=8"),
}
ALL = [f"{name}:{given}".rstrip(":") for name, several in SPELLED.items() for given in several]
each_format = pytest.mark.parametrize("spelled", ALL)
SIZE = (12, 320)


def weights(seed: int = 0) -> torch.Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed)) * 0.05


def test_every_file_is_tried():
    shaped = [name for name in formats.names() if formats.find(name).ggml_type is None]
    assert sorted(SPELLED) == shaped and len(shaped) == 11


@each_format
def test_its_name_says_all_its_parameters(spelled):
    number_format = formats.find(spelled)
    assert formats.find(number_format.name) == number_format
    assert number_format.name.partition(":")[0] == spelled.partition(":")[0]


@each_format
def test_bytes_are_counted_truly(spelled):
    number_format = formats.find(spelled)
    packed = number_format.quantize(weights())
    assert packed.dtype == torch.uint8 and packed.shape[0] == SIZE[0]
    assert packed.numel() == number_format.bytes_for(SIZE)
    assert torch.equal(packed, number_format.quantize(weights())), "not repeatable"


@each_format
def test_rows_stand_for_themselves(spelled):
    number_format = formats.find(spelled)
    packed = number_format.quantize(weights())
    some = torch.tensor([7, 2, 7])
    values = number_format.unpack(packed)
    assert values.shape == SIZE and values.dtype == torch.float32 and bool(values.isfinite().all())
    own = number_format.for_matrix(packed)
    assert torch.equal(own.unpack(packed[some]), values[some])
    assert torch.equal(own.unpack(packed[3:4]), values[3:4])
    assert (own == number_format) == number_format.stands_alone or spelled.startswith("vector")
    inputs = torch.randn(9, SIZE[1], generator=torch.Generator().manual_seed(2))
    for tokens in (inputs[:1], inputs):
        product = formats.multiply(tokens, packed, number_format)
        torch.testing.assert_close(product, tokens @ values.T, atol=1e-4, rtol=1e-4)
    slopes = torch.randn(3, SIZE[0], generator=torch.Generator().manual_seed(3))
    back = formats.multiply_back(slopes, packed, number_format)
    torch.testing.assert_close(back, slopes @ values, atol=1e-4, rtol=1e-4)


@each_format
def test_compiled_loops_read_what_tensor_operations_read(spelled):
    number_format = formats.find(spelled).for_columns(SIZE[1])
    if isinstance(number_format, formats.BlockFormat):
        packed = number_format.quantize(weights())
        assert torch.equal(number_format.unpack(packed), formats.BlockFormat.unpack(number_format, packed))


@each_format
def test_the_error_is_what_so_many_bits_allow(spelled):
    number_format = formats.find(spelled)
    error = (number_format.unpack(number_format.quantize(weights())) - weights()).square().mean()
    bits = getattr(number_format, "bits", getattr(number_format, "code_bits", 4)) - (spelled.startswith("float8")) * 3
    if spelled.startswith("vector"):
        bits = 2 if number_format.codebook == "e8" else number_format.bits / number_format.size
    bits = 1.6 if spelled.startswith("ternary") else getattr(number_format, "low", bits)
    # One scale for a long row, or one that is a power of two, wastes up to a bit and a half.
    assert error < (3.2 if bits < 3 else 10) * 4.0**-bits * weights().square().mean()


@each_format
def test_what_is_stored_is_stored_again_unchanged(spelled):
    number_format = formats.find(spelled)
    values = number_format.unpack(number_format.quantize(weights()))
    again = number_format.unpack(number_format.quantize(values))
    # Tiers may rank anew what they rounded, and a codebook is learned anew.
    share = 1.0 if "learned" in spelled else 0.5 if spelled.startswith("tiers") else 0.03
    assert (again - values).square().mean() <= share * (values - weights()).square().mean() + 1e-12


@each_format
def test_importance_counts(spelled):
    if spelled.startswith("float8"):
        return  # every float is the nearest whatever the others are
    number_format, importance = formats.find(spelled), torch.where(torch.arange(SIZE[1]) % 4 == 0, 1.0, 1e-3)

    def harm(packed: torch.Tensor) -> float:
        return float(((number_format.unpack(packed) - weights()).square() * importance).sum())

    assert harm(number_format.quantize(weights(), importance)) < harm(number_format.quantize(weights()))


@each_format
@pytest.mark.parametrize("solver", ["gptq", "nearest"])
def test_solvers_take_it(spelled, solver):
    number_format = formats.find(spelled)
    inputs = torch.randn(900, 40, generator=torch.Generator().manual_seed(1)) @ torch.randn(40, SIZE[1])
    hessian = inputs.T @ inputs / 900 + torch.eye(SIZE[1])
    packed = solvers.find(solver).store(weights(), hessian, number_format)
    assert packed.numel() == number_format.bytes_for(SIZE)
    change = number_format.unpack(packed) - weights()
    assert float(((change @ hessian) * change).sum()) < float(((weights() @ hessian) * weights()).sum())


@each_format
@pytest.mark.parametrize("value", [0.0, 0.1, -0.1, 1e-30])
def test_constant_rows_stay_near(spelled, value):
    number_format = formats.find(spelled)
    row = torch.full((1, 320), value)
    unpacked = number_format.unpack(number_format.quantize(row))
    assert bool(((unpacked - row).abs() <= 0.34 * abs(value) + 1e-7).all())


@each_format
def test_bad_weights_and_rows_are_refused(spelled):
    number_format = formats.find(spelled)
    bad = weights()
    bad[3, 17] = float("nan")
    with pytest.raises(InvalidInput, match="row 3, column 17"):
        number_format.quantize(bad)
    with pytest.raises(InvalidInput, match="shape"):
        number_format.quantize(weights(), torch.ones(319))
    assert not number_format.fits(321)
    with pytest.raises(Unsupported):
        number_format.quantize(torch.zeros(2, 321))


@pytest.mark.parametrize("depth", range(2, 9))
def test_bit_planes_are_read_at_every_depth(depth):
    whole = formats.find("hierarchical")
    packed = whole.quantize(weights())
    shallow = whole.at(depth)
    error = (shallow.unpack(packed) - weights()).square().mean() / weights().square().mean()
    assert error < 3 * 4.0**-depth
    assert torch.equal(formats.find(f"hierarchical:depth={depth}").unpack(packed), shallow.unpack(packed))
    # What is not read cannot matter: the planes behind stand at the end of each group.
    unread = packed.reshape(12, 5, 66).clone()
    unread[..., 2 + depth * 8 :] = 0
    assert torch.equal(shallow.unpack(unread.flatten(1)), shallow.unpack(packed))


@pytest.mark.parametrize(
    "spelled", ["hierarchical", "hierarchical:bits=5,group=0", "tiers", "tiers:low=1,group=8", "tiers:top=0,second=50"]
)
def test_what_is_cut_off_is_what_is_not_read(spelled):
    whole = formats.find(spelled)
    packed = whole.quantize(weights())
    before, errors = packed.shape[1], []
    for depth in range(getattr(whole, "bits", 8), 1, -1):
        less, cut = whole.cut(packed, depth)
        assert cut.numel() == less.bytes_for(SIZE) and cut.shape[1] <= before
        assert formats.find(less.name) == less
        before, values = cut.shape[1], less.unpack(cut)
        if spelled.startswith("hierarchical"):
            assert torch.equal(values, whole.at(depth).unpack(packed))
        errors.append(float((values - weights()).square().mean()))
    assert errors == sorted(errors) and errors[-1] > 1.2 * errors[0]
    with pytest.raises(Unsupported, match="is read at 2 to"):
        whole.cut(packed, 1)
    with pytest.raises(Unsupported, match="whole or not at all"):
        formats.find("integer").cut(packed, 4)


def test_one_scale_serves_all_rows():
    shared, own = formats.find("integer:bits=4,group=0,shared=true"), formats.find("integer:bits=4,group=0")
    uneven = weights() * torch.logspace(-1, 1, SIZE[0])[:, None]
    packed = shared.quantize(uneven, torch.rand(SIZE, generator=torch.Generator().manual_seed(1)) + 0.1)
    assert (
        len(set(map(tuple, packed[:, :2].tolist()))) == 1 < len(set(map(tuple, own.quantize(uneven)[:, :2].tolist())))
    )
    worse = (shared.unpack(packed) - uneven).square().mean() / (
        own.unpack(own.quantize(uneven)) - uneven
    ).square().mean()
    assert 1 < worse < 200
    point = formats.find("fixed_point:bits=6,shared=true").quantize(uneven)
    assert len(set(point[:, 0].tolist())) == 1


def test_lattice_points_are_nearest_and_beat_single_weights():
    """Against every one of the 65,536 points, and against two bits each."""
    from smidgen.formats import _vectors

    e8, columns = formats.find("vector"), 64
    few = torch.randn(2, columns, generator=torch.Generator().manual_seed(5))
    importance = torch.rand(columns, generator=torch.Generator().manual_seed(6)) + 0.05
    packed = e8.quantize(few, importance)
    codes = packed.clone()
    codes = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(torch.uint8).reshape(-1, 16)
    scale = packed[:, :2].contiguous().view(torch.float16).float()
    ones = torch.tensor([1.0]).half().view(torch.uint8).expand(len(codes), 2)
    every = e8.unpack(torch.cat([ones, codes], 1)).reshape(-1, 8)
    assert len(every.unique(dim=0)) == 1 << 16
    assert ((every - 0.25).sum(1).remainder(2) == 0).any() and bool((every.square().sum(1) < 20).all())
    assert _vectors.magnitudes().shape == (256, 8)
    values = e8.unpack(packed)
    for row in range(2):
        for place in range(0, columns, 8):
            there = few[row, place : place + 8]
            reached = ((values[row, place : place + 8] - there).square() * importance[place : place + 8]).sum()
            best = ((every * scale[row] - there).square() * importance[place : place + 8]).sum(1).min()
            torch.testing.assert_close(reached, best, rtol=1e-3, atol=1e-6)
    many = torch.randn(32, 256, generator=torch.Generator().manual_seed(7))

    def error(spelled):
        number_format = formats.find(spelled)
        return float((number_format.unpack(number_format.quantize(many)) - many).square().mean())

    assert error("vector") < 0.1 < error("integer:bits=2")
    assert error("vector:codebook=learned,size=4,bits=8") < error("integer:bits=2")


def test_tiers_put_bits_where_they_count():
    generator = torch.Generator().manual_seed(2)
    importance = torch.exp(2 * torch.randn(SIZE[1], generator=generator))
    tiers = formats.find("tiers:group=8,top=10,second=30")
    units = (weights().square() * importance).reshape(SIZE[0], -1, 8).sum(-1)
    error = (tiers.unpack(tiers.quantize(weights(), importance)) - weights()).square().reshape(SIZE[0], -1, 8).mean(-1)
    first = units >= units.kthvalue(37, dim=1, keepdim=True).values
    assert error[first].mean() < 0.05 * error[~first].mean()


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("tiers:top=60,second=50", "percent"),
        ("integer:bits=9", "2, 3, 4"),
        ("integer:bits=four", "cannot be 'four'"),
        ("integer:symmetric=perhaps", "cannot be 'perhaps'"),
        ("integer:group=12", "multiple of 8"),
        ("table:values=nf5", "nf4"),
        ("binary:residual=3", "1, 2"),
        ("float8:kind=e3m4", "e5m2"),
    ],
)
def test_parameters_out_of_range_are_refused(spelled, message):
    with pytest.raises(InvalidInput, match=message):
        formats.find(spelled)


def test_unknown_parameters_name_the_known_ones():
    with pytest.raises(ReferenceNotFound, match="bits"):
        formats.find("integer:bit=4")
    with pytest.raises(ReferenceNotFound):
        formats.find("q4_0:bits=4")
