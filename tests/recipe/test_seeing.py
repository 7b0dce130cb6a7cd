"""The main job on a model that sees: both files, images as part of the recipe, and refusals before any work."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from smidgen.cli.main import main
from smidgen.data.resolve import CalibrationData
from smidgen.data.rows import Corpus, Row
from smidgen.models.checkpoint import gguf
from smidgen.models.load import load
from smidgen.models.store import Store
from smidgen.recipe import eyes
from smidgen.recipe.make import make
from smidgen.recipe.materials import Materials
from smidgen.recipe.recipe import Step
from smidgen.recipe.runner import Runner

TINY = runpy.run_path(str(Path(__file__).parents[1] / "tiny_mississippi.py"))
FIT = 230_000
"""Bytes that model and projector take together only with 8 bits in the tower: 112,800 and 143,328 without."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeing")
    for kind in ("llama", "mistral"):
        TINY["write"](folder / kind, kind)
    (folder / "pictures").mkdir()
    (folder / "none").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "a.png").write_text("no image")
    for number, size in enumerate(((100, 60), (56, 56))):
        Image.effect_noise(size, 90).save(folder / "pictures" / f"{number}.png")
    return folder


@pytest.fixture
def steps(place: Path) -> list[Step]:
    images = str(place / "pictures")
    return [
        Step("prune", {"structure": "layer", "criterion": "block_influence", "keep": 1}, images),
        Step("distill", {"steps": 6, "batch_size": 2, "learning_rate": 1e-3}, images),
        Step("quantize", {"default": "q8_0"}, images),
        Step("prune", {"structure": "neuron", "criterion": "l2", "keep": 64}),
        Step("distill", {"steps": 2, "batch_size": 2}),
    ]


def materials_of(place: Path) -> Materials:
    corpus = Corpus("made up", (Row("\n".join(f"def f{number}(x): return x" for number in range(60))),))
    texts = CalibrationData(corpus, corpus, corpus, False)
    return Materials(load(str(place / "llama")), texts, windows=6, length=32, seed=0, threads=1)


def quiet(event: Any) -> None:
    pass


def test_made_it_keeps_within_the_size_with_both_files_and_sees(
    place: Path, data: Path, hurried: None, tmp_path: Path, capsys: Any
) -> None:
    images, out = str(place / "pictures"), tmp_path / "made"
    order: dict[str, Any] = {"fit": FIT, "data": str(data), "images": images, "within": 20, "out": out, "threads": 1}
    outcome = make(str(place / "llama"), **order)
    sizes = [(out / name).stat().st_size for name in ("model.gguf", "mmproj-model.gguf")]
    receipt = outcome.receipt
    assert outcome.met and sum(sizes) == receipt["result"]["bytes"] == sum(receipt["parts"]["after"].values()) <= FIT
    assert receipt["vision"]["bytes"] == sizes[1] and receipt["vision"]["changed"] is True
    assert "Q8_0" in {tensor.format for tensor in gguf.read(out / "mmproj-model.gguf").tensors.values()}
    first, *rest = yaml.safe_load((out / "recipe.yaml").read_text())["steps"]
    assert first == {
        "operation": "quantize", "images": images, "images_sha256": eyes.digest(images), "default": "q8_0",
    }  # fmt: skip
    assert receipt["steps"][0]["images_sha256"] == first["images_sha256"]
    assert (out / "model").exists() is any(step["operation"] == "prune" for step in rest)
    assert "FROM ./mmproj-model.gguf" in (out / "Modelfile").read_text()
    answers = []
    for picture in ("0.png", "1.png"):
        words = ["run", str(out), f"What is it? {place / 'pictures' / picture}", "--num-predict", "2", "--json"]
        assert main([*words, "--temperature", "0", "--threads", "1"]) == 0
        answers.append(json.loads(capsys.readouterr().out)["metrics"]["prompt_tokens"])
    assert answers[0] > answers[1] > TINY["PLACES"]
    assert make(str(place / "llama"), **order).already_done

    again = make(
        str(out / "model.gguf"), **order | {"fit": sum(sizes), "images": None, "out": tmp_path / "again"}
    ).receipt
    assert again["source"]["bytes"] == sum(sizes) == sum(again["parts"]["before"].values())
    assert again["vision"]["sha256"] == receipt["vision"]["sha256"] and again["vision"]["changed"] is False


