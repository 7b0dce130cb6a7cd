"""The public verbs on tiny random models, as a program would call them."""

import inspect
import runpy
from pathlib import Path

import pytest
import torch

import smidgen
from smidgen import formats
from smidgen.errors import BudgetNotMet, InvalidInput, RecipeError, ReferenceNotFound
from smidgen.export import gguf, safetensors
from smidgen.shrink.quantize import search
from smidgen.shrink.quantize.solvers.nearest import Nearest

build_model = runpy.run_path(str(Path(__file__).parent / "shrink" / "conftest.py"))["build_model"]
LAYERS = {"structure": "layer", "criterion": "block_influence"}
TOKENS = {"structure": "vocabulary", "criterion": "use", "keep": 512}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny():
    return build_model()


@pytest.fixture(scope="module")
def wordy():
    return build_model(vocab_size=768)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("\n\n".join(f"{number} {inspect.getsource(runpy)[number:]}" for number in range(3)))
    return path


def test_prune_takes_a_model_and_gives_a_smaller_one(tiny):
    before = {name: value.clone() for name, value in tiny.module.state_dict().items()}
    result = smidgen.prune(tiny, **LAYERS, keep=2, windows=2)
    assert result.config.num_hidden_layers == 2 and tiny.config.num_hidden_layers == 3
    assert all(torch.equal(before[name], value) for name, value in tiny.module.state_dict().items())
    assert result.lineage.steps[-1].operation == "prune"


def test_prune_by_the_user_s_own_text(wordy, words):
    result = smidgen.prune(wordy, **TOKENS, data=words, windows=1)
    assert result.anatomy.vocabulary_size == len(result.lineage.kept_tokens) == 512


def test_names_are_loaded(tiny, tmp_path):
    safetensors.write(tiny, tmp_path / "tiny")
    result = smidgen.prune(str(tmp_path / "tiny"), **LAYERS, keep=1, windows=1)
    assert result.config.num_hidden_layers == 1 and result.lineage.origin.name == str(tmp_path / "tiny")


def test_quantize_to_one_format_or_to_a_size(tiny, tmp_path):
    same = smidgen.quantize(tiny, format="Q4_0", embedding_format="q8_0", windows=2, solver="nearest")
    formats = {name: packed.format for name, packed in same.packed.items()}
    embedding = f"{tiny.anatomy.embedding}.weight"
    assert formats.pop(embedding) == "q8_0" and set(formats.values()) == {"q4_0"}
    fitting = smidgen.quantize(tiny, fit=100_000, windows=2, solver="nearest")
    gguf.write(fitting, tmp_path / "fitting.gguf")
    assert 80_000 < (tmp_path / "fitting.gguf").stat().st_size <= 100_000


def test_a_format_for_the_embedding_holds_in_a_size_too(tiny):
    fitting = smidgen.quantize(tiny, fit="110KB", embedding_format="q5_1", windows=1, solver="nearest")
    assert fitting.packed[f"{tiny.anatomy.embedding}.weight"].format == "q5_1"


@pytest.mark.parametrize(
    ("tied", "options", "ends"),
    [
        (True, {"format": "vector"}, {"embedding": "q8_0"}),
        (False, {"format": "integer:bits=2"}, {"embedding": "q8_0", "head": "q8_0"}),
        (False, {"format": "binary", "head_format": "q4_0"}, {"embedding": "q8_0", "head": "q4_0"}),
        (True, {"format": "ternary", "head_format": "ternary"}, {"embedding": "ternary"}),
        (False, {"format": "kmeans:bits=3"}, {"embedding": "kmeans:bits=3", "head": "kmeans:bits=3"}),
    ],
)
def test_coarse_formats_spare_embedding_and_head(tied, options, ends):
    model = build_model(tie_word_embeddings=tied, num_hidden_layers=1)
    parts = model.anatomy.matrices()
    small = smidgen.quantize(model, **options, windows=1, solver="nearest")
    assert {parts[name]: stored.format for name, stored in small.packed.items() if parts[name] in ends} == ends
    others = {stored.format for name, stored in small.packed.items() if parts[name] not in ends}
    assert others == {options["format"]}
    size = sum(stored.data.numel() for stored in small.packed.values())
    counted = sum(formats.find(each.format).bytes_for(model.shape(name)) for name, each in small.packed.items())
    assert size == counted and set(small.packed) == set(parts)


