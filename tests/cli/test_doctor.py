import json
import stat

import pytest

from smidgen import machine
from smidgen.cli import doctor
from smidgen.cli.doctor import MODEL_SIZES, advise, missing_extras, speed_limit
from smidgen.cli.main import main
from smidgen.inference.builds import Build


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
    assert report["flops"] > 1e8 and report["bandwidth_bytes_per_second"] > 1e8 and report["threads"] >= 1
    assert report["energy"].startswith("readable: ") or "not readable here" in report["energy"]
    assert report["bundled_engine"]["features"] and report["bundled_engine"]["tokens_per_second"] is None
    assert report["server_on_path"] is None


def test_the_report_for_a_person(capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["doctor"]) == 0
    captured = capsys.readouterr()
    assert "measuring this machine" in captured.err
    shown = ("processor", "bandwidth", "GFLOP/s", "xllamacpp", "bundled build", "not in the store", "tok/s")
    for words in (*shown, "What would help", "HF_TOKEN is not set"):
        assert words in captured.out


def test_a_server_on_the_path_is_found(capsys, monkeypatch, tmp_path):
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["engines"]["llama-server"] == str(program)
    assert not any("was not built for" in line for line in report["advice"])
    assert report["server_on_path"]["reason"] == "no model is at hand to measure it with"
    assert any("smidgen pull smollm2:135m first" in line for line in report["advice"])


def found(**changes):
    values = machine.inspect().to_dict()
    values |= {"flags": ("avx2",), "fast_bfloat16": True, "memory_available": 10**11, "disk_free": 10**12, "gpus": ()}
    return machine.Machine(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flags": ("avx2", "avx512_vnni")}, "has avx512_vnni, which the bundled engine was not built for"),
        ({"fast_bfloat16": False}, "bfloat16"),
        ({"memory_available": 10**9}, "Little memory"),
        ({"disk_free": 10**9}, "SMIDGEN_HOME"),
    ],
)
def test_advice_follows_from_what_was_found(changes, words):
    engines = {"xllamacpp": "1", "llama-server": None}
    assert advise(found(), engines, token=True, features=("AVX2", "FMA")) == []
    (line,) = advise(found(**changes), engines, token=True, features=("AVX2", "FMA"))
    assert words in line


def test_no_engine_is_said_first():
    lines = advise(found(), {"xllamacpp": None, "llama-server": None}, token=False)
    assert "pip install xllamacpp" in lines[0] and "HF_TOKEN" in lines[1]


def test_the_speed_limit_is_bandwidth_over_bytes():
    assert speed_limit(16e9, 80_000_000) == 200.0


@pytest.mark.parametrize(
    ("server", "bundled", "words"),
    [
        (None, 50.0, None),
        (Build("llama-server", "/bin/it", tokens_per_second=65.0), 50.0, "1.30 times as fast"),
        (Build("llama-server", "/bin/it", tokens_per_second=51.0), 50.0, None),
        (Build("llama-server", "/bin/it", reason="it ended"), 50.0, "could not be measured: it ended"),
        (Build("llama-server", "/bin/it", tokens_per_second=65.0), None, "was not compared"),
    ],
)
def test_a_server_is_praised_for_what_it_was_measured_to_do(server, bundled, words):
    lines = doctor._about_server(server, bundled)
    assert lines == [] if words is None else words in lines[0]


def test_settings_that_leave_cores_idle_are_said():
    assert doctor._about_setting(found(cores_physical=2), 2, nvidia=False) == []
    assert "Only 1 of 2 cores" in doctor._about_setting(found(cores_physical=2), 1, nvidia=False)[0]
    assert "cannot use" in doctor._about_setting(found(cores_physical=2), 2, nvidia=True)[0]


def test_extras_that_are_missing_are_named_with_their_command(monkeypatch):
    from importlib import metadata

    real = metadata.version

    def version(name):
        if name == "pyarrow":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    assert "dev" not in missing_extras()
    monkeypatch.setattr(metadata, "version", version)
    missing = missing_extras()["data"]
    assert "pyarrow" in missing["packages"] and missing["command"] == "pip install 'smidgen[data]'"