def test_steps_that_go_by_images_are_kept_and_done_again_for_others(
    place: Path, steps: list[Step], tmp_path: Path
) -> None:
    model, done = Runner(materials_of(place), tmp_path, quiet).run(steps)
    assert model.vision is not None and len(model.vision.packed) == 6 and not model.packed
    assert model.vision.module.vision_tower.config.num_hidden_layers == 1
    assert [record.images is not None for record in done] == [True, True, True, False, False]
    curve = [loss for _, loss in done[1].curves["held_out"]] if done[1].curves else []
    assert min(curve) < curve[0]
    assert [step.parameters.get("part") for step in model.lineage.steps] == ["vision"] * 3 + [None] * 2
    seen: list[Any] = []
    again = Runner(materials_of(place), tmp_path, seen.append)
    assert again.run(steps)[1] == done and not [event for event in seen if event.stage.endswith("starting")]
    Image.effect_noise((60, 60), 20).save(place / "pictures" / "2.png")
    try:
        changed = again._keys(steps)
    finally:
        (place / "pictures" / "2.png").unlink()
    assert not {record.key for record in done} & set(changed)


@pytest.mark.parametrize(
    ("model", "images", "says"),
    [
        ("mistral", None, "looks at an image twice"),
        ("mistral", "pictures", "smidgen quantize"),
        ("llama", "none", "holds no images"),
        ("llama", "nowhere", "no file or folder"),
        ("llama", "broken", "cannot be read as PNG"),
        ("text", "pictures", "reads no images"),
    ],
)
def test_what_would_end_blind_is_refused_before_anything_is_written(
    place: Path, source: Path, tmp_path: Path, capsys: Any, model: str, images: str | None, says: str
) -> None:
    name = str(source) if model == "text" else str(place / model)
    words = [] if images is None else ["--images", str(place / images)]
    assert main(["make", name, "--fit", "1MB", *words, "--out", str(tmp_path / "made"), "--threads", "1"]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "made").exists()


def test_no_draft_is_made_for_a_folder_that_torch_runs(place: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["make", "--draft-for", str(place / "llama"), "--within", "20s", "--threads", "1"]
    assert main([*words, "--out", str(tmp_path / "draft")]) == 2
    assert "takes no draft" in capsys.readouterr().err and not (tmp_path / "draft").exists()


def test_a_task_is_refused_before_training_where_its_model_could_not_be_made_to_fit(
    place: Path, tmp_path: Path, capsys: Any
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"text {n}", "label": "ab"[n % 2]}) + "\n" for n in range(40)))
    words = ["task", "classify", "--labels", "a,b", "--train", str(rows), "--model", str(place / "mistral")]
    assert main([*words, "--fit", "1MB", "--threads", "1"]) == 2
    assert "looks at an image twice" in capsys.readouterr().err
    assert not [*(Store().root / "tasks").rglob("tuned"), *(Store().root / "tasks").rglob("checkpoints")]


def test_a_size_that_the_eyes_alone_exceed_is_refused(place: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["make", str(place / "llama"), "--fit", "100KB", "--out", str(tmp_path / "made"), "--threads", "1"]
    assert main(words) == 3
    assert "What reads images takes 143.3 KB of the 100.0 KB" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"operation": "prune", "structure": "neuron", "keep": 32, "images_sha256": "0" * 64}, "other images"),
        ({"operation": "prune", "structure": "head", "keep": 2}, "lost heads"),
        ({"operation": "prune", "structure": "width", "keep": 32}, "no width"),
        ({"operation": "finetune"}, "goes by text"),
        ({"operation": "distill", "steps": 2, "losses": {"soft_output": 1}}, "no next tokens"),
        ({"operation": "quantize", "default": "q8_0", "images": 7}, "must name a folder of images"),
        ({"operation": "quantize", "default": "q8_0", "images_sha256": "x"}, "64 hexadecimal digits"),
    ],
)
def test_recipes_whose_images_do_not_fit_are_refused(
    place: Path, tmp_path: Path, capsys: Any, entry: dict[str, Any], says: str
) -> None:
    content = {"source": str(place / "llama"), "steps": [{"images": str(place / "pictures"), **entry}]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    assert main(["apply", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "made")]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "made").exists()


def test_created_it_sees_or_is_refused(place: Path, tmp_path: Path, capsys: Any) -> None:
    for kind, code in (("llama", 0), ("mistral", 2)):
        (tmp_path / kind).write_text(f"FROM {place / kind}\n")
        assert main(["create", kind, "-f", str(tmp_path / kind), "-q", "q8_0"]) == code
    assert "No GGUF of" in capsys.readouterr().err and list(Store().names()) == ["llama:latest"]
    stored = Store().resolve("llama")
    assert stored.facts["projectors"] == ["projector-0.gguf"] and {"model.gguf", "projector-0.gguf"} <= set(
        stored.digests
    )
    words = ["run", "llama", f"What is it? {place / 'pictures' / '1.png'}", "--num-predict", "2", "--threads", "1"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["prompt_tokens"] > TINY["PLACES"]
