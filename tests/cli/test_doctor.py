import json
import stat

import pytest

from smidgen import machine
from smidgen.cli.doctor import MODEL_SIZES, advise, speed_limit
from smidgen.cli.main import main


def test_the_report_as_json(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SMIDGEN_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    assert main(["doctor", "--json"]) == 0
    out = capsys.readouterr().out
    report = json.loads(out)
    assert report["store"]["folder"] == str(tmp_path / "store") and not (tmp_path / "store").exists()
    assert report["machine"]["cores_logical"] >= 1 and report["engines"]["xllamacpp"]
    assert report["hf_token"] is True and "secret-token" not in out
    limits = report["speed_limit_tokens_per_second"]
    assert set(limits) == set(MODEL_SIZES) and limits["80 MB"] > limits["1 GB"] > limits["4 GB"] > 0


def test_the_report_for_a_person(capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["doctor"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for words in ("processor", "bandwidth", "xllamacpp", "tok/s", "What would help", "HF_TOKEN is not set"):
        assert words in captured.out


def test_a_server_on_the_path_is_found(capsys, monkeypatch, tmp_path):
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["engines"]["llama-server"] == str(program)
    assert not any("AVX2" in line for line in report["advice"])


def found(**changes):
    values = machine.inspect().to_dict()
    values |= {"flags": ("avx2",), "fast_bfloat16": True, "memory_available": 10**11, "disk_free": 10**12, "gpus": ()}
    return machine.Machine(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flags": ("avx2", "amx_bf16")}, "AVX2 only"),
        ({"fast_bfloat16": False}, "bfloat16"),
        ({"memory_available": 10**9}, "Little memory"),
        ({"disk_free": 10**9}, "SMIDGEN_HOME"),
    ],
)
def test_advice_follows_from_what_was_found(changes, words):
    engines = {"xllamacpp": "1", "llama-server": None}
    assert advise(found(), engines, token=True) == []
    (line,) = advise(found(**changes), engines, token=True)
    assert words in line


def test_no_engine_is_said_first():
    lines = advise(found(), {"xllamacpp": None, "llama-server": None}, token=False)
    assert "pip install xllamacpp" in lines[0] and "HF_TOKEN" in lines[1]


def test_the_speed_limit_is_bandwidth_over_bytes():
    assert speed_limit(16e9, 80_000_000) == 200.0
