"""What the builds at hand say of themselves, and a server that is started, measured and stopped."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import psutil
import pytest

from smidgen import machine
from smidgen.inference import builds
from smidgen.inference.builds import bundled, features_in, measure_server

STAND_IN = '''#!{python}
"""Answers as llama-server does, for want of a real one."""
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({{"status": "ok"}})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply({answer})
    def reply(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

print("version: 1234 (abc) system_info: CPU : AVX2 = 1 | AVX512 = 1 | AMX_INT8 = 0 |", file=sys.stderr)
sys.stderr.flush()
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Answers).serve_forever()
'''


def program(folder: Path, answer: str) -> Path:
    path = folder / "llama-server"
    path.write_text(STAND_IN.format(python=sys.executable, answer=answer))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_bundled_engine_says_what_it_was_built_for() -> None:
    version = machine.inspect().versions["xllamacpp"]
    found = bundled(version)
    assert found is not None and found.version == version and found.reason is None
    assert {"AVX2", "FMA"} <= set(found.features) or {"NEON"} <= set(found.features)
    assert bundled(None) is None


def test_features_are_those_that_are_on() -> None:
    assert features_in("CPU : AVX = 1 | AVX512 = 0 | NEON = 1 | AVX = 1") == ("AVX", "NEON")
    assert features_in("") == ()


def test_a_server_is_measured_and_stopped(tmp_path: Path) -> None:
    path = program(tmp_path, '{"timings": {"predicted_per_second": 40.0 + asked["n_predict"]}}')
    found = measure_server(path, tmp_path / "model.gguf", threads=2)
    assert found.reason is None and found.tokens_per_second == 40.0 + builds.WRITTEN
    assert found.version == "1234 (abc)" and found.features == ("AVX2", "AVX512")
    assert not any(str(path) in " ".join(child.cmdline()) for child in psutil.Process().children())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\nexit 3\n", "exit code 3"),
        ("not a program", "format"),
    ],
)
def test_a_program_that_is_no_server_is_said(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "llama-server"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    found = measure_server(path, tmp_path / "model.gguf", threads=1)
    assert found.tokens_per_second is None and reason in (found.reason or "")


def test_an_answer_that_is_not_llama_cpp_s_is_said(tmp_path: Path) -> None:
    found = measure_server(program(tmp_path, '{"hello": 1}'), tmp_path / "model.gguf", threads=1)
    assert found.tokens_per_second is None and "timings" in (found.reason or "")


def test_without_a_model_nothing_is_started(tmp_path: Path) -> None:
    found = measure_server(tmp_path / "missing", None, threads=1)
    assert found.reason == "no model is at hand to measure it with"
