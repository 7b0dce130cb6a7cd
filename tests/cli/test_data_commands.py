import json

import pytest
import torch

from smidgen.cli.main import main
from smidgen.data.loading import load
from smidgen.data.rows import Row
from smidgen.data.writing import ModelWriter, prompt_of, show_example
from smidgen.export import safetensors

TASK = "Sort words."
ANIMALS, VERBS = ("fox", "dog", "owl", "hen", "cat", "cow"), ("runs", "sleeps", "eats", "waits", "sings", "hides")
PLAIN = "The old mill by the river was sold last year to a man from the city who wants to live in it with his dogs."


def example(animal, verb):
    return Row(f"the {animal} {verb} at night", label="pet" if animal in ("dog", "cat") else "wild")


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def run_json(capsys, *words):
    code = main([*map(str, words), "--json", "--quiet"])
    shown = capsys.readouterr()
    assert shown.err == "", shown.err
    return code, json.loads(shown.out)


@pytest.fixture
def messy(tmp_path):
    texts = [
        PLAIN,
        PLAIN.upper(),
        PLAIN + " He told us so.",
        "hm",
        "buy now cheap " * 40,
        "Der alte Mann ging jeden Morgen mit seinem Hund durch den Wald und über die Felder bis an den Fluss, "
        "wo er sich auf eine Bank setzte und den Booten zusah.",
        "Anything that stands in the exam must not be trained on, since otherwise the marks would tell nothing at all.",
        "A short note that stays.",
    ]
    exam = write(tmp_path / "exam.jsonl", [{"text": texts[-2]}])
    return write(tmp_path / "messy.jsonl", [{"text": text} for text in texts]), exam


def test_curate_says_what_went_and_why(messy, tmp_path, capsys):
    data, exam = messy
    out = tmp_path / "clean.jsonl"
    words = ["data", "curate", data, "--language", "en", "--held-out", exam, "--out", out]
    code, made = run_json(capsys, *words)
    removed = made["sheet"]["removed"]
    assert code == 0 and made["rows"] == 2 and made["sheet"]["rows"] == [8, 2]
    assert removed == {
        **dict.fromkeys(("exact", "near", "short", "repetitive", "foreign", "leaked"), 1),
        **dict.fromkeys(("lines", "long"), 0),
    }
    assert [row.text for row in load(out).rows] == [PLAIN, "A short note that stays."]
    assert load(out).sha256 == made["sheet"]["sha256"]
    sheet = (tmp_path / "clean.datasheet.md").read_text(encoding="utf-8")
    assert made["datasheet"] == str(tmp_path / "clean.datasheet.md") and "| foreign | 1 | messy.jsonl, line 6" in sheet
    assert main([*map(str, words)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*map(str, words), "--force"]) == 0
    shown = capsys.readouterr()
    assert "2 of 8 kept" in shown.out and "near went" in shown.out and "cleaning" in shown.err


def test_what_counts_as_repeated_can_be_told(messy, tmp_path, capsys):
    options = ["--minimum-words", "1", "--similarity", "1", "--no-repetition", "--maximum-words", "60"]
    code, made = run_json(capsys, "data", "curate", messy[0], *options, "--out", tmp_path / "clean.jsonl")
    assert code == 0 and {name: count for name, count in made["sheet"]["removed"].items() if count} == {
        "exact": 1,
        "long": 1,
    }


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--similarity", "2"], "similarity must lie"),
        (["--language", "xq"], "'xq'"),
        (["--out", "clean.txt"], "not the name of a .jsonl file"),
        (["--out", "{data}", "--force"], "is what is read"),
        (["--held-out", "nothing.jsonl"], "There is no file"),
        (["--minimum-words", "900"], "No row of messy.jsonl remains"),
    ],
)
def test_faults_are_said_before_anything_is_written(words, part, messy, tmp_path, capsys):
    given = [word.format(data=messy[0]) for word in words]
    out = [] if "--out" in words else ["--out", str(tmp_path / "clean.jsonl")]
    before = sorted(tmp_path.iterdir())
    assert main(["data", "curate", str(messy[0]), *given, *out, "-q"]) == 2
    shown = capsys.readouterr()
    assert part in " ".join(shown.err.split()) and "Traceback" not in shown.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    rows = [example(animal, verb).to_dict() for animal, verb in zip(ANIMALS, VERBS, strict=True)]
    return write(tmp_path_factory.mktemp("seeds") / "seeds.jsonl", rows)


