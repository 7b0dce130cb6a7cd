"""The public verbs: each does one job from names to a result, as the command of the same name does.

What a way of shrinking can be told are the fields of its operation (`smidgen.shrink.prune.prune.Prune` and so on),
given by name.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput
from smidgen.models.model import Model
from smidgen.progress import Progress, silent
from smidgen.recipe import eyes, gathering
from smidgen.recipe.recipe import Step

if TYPE_CHECKING:
    from smidgen.models.store import StoredModel
    from smidgen.shrink.finetune.finetune import FinetuneResult
    from smidgen.shrink.prune.comparison import Damage

WINDOWS, CONTEXT = 24, 4096


def pull(model: str, *, name: str | None = None, offline: bool = False, progress: Progress = silent) -> StoredModel:
    """Get a model and keep it in the store.

    Args:
        model: ``smollm2:135m``, ``hf:org/name@revision``, a folder or a ``.gguf`` file.
        name: The name to keep it under; its own where None.
        offline: Take only what is on this machine.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: Nothing has that name.
        SourceUnavailable: It could not be delivered.

    Example:
        path = smidgen.pull("smollm2:135m").folder
    """
    from smidgen.models import sources
    from smidgen.models.store import Store

    return sources.pull(model, Store(), name=name, offline=offline, progress=progress)


def prune(
    model: str | Model,
    *,
    data: str | Path | None = None,
    images: str | Path | None = None,
    windows: int = WINDOWS,
    seed: int = 0,
    offline: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> Model:
    """Remove layers, heads, neurons, hidden channels, tokens or single weights.

    Args:
        model: A loaded model, or the name of one.
        data: Text to go by; the built-in one where None.
        images: A folder of images to go by; the part that reads images is then cut, and the language model stays.
        windows: Calibration windows of 512 tokens, or with images as many tiles of them.
        seed: Of everything random.
        offline: Take only what is on this machine.
        progress: Receives reports.
        **options: Fields of `smidgen.shrink.prune.prune.Prune`: ``structure``, ``criterion``, ``keep``, ...

    Raises:
        RecipeError: An option does not exist or is missing.
        InvalidInput: So many parts cannot be kept.

    Example:
        smaller = smidgen.prune("smollm2:135m", structure="layer", criterion="block_influence", keep=27)
    """
    operation = Step("prune", options, eyes.named(images)).build()
    if images is not None:
        seeing, tiles = gathering.tiles(model, images, windows, offline, progress)
        return eyes.shrunk(seeing, operation, tiles, progress=progress)
    found = gathering.materials(model, data, windows, seed, offline, progress)
    use = found.token_use(found.source) if operation.structure == "vocabulary" else None
    pruned: Model = operation.apply(found.source, found.calibration(found.source), token_use=use, progress=progress)
    return pruned


def compare_criteria(
    model: str | Model,
    *,
    data: str | Path | None = None,
    windows: int = WINDOWS,
    held_out_windows: int = 4,
    seed: int = 0,
    offline: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> list[Damage]:
    """Make one cut by every criterion that fits it, and tell what each was predicted to cost and did cost.

    Args:
        model: A loaded model, or the name of one.
        data: Text to go by; the built-in one where None.
        windows: Calibration windows of 512 tokens.
        held_out_windows: Windows of other text to measure on.
        seed: Of everything random.
        offline: Take only what is on this machine.
        progress: Receives reports.
        **options: Fields of `smidgen.shrink.prune.prune.Prune`; ``criterion`` may be "all", as it is where left out.

    Raises:
        RecipeError: An option does not exist or is missing.
        InvalidInput: So many parts cannot be kept.

    Example:
        for damage in smidgen.verbs.compare_criteria("smollm2:135m", structure="neuron", keep=1280):
            print(damage.criterion, damage.measured_kl)
    """
    from smidgen.data.packing import windows as cut_windows
    from smidgen.shrink.prune import comparison

    names = comparison.fitting(str(options.get("structure")), options.pop("criterion", None) or "all")
    operation = Step("prune", {**options, "criterion": names[0]}).build()
    found = gathering.materials(model, data, windows, seed, offline, progress)
    source = found.source
    held_out = cut_windows(
        found.texts.held_out, source.tokenizer, length=found.length, count=held_out_windows, seed=seed
    )
    use = found.token_use(source) if operation.structure == "vocabulary" else None
    return comparison.compare_criteria(
        operation, names, source, found.calibration(source), held_out, token_use=use, progress=progress
    )


def quantize(
    model: str | Model,
    *,
    format: str | None = None,
    fit: str | int | None = None,
    memory: str | int | None = None,
    context: int = CONTEXT,
    embedding_format: str | None = None,
    head_format: str | None = None,
    search: int = 0,
    data: str | Path | None = None,
    images: str | Path | None = None,
    windows: int = WINDOWS,
    work: str | Path | None = None,
    export: str | None = None,
    seed: int = 0,
    offline: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> Model:
    """Store every matrix in a block format: one for all, or for each the one with which a size is kept best.

    Args:
        model: A loaded model, or the name of one.
        format: Number format of all matrices, as "q4_0"; with less than 3 bits per weight embedding and head get
            Q8_0 where nothing else is asked for.
        fit: Largest size of the GGUF, "80MB"; every matrix then gets its own format. Instead of ``format``.
        memory: What running it may take, "250MB": file, context and engine. Instead of ``fit``.
        context: Tokens of the context that is counted in with ``memory``.
        embedding_format: Another format for the embedding.
        head_format: Another format for the head; where that is the embedding, only one of the two is given.
        search: With ``fit``: how many swaps of formats to measure near the predicted mix.
        data: Text to go by; the built-in one where None.
        images: A folder of images to go by; the part that reads images is then stored so. With ``format``.
        windows: Calibration windows of 512 tokens, or with images as many tiles of them.
        work: Folder in which to work from disk, block by block, so that little memory is needed; the result reads its
            matrices from there, and a run that was stopped goes on from there. None works in memory. With ``format``.
        export: "compressed-tensors" leaves embedding and head as floats, so that
            `smidgen.export.compressed_tensors.write` can write the result for vLLM. With ``format``.
        seed: Of everything random.
        offline: Take only what is on this machine.
        progress: Receives reports.
        **options: Fields of `smidgen.shrink.quantize.quantize.Quantize`: ``solver``, ``damping``, ``smoothing``,
            ``static_activations``.

    Raises:
        InvalidInput: Not exactly one of ``format``, ``fit`` and ``memory`` is given, the format does not fit the
            model, or a search is asked for where no size is.
        BudgetNotMet: Even the smallest formats exceed what is allowed.

    Example:
        small = smidgen.quantize("smollm2:135m", format="q4_0", embedding_format="q8_0")
    """
    from smidgen.recipe.budget import Budget
    from smidgen.recipe.runner import code_version
    from smidgen.recipe.storing import (
        at_both_ends,
        block_format,
        formats_for,
        in_blocks,
        require_fitting,
        size_within,
    )

    if sum(given is not None for given in (format, fit, memory)) != 1:
        raise InvalidInput("Quantizing needs a format, a size or a memory.", remedy="Give format 'q4_0' or fit '80MB'.")
    allowed = fit if memory is None else memory
    if work is not None and allowed is not None:
        raise InvalidInput("A size needs the whole model in memory.", remedy="Give a format, such as 'q4_k'.")
    if search and allowed is None:
        raise InvalidInput("A search needs a size to keep within.", remedy="Give fit '80MB'.")
    default, embedding, head = (
        None if name is None else block_format(name) for name in (format, embedding_format, head_format)
    )
    size = None if allowed is None else Budget.parse(fit=allowed).fit
    solver = Step("quantize", options).build().solver
    if images is not None:
        if default is None or embedding or head:
            raise InvalidInput(
                "What reads images is stored in one format, and has neither embedding nor head.",
                remedy="Give one format alone, such as 'q8_0'.",
            )
        seeing, tiles = gathering.tiles(model, images, windows, offline, progress)
        operation = Step("quantize", {"default": default, **options}, eyes.named(images)).build()
        return eyes.shrunk(seeing, operation, tiles, progress=progress)
    if work is not None and not isinstance(model, Model):
        model = gathering.streamed(model, offline, progress)
    found = gathering.materials(model, data, windows, seed, offline, progress)
    named = at_both_ends(found.source, default, embedding=embedding, head=head)
    if export is not None and default is not None:
        named, default = in_blocks(found.source, default), None
    require_fitting(found.source, default, named)
    note, known = "", None
    if size is not None:
        size = size if memory is None else size_within(found.source, size, context)
        named, note = formats_for(found, size, named, progress, trials=search, solver=solver)
        known = found.sensitivity(progress)
    operation = Step("quantize", {"default": default, "formats": named, **options}).build()
    folder = None if work is None else Path(work) / code_version()[:16]
    calibration = found.calibration(found.source)
    stored: Model = operation.apply(found.source, calibration, sensitivity=known, work=folder, progress=progress)
    return replace(stored, lineage=stored.lineage.noted(note)) if note else stored


def distill(
    student: str | Model,
    teacher: str | Model,
    *,
    data: str | Path | None = None,
    images: str | Path | None = None,
    teaching: str = "live",
    checkpoints: str | Path | None = None,
    seed: int = 0,
    offline: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> Model:
    """Train a small model to predict as a larger one of the same tokens does.

    Args:
        student: The model to train, loaded or by name; the one given stays as it was.
        teacher: The model to learn from.
        data: Text to train on; the built-in one where None.
        images: A folder of images; what reads images then learns to see as the teacher's does, by the hidden states
            after its blocks, and the language model stays.
        teaching: "live", "cached" to ask the teacher once and keep its likeliest tokens, or "on_policy" to let the
            student write and the teacher score.
        checkpoints: Folder from which a stopped training goes on; None keeps nothing.
        seed: Of everything random.
        offline: Take only what is on this machine.
        progress: Receives reports.
        **options: Fields of `smidgen.shrink.distill.distill.Distill`: ``steps``, ``losses``, ...

    Raises:
        RecipeError: An option does not exist or is missing.
        Unsupported: The two models do not share their tokens.

    Example:
        healed = smidgen.distill(smaller, "smollm2:135m", steps=200)
    """
    operation = Step("distill", {"teacher": teaching, "seed": seed, **options}, eyes.named(images)).build()
    if images is not None:
        seeing, tiles = gathering.tiles(teacher, images, eyes.HEALING_TILES, offline, progress)
        pupil = gathering.loaded(student, offline, progress)
        kept = None if checkpoints is None else Path(checkpoints)
        return eyes.taught(pupil, seeing, operation, tiles, checkpoints=kept, progress=progress)[0]
    found = gathering.materials(teacher, data, 1, seed, offline, progress)
    pupil = gathering.loaded(student, offline, progress)
    training, watched = found.healing(pupil)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(checkpoints or temporary)
        outcome = operation.run(pupil, found.source, training, watched, checkpoints=folder, progress=progress)
    healed: Model = outcome.model
    return healed


def finetune(
    model: str | Model,
    *,
    data: str | Path | None = None,
    apart: str | Path | None = None,
    checkpoints: str | Path | None = None,
    seed: int = 0,
    offline: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> Model:
    """Train a model on examples or plain text, its own weights or an adapter on top of it.

    Args:
        model: A loaded model, or the name of one; the one given stays as it was.
        data: What to learn from; the built-in text where None, for the objectives that learn from plain text.
        apart: Folder to write the adapter to as well, for PEFT and as ``adapter.gguf`` for llama.cpp.
        checkpoints: Folder from which a stopped training goes on; None keeps nothing.
        seed: Of everything random.
        offline: Take only what is on this machine.
        progress: Receives reports.
        **options: Fields of `smidgen.shrink.finetune.finetune.Finetune`: ``objective``, ``method``, ``epochs``, ...

    Raises:
        RecipeError: An option does not exist.
        InvalidInput: The data do not fit the objective, or there is no adapter to keep apart.

    Example:
        tuned = smidgen.finetune("smollm2:135m", data="tickets.jsonl", method="lora")
    """
    from smidgen.export import adapter
    from smidgen.models import sources
    from smidgen.models.reference import parse
    from smidgen.models.store import Store
    from smidgen.shrink.finetune.zeros import require_keepable

    if apart is not None and options.get("method", "full") == "full":
        raise InvalidInput("Training the weights themselves leaves no adapter.", remedy="Give method='lora'.")
    Step("finetune", {"seed": seed, **options}).build()
    if not isinstance(model, Model):
        store = Store()
        local = sources.fetch(parse(model, store=store), store, offline=offline, progress=progress)
        model = gathering.load_as_stored(local, options, progress)
    require_keepable(model, apart=apart is not None)
    folder = None if checkpoints is None else Path(checkpoints)
    result = finetuned(model, data=data, checkpoints=folder, seed=seed, offline=offline, progress=progress, **options)
    if apart is not None and result.adapter is not None:
        adapter.write(result.adapter, result.model, Path(apart))
    return result.model


def finetuned(
    model: Model,
    *,
    data: str | Path | None,
    checkpoints: Path | None,
    seed: int,
    offline: bool,
    progress: Progress,
    **options: Any,
) -> FinetuneResult:
    """Train a loaded model; `finetune` says what the arguments mean. Returns curves and adapter as well."""
    operation = Step("finetune", {"seed": seed, **options}).build()
    found = gathering.materials(model, data, 1, seed, offline, progress)
    with tempfile.TemporaryDirectory() as temporary:
        folder = checkpoints or Path(temporary)
        result: FinetuneResult = operation.run(model, *found.lessons(), checkpoints=folder, progress=progress)
    return result


def merge(adapter: str | Path, model: str | Model, *, offline: bool = False, progress: Progress = silent) -> Model:
    """Work an adapter that was kept apart into the weights of its base.

    Where single weights of the base were pruned, they stay zero.

    Args:
        adapter: A folder as PEFT keeps it, or a GGUF as llama.cpp takes it.
        model: The base, loaded or by name; the one given stays as it was.
        offline: Take only what is on this machine.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: There is no such adapter or model.
        InvalidInput: The adapter is for another model.
        Unsupported: It is a DoRA, and single weights of the base were pruned.

    Example:
        tuned = smidgen.merge("tickets-adapter", "smollm2:135m")
    """
    from smidgen.shrink.finetune import reading

    path = reading.find(adapter)
    return reading.merge(path, gathering.loaded(model, offline, progress))


def run(
    model: str,
    prompt: str,
    *,
    system: str | None = None,
    raw: bool = False,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> str:
    """Answer one prompt.

    For a stream or a conversation see `smidgen.inference.engine.open_engine`.

    Args:
        model: A name, a made folder or any ``.gguf`` file; "echo" answers with the prompt.
        prompt: What to answer.
        system: What the model is to be.
        raw: Continue the text as it stands, without the chat template.
        threads: Threads to compute with; the physical cores where None.
        offline: Take only what is on this machine.
        progress: Receives reports.
        **options: Fields of `smidgen.inference.options.GenerationOptions`: ``temperature``, ``num_predict``, ...

    Example:
        >>> run("echo", "Good day.")
        'Good day.'
    """
    from smidgen.export import runnable
    from smidgen.inference.engine import Message, open_engine
    from smidgen.inference.options import GenerationOptions

    chosen = GenerationOptions.from_mapping(options)
    path: str | Path = model
    depth = None
    if model != "echo":
        local = runnable.find(model, offline=offline, progress=progress)
        path, depth = runnable.path_of(local, progress=progress), local.depth
    turns = [Message("system", system)] if system else []
    with open_engine(path, threads=threads, context=chosen.num_ctx, depth=depth) as engine:
        answer = engine.complete(prompt, chosen) if raw else engine.chat([*turns, Message("user", prompt)], chosen)
        return "".join(chunk.text for chunk in answer)
