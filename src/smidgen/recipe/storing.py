"""Which format each matrix is stored in, for the one step of storing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from smidgen.errors import BudgetNotMet, InvalidInput
from smidgen.models.model import Model
from smidgen.progress import Progress
from smidgen.recipe.materials import Materials

if TYPE_CHECKING:
    from smidgen.recipe.planner import Probed

COARSE_BITS, FINE_FORMAT = 3, "q8_0"
"""In formats of fewer bits per weight embedding and head are not stored unless it is asked for, but in this one."""


def block_format(name: str) -> str:
    """Return the name of a number format that stores matrices in fewer bits.

    Raises:
        ReferenceNotFound: There is no such format.
        InvalidInput: A parameter of it is out of range.

    Example:
        >>> block_format("Q4_K"), block_format("integer:bits=4,group=64")
        ('q4_k', 'integer:bits=4')
    """
    from smidgen import formats
    from smidgen.errors import ReferenceNotFound
    from smidgen.shrink.quantize.allocate import block_formats

    known = {formats.find(each).name: each for each in block_formats()}
    try:
        found = formats.find(name)
    except ReferenceNotFound:
        if ":" in name:
            raise
        raise ReferenceNotFound.among("block format", name, _shrinking()) from None
    if found.ggml_type is not None and found.name not in known:
        raise ReferenceNotFound.among("block format", name, _shrinking())
    return known.get(found.name, found.name)


def _shrinking() -> list[str]:
    """List the formats that store matrices in fewer bits."""
    from smidgen import formats
    from smidgen.shrink.quantize.allocate import block_formats

    return [*block_formats(), *(each for each in formats.names() if formats.find(each).ggml_type is None)]


def formats_for(
    found: Materials,
    size: int,
    named: Mapping[str, str],
    progress: Progress,
    *,
    trials: int = 0,
    solver: str = "gptq",
) -> tuple[dict[str, str], str]:
    """Return for every matrix the format with which the file keeps within a size at the least damage.

    Beside them stands what a search found, in a sentence; empty where there was none.

    Args:
        found: The model and its text.
        size: Bytes of the file.
        named: Formats that are decided already, by matrix name.
        progress: Receives reports.
        trials: Swaps of formats that are measured after the prediction; matrices that are stored as one stay out.
        solver: How matrices are stored in these swaps.
    """
    from smidgen import formats
    from smidgen.recipe.planner import Probed
    from smidgen.recipe.quantities import format_size
    from smidgen.shrink.quantize.allocate import Choice, smallest_bytes

    probed = Probed(found.source, found, progress)
    for name, decided in named.items():
        shape = tuple(found.source.weight(name).shape)
        probed.table[name] = [Choice(decided, formats.find(decided).bytes_for(shape), 0.0)]
    allocation = probed.allocation(size)
    if allocation is None:
        least = smallest_bytes(probed.table) + probed.overhead
        raise BudgetNotMet(
            f"{format_size(size)} cannot be reached by storing alone: the smallest file is {format_size(least)}.",
            remedy=f"Allow at least {format_size(least * 1.01)}, or use 'smidgen make', which also removes parts.",
        )
    return _searched(probed, allocation.formats, size, trials, solver) if trials else (allocation.formats, "")


def _searched(
    probed: Probed, chosen: Mapping[str, str], size: int, trials: int, solver: str
) -> tuple[dict[str, str], str]:
    """Swap formats near the predicted mix, and keep what comes closer on text that the prediction has not seen."""
    from smidgen.shrink.quantize import solvers
    from smidgen.shrink.quantize.search import Trial, improve

    model, materials = probed.model, probed.materials
    _, watched = materials.healing(model)
    trial = Trial(model, materials.sensitivity(probed.progress), watched, solvers.find(solver))
    together = {name for members in model.anatomy.stored_together() for name in members}
    mix = {name: next(one for one in probed.table[name] if one.format == wanted) for name, wanted in chosen.items()}
    table = {name: front for name, front in probed.table.items() if name not in together}
    seed, room = materials.seed, size - probed.overhead
    found = improve(table, mix, room, trial.divergence, trials=trials, seed=seed, progress=probed.progress)
    return {name: choice.format for name, choice in found.mix.items()}, (
        f"A search kept {found.kept} of {found.tried} swaps of formats: "
        f"KL {found.before:.5f} to {found.after:.5f} on calibration text that the prediction had not seen."
    )


def size_within(model: Model, memory: int, context: int) -> int:
    """Return the bytes that a model's file may have where running it keeps within a memory.

    Args:
        model: The model.
        memory: Bytes of the process that runs it.
        context: Tokens that its context holds; they take their keys and values in 16 bits.

    Raises:
        BudgetNotMet: The context and the engine alone take more.
    """
    from smidgen.inference.footprint import HELD_AGAIN, beside_the_file
    from smidgen.recipe.quantities import format_size

    metadata = {"general.architecture": model.family.gguf_architecture} | model.family.gguf_metadata(model.config)
    beside = beside_the_file(metadata, model.anatomy.vocabulary_size, context)
    if beside >= memory:
        raise BudgetNotMet(
            f"{format_size(memory)} of memory do not hold what running the model takes beside its file: "
            f"{format_size(beside)} with a context of {context:,} tokens.",
            remedy="Allow more memory, or a shorter --context.",
        )
    return int((memory - beside) / (1 + HELD_AGAIN))


def require_fitting(model: Model, default: str | None, named: Mapping[str, str]) -> None:
    """Refuse formats whose blocks do not divide the model's rows, with one error for all matrices."""
    from smidgen import formats
    from smidgen.shrink.quantize.allocate import block_formats

    rows: dict[str, set[int]] = {}
    for name in model.anatomy.matrices():
        wanted = named.get(name, default)
        if wanted is not None:
            rows.setdefault(wanted, set()).add(model.shape(name)[1])
    for wanted, widths in rows.items():
        fitting = [each for each in block_formats() if all(formats.find(each).fits(width) for width in widths)]
        if not all(formats.find(wanted).fits(width) for width in widths):
            raise InvalidInput(
                f"The blocks of {wanted} do not divide this model's rows of {', '.join(map(str, sorted(widths)))}.",
                remedy=f"Take one of {', '.join(fitting)}.",
            )