def test_a_tied_matrix_has_one_format():
    with pytest.raises(InvalidInput, match="cannot be both q8_0 and q4_0"):
        smidgen.quantize(build_model(), format="vector", embedding_format="q8_0", head_format="q4_0", windows=1)


def test_a_search_keeps_within_the_size_and_what_is_decided(tiny, tmp_path):
    events = []
    fitting = smidgen.quantize(
        tiny, fit="110KB", embedding_format="q5_1", search=6, windows=2, progress=lambda event: events.append(event)
    )
    gguf.write(fitting, tmp_path / "fitting.gguf")
    assert 90_000 < (tmp_path / "fitting.gguf").stat().st_size <= 110_000
    assert fitting.packed[f"{tiny.anatomy.embedding}.weight"].format == "q5_1"
    assert [event.done for event in events if "better mix" in event.stage] == [1, 2, 3, 4, 5, 6]
    assert "of 6 swaps" in fitting.lineage.steps[-1].note
    assert len([event for event in events if event.stage == "probing sensitivity" and event.done == 1]) == 1


def test_a_search_stores_matrices_by_the_solver_of_the_result(tiny, monkeypatch):
    tried = []

    class Watched(search.Trial):
        def __init__(self, model, sensitivity, windows, solver):
            tried.append(solver)
            super().__init__(model, sensitivity, windows, solver)

    monkeypatch.setattr(search, "Trial", Watched)
    smidgen.quantize(tiny, fit="110KB", search=1, windows=1, solver="nearest")
    assert tried == [Nearest()]


def test_a_memory_counts_the_context_in(tiny, tmp_path):
    from smidgen.export import gguf
    from smidgen.inference.footprint import HELD_AGAIN, VOCABULARY_BYTES, WORKSPACE

    anatomy, sizes = tiny.anatomy, {}
    block = anatomy.blocks[0]
    per_token = 2 * 2 * len(anatomy.blocks) * block.key_value_heads * block.head_size  # keys and values of 16 bits
    fixed = WORKSPACE + VOCABULARY_BYTES * anatomy.vocabulary_size
    for context in (64, 64 + 32_000 // per_token):
        small = smidgen.quantize(
            tiny,
            memory=fixed + 64 * per_token + int(120_000 * (1 + HELD_AGAIN)),
            context=context,
            windows=1,
            solver="nearest",
        )
        gguf.write(small, tmp_path / "x.gguf")
        sizes[context] = (tmp_path / "x.gguf").stat().st_size
    first, second = sizes.values()
    assert second <= 100_000 < first <= 120_000


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({}, InvalidInput, "a format, a size or a memory"),
        ({"format": "q4_0", "fit": "1MB"}, InvalidInput, "a format, a size or a memory"),
        ({"format": "q4_o"}, ReferenceNotFound, "q4_0"),
        ({"format": "float16"}, ReferenceNotFound, "block format"),
        ({"format": "q4_k"}, InvalidInput, "q8_0"),
        ({"fit": "80"}, RecipeError, "has no unit"),
        ({"fit": "1KB"}, BudgetNotMet, "smallest file"),
        ({"memory": "1MB"}, BudgetNotMet, "beside its file"),
        ({"memory": "90MB", "fit": "1MB"}, InvalidInput, "a format, a size or a memory"),
        ({"format": "q4_0", "solvr": "gptq"}, RecipeError, "'solver'"),
        ({"format": "q4_0", "search": 3}, InvalidInput, "needs a size"),
        ({"format": "q4_0", "windows": 0}, InvalidInput, "0 calibration windows"),
    ],
)
def test_what_cannot_be_quantized_is_said(tiny, options, error, part):
    with pytest.raises(error) as caught:
        smidgen.quantize(tiny, **{"windows": 1, **options})
    assert part in str(caught.value)


