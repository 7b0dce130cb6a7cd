import io
import json

import pytest

from smidgen.cli.main import main
from smidgen.export import runnable
from smidgen.models.store import Store


def run_json(capsys, *words):
    code = main([*words, "--json", "--quiet"])
    shown = capsys.readouterr()
    assert shown.err == ""
    return code, json.loads(shown.out)


def test_pull_list_show_and_rm(tiny_gguf, capsys):
    code, pulled = run_json(capsys, "pull", str(tiny_gguf), "--name", "Mine:v1")
    assert code == 0 and pulled["name"] == "mine:v1" and pulled["bytes"] == tiny_gguf.stat().st_size
    _, listed = run_json(capsys, "list")
    (entry,) = listed["models"]
    assert entry["name"] == "mine:v1" and entry["format"] == "gguf" and entry["bytes"] == pulled["bytes"]
    _, shown = run_json(capsys, "show", "mine:v1")
    assert shown["architecture"] == "llama" and shown["layers"] == 3 and shown["formats"]["F16"] > 0
    assert main(["rm", "mine:v1"]) == 0
    assert "mine:v1 removed" in capsys.readouterr().out
    assert Store().names() == ()


def test_people_read_the_same_in_words(tiny_gguf, capsys):
    assert main(["list"]) == 0
    assert "The store is empty" in capsys.readouterr().out
    assert main(["pull", str(tiny_gguf)]) == 0
    assert "tiny:latest is in the store" in capsys.readouterr().out
    assert main(["list"]) == 0
    assert "tiny:latest" in capsys.readouterr().out
    assert main(["show", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert "256 tokens" in shown and "F16 9" in shown and "chat template   yes" in shown


def test_a_folder_is_shown_with_licence_and_lineage(tiny_folder, capsys, tiny_model):
    _, shown = run_json(capsys, "show", str(tiny_folder))
    assert shown["kind"] == "safetensors" and shown["licence"] == "mit" and shown["base_model"] == "org/tiny"
    assert shown["parameters"] == tiny_model().parameter_count() and shown["bits_per_weight"] == pytest.approx(16, 0.1)
    assert shown["lineage"]["origin"]["name"] == "tiny-llama"
    assert main(["show", str(tiny_folder)]) == 0
    assert "made from" in capsys.readouterr().out


def test_the_catalog_is_shown_without_fetching(capsys):
    _, shown = run_json(capsys, "show", "smollm2:135m")
    assert shown["stored"] is False and shown["parameters"] == 134_515_008
    assert Store().names() == ()


def test_a_model_of_the_catalog_that_only_the_hub_has_is_shown_with_its_facts(capsys):
    """What no opened source says is unknown; nothing is invented and nothing is fetched."""
    assert main(["show", "llama3.2:1b", "--offline"]) == 0
    shown = capsys.readouterr().out
    assert "smidgen pull hf:meta-llama/Llama-3.2-1B-Instruct" in shown and "700 million" in shown
    assert "mmlu" in shown and "49.3%" in shown and "published in" in shown and "unknown" in shown


def test_rm_forgets_the_gguf_written_of_a_folder(tiny_folder, capsys):
    main(["pull", str(tiny_folder), "--quiet"])
    capsys.readouterr()
    path = runnable.gguf_of(runnable.find("tiny"))
    assert path.is_file() and runnable.gguf_of(runnable.find("tiny")) == path
    _, removed = run_json(capsys, "rm", "tiny")
    assert not path.exists() and removed["removed"][0]["freed_bytes"] > 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["pull", "smolm2:135m"], "Did you mean 'smollm2:135m'"),
        (["pull", "tiny", "--nam", "x"], "No such option"),
        (["pull", "{gguf}", "--name", "../x"], "not a name"),
        (["pull", "{gguf}x"], "Did you mean"),
        (["list", "--jsn"], "No such option"),
        (["list", "all"], "unexpected extra argument"),
        (["show", "tinny"], "tiny:latest"),
        (["show", "hf:org"], "not a repository"),
        (["rm", "tinny"], "Did you mean 'tiny'"),
        (["rm"], "Missing argument"),
        (["rm", "tiny", "--yess"], "No such option"),
    ],
)
def test_typos_exit_2_and_name_the_nearest(words, part, tiny_gguf, capsys):
    main(["pull", str(tiny_gguf), "--quiet"])
    capsys.readouterr()
    assert main([word.format(gguf=tiny_gguf) for word in words]) == 2
    error = capsys.readouterr().err
    assert part.lower() in error.lower() and "Traceback" not in error
    assert Store().names() == ("tiny:latest",)


def test_one_wrong_name_removes_nothing(tiny_gguf, capsys):
    main(["pull", str(tiny_gguf), "--quiet"])
    assert main(["rm", "tiny", "tinny"]) == 2
    assert Store().names() == ("tiny:latest",)


def test_rm_asks_a_person(tiny_gguf, monkeypatch, capsys):
    main(["pull", str(tiny_gguf), "--quiet"])
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for answer, code, left in (("n\n", 130, 1), ("y\n", 0, 0)):
        typed = io.StringIO(answer)
        typed.isatty = lambda: True
        monkeypatch.setattr("sys.stdin", typed)
        assert main(["rm", "tiny"]) == code
        assert len(Store().names()) == left


def test_a_damaged_model_can_be_removed(tiny_gguf, capsys):
    main(["pull", str(tiny_gguf), "--quiet"])
    for blob in (Store().root / "blobs").iterdir():
        blob.unlink()
    assert main(["show", "tiny"]) == 2
    assert main(["rm", "tiny", "--yes"]) == 0
    assert Store().names() == ()


def test_models_of_a_registry_are_pulled_by_their_plain_names_and_pushed(registry, tiny_gguf, capsys):
    registry.add("library/llama3.2:latest", {"model": tiny_gguf, "system": "Be brief."})
    code, pulled = run_json(capsys, "pull", "llama3.2")
    assert code == 0 and pulled["name"] == "llama3.2:latest" and pulled["facts"]["system"] == "Be brief."
    host = registry.address.removeprefix("http://")
    assert main(["cp", "llama3.2", f"{host}/me/small:v2"]) == 0
    assert main(["push", f"{host}/me/small:v2", "--quiet"]) == 2
    assert "cannot be reached" in capsys.readouterr().err and "me/small:v2" not in registry.manifests
    code, pushed = run_json(capsys, "push", f"{host}/me/small:v2", "--insecure")
    assert code == 0 and pushed["address"] == f"http://{host}/me/small:v2"
    assert registry.manifests["me/small:v2"]
    config = json.loads(registry.blobs[json.loads(registry.manifests["me/small:v2"])["config"]["digest"]])
    assert config["model_family"] == "llama" and config["file_type"] == "F16"
    assert main(["push", "llama3.2", "--offline"]) == 2