@pytest.fixture(scope="module")
def teacher(tiny_model, tmp_path_factory):
    """A tiny model that has learnt to write examples of one kind."""
    torch.set_num_threads(1)
    model = tiny_model(seed=1, num_hidden_layers=2, initializer_range=0.05)
    every = [example(animal, verb) for animal in ANIMALS for verb in VERBS]
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=8e-3)
    for _ in range(70):
        batch = []
        for _ in range(4):
            chosen = [every[int(each)] for each in torch.randperm(len(every), generator=generator)[:4]]
            text = prompt_of(TASK, chosen[:3]) + show_example(chosen[3]) + "\n\n### Example 5"
            batch.append(model.tokenizer(text)["input_ids"])
        width = min(map(len, batch))
        ids = torch.tensor([each[-width:] for each in batch])
        loss = model.module(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    path = tmp_path_factory.mktemp("teacher") / "teacher"
    safetensors.write(model, path, dtype="float32")
    return path


def asked(seeds, teacher, out, *more):
    return [
        *("data", "write", str(seeds), "--task", TASK, "--teacher", str(teacher), "--out", str(out)),
        *("--count", "8", "--longest", "40", "--temperature", "0.5", *more),
    ]


def test_a_teacher_writes_examples_that_can_be_trained_on(seeds, teacher, tmp_path, smidgen_home, capsys):
    out = tmp_path / "more.jsonl"
    code, made = run_json(capsys, *asked(seeds, teacher, out, "--keep", "1"))
    assert code == 0 and made["writing"]["temperature"] == 0.5 and made["teacher"]["name"] == str(teacher)
    found = load(out).rows
    assert len(found) == made["rows"] >= 2 and {row.label for row in found} <= {"pet", "wild"}
    known = {row.text for row in load(seeds).rows}
    assert all(row.text.startswith("the ") and row.text not in known for row in found)
    assert list((smidgen_home / "training").iterdir()) == []
    fewer = tmp_path / "fewer.jsonl"
    assert main(asked(seeds, teacher, fewer, "--keep", "0.5")) == 0
    shown = capsys.readouterr()
    assert len(load(fewer).rows) == round(len(found) / 2) and "judging examples" in shown.err
    assert [row.text for row in load(fewer).rows] == [row.text for row in found[: round(len(found) / 2)]]


def test_writing_that_was_stopped_goes_on(seeds, teacher, tmp_path, smidgen_home, monkeypatch, capsys):
    writing, count = ModelWriter.write, [0]

    def stop(self, prompt, seed):
        count[0] += 1
        if count[0] == 4:
            raise KeyboardInterrupt
        return writing(self, prompt, seed)

    monkeypatch.setattr(ModelWriter, "write", stop)
    assert main(asked(seeds, teacher, tmp_path / "one.jsonl")) == 130
    assert not (tmp_path / "one.jsonl").exists() and len(list((smidgen_home / "training").iterdir())) == 1
    assert main(asked(seeds, teacher, tmp_path / "one.jsonl")) == 0 and count[0] == 4 + 8 - 3
    monkeypatch.setattr(ModelWriter, "write", writing)
    assert main(asked(seeds, teacher, tmp_path / "two.jsonl")) == 0
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--shown", "6"], "more than 6 are needed"),
        (["--keep", "0"], "cannot be"),
        (["--temperature", "0"], "temperature of 0.0"),
        (["--task", " "], "not described"),
        (["--max-memory", "1MB"], "allowed by --max-memory"),
        (["--device", "cuda"], "runs on the CPU"),
    ],
)
def test_faults_are_said_before_the_teacher_is_loaded(words, part, seeds, teacher, tmp_path, capsys):
    assert main(asked(seeds, teacher, tmp_path / "more.jsonl", *words, "-q")) == 2
    shown = capsys.readouterr()
    assert part in " ".join(shown.err.split()) and "Traceback" not in shown.err
