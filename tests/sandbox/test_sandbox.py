"""What generated programs may do, and what ends them."""

import sys

import pytest

from smidgen import sandbox
from smidgen.sandbox import Limits, Protection, child

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")


@pytest.mark.parametrize("program", ["x = [1]\nassert x", "open('own', 'w').write('text')", "import decimal, random"])
def test_a_harmless_program_runs_to_its_end(program):
    assert sandbox.run(program) == sandbox.Outcome(True)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert False, 'no'", "AssertionError: no"),
        ("x =", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "ended early with exit code 0"),
        ("input()", "EOFError"),
        ("def f(): f()\nf()", "RecursionError"),
    ],
)
def test_a_program_that_does_not_reach_its_end_has_failed(program, reason):
    outcome = sandbox.run(program)
    assert not outcome.passed and outcome.reason.startswith(reason)


@on_linux
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("while True: pass", "not done after 1 s of processor time"),
        ("x = []\nwhile True: x.append(bytearray(2**24))", "MemoryError"),
        ("f = open('big', 'wb')\nwhile True: f.write(bytes(2**16))", "OSError: [Errno 27]"),
        ("import os\nwhile True: os.fork()", "PermissionError"),
        ("import subprocess; subprocess.run(['true'])", "PermissionError"),
        ("import os; os.execv('/bin/true', ['true'])", "PermissionError"),
        ("import os; os.kill(os.getppid(), 9)", "PermissionError"),
        ("import os; os.setsid()", "PermissionError"),
        ("import socket; socket.socket()", "PermissionError"),
        ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99))", "ValueError"),
        ("x = [open('/dev/null') for _ in range(99)]", "OSError: [Errno 24]"),
    ],
)
def test_what_loops_forks_fills_or_connects_is_ended(program, reason):
    limits = Limits(processor_seconds=1, memory_bytes=2**28, file_bytes=2**18, open_files=32)
    outcome = sandbox.run(program, limits)
    assert not outcome.passed and outcome.reason.startswith(reason)


@on_linux
def test_nothing_is_written_outside(tmp_path):
    if not sandbox.protection().files:
        pytest.skip("this kernel has no Landlock")
    own = tmp_path / "own"
    own.write_text("mine")
    for program in (
        f"open({str(own)!r}, 'a')",
        f"import os; os.remove({str(own)!r})",
        f"open({str(own)!r} + 'x', 'w')",
    ):
        assert sandbox.run(program).reason.startswith("PermissionError")
    assert own.read_text() == "mine" and list(tmp_path.iterdir()) == [own]


def test_a_program_that_waits_is_ended_by_the_clock():
    assert sandbox.run("import time; time.sleep(600)", Limits(seconds=0.5)).reason == "not done after 0.5 s"


@on_linux
def test_a_program_that_computes_has_its_processor_time_whatever_the_clock_says():
    program = "import time\nbegin = time.process_time()\nwhile time.process_time() < begin + 0.5: pass"
    assert sandbox.run(program, Limits(seconds=0.2)).passed


@on_linux
def test_what_holds_programs_here_is_enough():
    held = sandbox.protection()
    assert held.enough and held.processes == "seccomp" and held.network.startswith("seccomp")
    assert not Protection().enough and not Protection(True, "seccomp", "Python only").enough


def test_threads_may_run_and_the_environment_is_not_the_users(monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    program = (
        "import os, threading\nt = threading.Thread(target=print)\nt.start(); t.join()\nassert 'HOME' in os.environ"
    )
    assert sandbox.run(program).passed and sandbox.run(f"{program}; assert 'SECRET' not in os.environ").passed


def test_sockets_are_taken_out_where_nothing_better_is_there(monkeypatch):
    import socket

    for name in ("socket", "create_connection", "create_server", "socketpair", "fromfd", "getaddrinfo"):
        monkeypatch.setattr(socket, name, getattr(socket, name))
    child.without_sockets()
    with pytest.raises(PermissionError, match="no network"):
        socket.socket()