def test_distill_heals(tiny, tmp_path):
    smaller = smidgen.prune(tiny, **LAYERS, keep=2, windows=2)
    steps = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "warmup": 0.0}
    healed = smidgen.distill(smaller, tiny, checkpoints=tmp_path, **steps)
    changed = [not torch.equal(healed.weight(name), value) for name, value in smaller.module.named_parameters()]
    assert any(changed) and healed.lineage.steps[-1].operation == "distill"
    again = smidgen.distill(smaller, tiny, **steps)
    assert all(torch.equal(healed.weight(name), value) for name, value in again.module.named_parameters())


def test_misspelled_options_name_the_nearest(tiny):
    with pytest.raises(RecipeError, match="'structure'"):
        smidgen.prune(tiny, structur="layer", criterion="block_influence", keep=2)
    with pytest.raises(RecipeError, match="needs 'steps'"):
        smidgen.distill(tiny, tiny)


def test_measure_compares_and_measures_alone(tiny, tmp_path, words):
    gguf.write(tiny, tmp_path / "source.gguf")
    gguf.write(smidgen.prune(tiny, **LAYERS, keep=2, windows=1), tmp_path / "cut.gguf")
    names = [str(tmp_path / name) for name in ("source.gguf", "cut.gguf")]
    same, cut = smidgen.measure(*names, against=names[0], texts=[words], windows=1, speed=False, threads=1)
    assert same.quality[0].kl_mean < 1e-6 < cut.quality[0].kl_mean and same.quality[0].same_top == 1
    assert same.speed is None and same.memory.peak_rss_bytes > same.bytes > cut.bytes
    (alone,) = smidgen.measure(names[1], texts=[words], windows=1, speed=False, threads=1)
    assert alone.quality[0].bits_per_byte == pytest.approx(cut.quality[0].bits_per_byte)
    assert alone.parameters == cut.parameters and alone.to_dict()["path"] == names[1]


def test_models_of_other_tokens_are_measured_alone_with_a_note(tiny, tmp_path, words):
    gguf.write(tiny, tmp_path / "source.gguf")
    gguf.write(build_model(vocab_size=352), tmp_path / "other.gguf")
    names = [str(tmp_path / name) for name in ("other.gguf", "source.gguf")]
    (other,) = smidgen.measure(names[1], against=names[0], texts=[words], windows=1, speed=False, threads=1)
    assert "do not share their tokens" in other.notes[0] and not hasattr(other.quality[0], "kl_mean")


def test_a_pruned_vocabulary_is_compared_by_the_tokens_text(wordy, tmp_path, words):
    gguf.write(wordy, tmp_path / "source.gguf")
    gguf.write(smidgen.prune(wordy, **TOKENS, data=words, windows=1), tmp_path / "cut.gguf")
    names = [str(tmp_path / name) for name in ("source.gguf", "cut.gguf")]
    (measured,) = smidgen.measure(names[1], against=names[0], texts=[words], windows=1, speed=False, threads=1)
    assert measured.quality[0].dropped_mass > 0 and measured.notes == ()


def test_run_answers(tiny, tmp_path):
    assert smidgen.run("echo", "one two three", num_predict=2) == "one two"
    with pytest.raises(ReferenceNotFound, match="'temperature'"):
        smidgen.run("echo", "hi", temprature=1)
    safetensors.write(tiny, tmp_path / "tiny")
    options = {"temperature": 0, "num_predict": 3, "threads": 1, "raw": True}
    assert smidgen.run(str(tmp_path / "tiny"), "Words", **options) == smidgen.run(
        str(tmp_path / "tiny"), "Words", **options
    )


def test_pull_keeps_a_model_under_a_name(tiny, tmp_path):
    gguf.write(tiny, tmp_path / "tiny.gguf")
    stored = smidgen.pull(str(tmp_path / "tiny.gguf"), name="mine")
    assert stored.name == "mine:latest" and smidgen.load("mine").parameter_count() == tiny.parameter_count()