def at_both_ends(
    model: Model, default: str | None, *, embedding: str | None = None, head: str | None = None
) -> dict[str, str]:
    """Return the formats of embedding and head, by matrix name, where they are not the default.

    A default of less than 3 bits per weight is not for them: they get Q8_0 where it is not asked for otherwise, as the
    papers of such formats leave them as they are (arXiv 2210.17323, 2402.04396, 2401.06118).

    Args:
        model: The model.
        default: Format of the other matrices.
        embedding: What is asked for by name.
        head: The same; a tied head is the embedding.

    Raises:
        InvalidInput: A tied matrix is asked for in two formats.
    """
    import math

    from smidgen import formats

    if model.anatomy.tied:
        if None not in (embedding, head) and embedding != head:
            raise InvalidInput(
                f"This model's embedding is its head; it cannot be both {embedding} and {head}.", remedy="Name one."
            )
        embedding = embedding or head
    asked, found = {"embedding": embedding, "head": head}, {}
    for name, part in model.anatomy.matrices().items():
        if part not in asked:
            continue
        wanted, shape = asked[part], tuple(model.shape(name))
        if wanted is None and default is not None and formats.find(default).fits(shape[-1]):
            coarse = 8 * formats.find(default).bytes_for(shape) < COARSE_BITS * math.prod(shape)
            wanted = FINE_FORMAT if coarse and formats.find(FINE_FORMAT).fits(shape[-1]) else None
        if wanted is not None:
            found[name] = wanted
    return found


def in_blocks(model: Model, number_format: str) -> dict[str, str]:
    """Return a format for every matrix but embedding and head, for engines that keep these as floats."""
    from smidgen.export import compressed_tensors

    compressed_tensors.require_format(number_format)
    parts = model.anatomy.matrices()
    return {name: number_format for name, part in parts.items() if part not in ("embedding", "head")}
