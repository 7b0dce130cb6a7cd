"""Products with matrices that stay packed: a slice of rows is unpacked, used, and overwritten by the next one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.compiled import Array
    from smidgen.formats._format import NumberFormat

CACHED, WIDE = 1 << 16, 1 << 20
"""Weights unpacked at once where few tokens are multiplied, so that they stay in the cache, and where many are."""
FEW = 6
"""Tokens up to which the compiled product is faster than the library's on an unpacked slice."""


def unpack(loop: Callable[[Array, Array], None], packed: Tensor, columns: int) -> Tensor:
    """Run a compiled loop over all rows, on the threads that torch may use.

    Args:
        loop: What `NumberFormat.loop` returned.
        packed: uint8 [rows, bytes per row], on any device.
        columns: Weights per row.

    Returns:
        float32 [rows, columns] on the same device.
    """
    import torch

    from smidgen.compiled import in_slices

    source, found = packed.cpu().numpy(), torch.empty(len(packed), columns)
    out = found.numpy()
    step = max(1, WIDE // max(1, columns))
    in_slices(lambda rows: loop(source[rows], out[rows]), len(packed), step, torch.get_num_threads())
    return found.to(packed.device)


def multiply(inputs: Tensor, packed: Tensor, number_format: NumberFormat) -> Tensor:
    """Return ``x Wᵀ`` for a packed W, of which no more than a slice of rows is ever floats.

    Args:
        inputs: x, any float type, [..., columns].
        packed: uint8 [rows, bytes per row].
        number_format: What the bytes are.

    Returns:
        [..., rows] in the inputs' type.

    Example:
        >>> import torch
        >>> from smidgen import formats
        >>> integer = formats.find("integer:group=8")
        >>> packed = integer.quantize(torch.arange(-4.0, 4.0)[None])
        >>> multiply(torch.ones(1, 8), packed, integer).round().tolist()
        [[-4.0]]
    """
    import torch
    from torch.nn.functional import linear

    flat = inputs.reshape(-1, inputs.shape[-1])
    own = number_format.for_matrix(packed).for_columns(inputs.shape[-1])
    loop = own.loop() if packed.device.type == "cpu" and len(flat) <= FEW else None
    if loop is not None and len(flat):
        out = _few(flat.detach().float().contiguous(), packed, loop).to(inputs.dtype)
    else:
        out = torch.empty(len(flat), len(packed), dtype=inputs.dtype, device=inputs.device)
        step = max(1, WIDE // inputs.shape[-1])
        for start in range(0, len(packed), step):
            part = own.unpack(packed[start : start + step])
            out[:, start : start + step] = linear(flat, part.to(inputs.dtype))
    return out.reshape(*inputs.shape[:-1], len(packed))


def multiply_back(slopes: Tensor, packed: Tensor, number_format: NumberFormat) -> Tensor:
    """Return ``y W`` for a packed W [rows, columns] and y [..., rows], what `multiply` sends back to its inputs.

    Example:
        >>> import torch
        >>> from smidgen import formats
        >>> integer = formats.find("integer:group=8")
        >>> packed = integer.quantize(torch.arange(-4.0, 4.0)[None])
        >>> multiply_back(torch.ones(2, 1), packed, integer).round().tolist()[1]
        [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    """
    flat, parts = slopes.reshape(-1, slopes.shape[-1]), []
    own = number_format.for_matrix(packed)
    step = max(1, WIDE // max(1, packed.shape[1]))
    for start in range(0, len(packed), step):
        part = own.unpack(packed[start : start + step]).to(flat.dtype)
        parts.append(flat[:, start : start + step] @ part)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total.reshape(*slopes.shape[:-1], total.shape[-1])


def _few(inputs: Tensor, packed: Tensor, loop: Callable[[Array, Array], None]) -> Tensor:
    """Multiply a few tokens [tokens, columns] while the unpacked rows are in the cache."""
    import numpy as np
    import torch

    from smidgen.formats._loops import products

    source, tokens = packed.numpy(), inputs.numpy()
    found = torch.empty(len(inputs), len(packed))
    out, columns = found.numpy(), inputs.shape[1]
    step = max(1, CACHED // columns)

    def work(begin: int, end: int) -> None:
        room = np.empty((min(step, end - begin), columns), np.float32)
        for start in range(begin, end, step):
            stop = min(start + step, end)
            loop(source[start:stop], room[: stop - start])
            products(room[: stop - start], tokens, out[:, start:stop])

    threads = min(torch.get_num_threads(), -(-len(packed) // step))
    share = -(-len(packed) // threads)
    parts = [(start, min(start + share, len(packed))) for start in range(0, len(packed), share)]
    if len(parts) == 1:
        work(*parts[0])
    else:
        list(_pool(threads).map(work, *zip(*parts, strict=True)))
    return found


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads that stay, since starting them takes longer than a small product."""
    return ThreadPoolExecutor(threads, thread_name_prefix="smidgen-multiply")
