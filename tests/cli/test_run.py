import io
import json
import os
import select
import subprocess
import sys
import time

import pytest

from smidgen.cli import _chat
from smidgen.cli.main import main
from smidgen.inference.engine import Message, open_engine
from smidgen.inference.options import GenerationOptions


@pytest.fixture
def chat():
    opened = []

    def load(options):
        opened.append(options)
        return open_engine("echo", context=options.num_ctx)

    made = _chat.Chat(load, GenerationOptions(num_thread=1))
    made.opened = opened
    return made


def talk(chat, *lines, verbose=False):
    """Give lines to the conversation as if they were typed; an exception is raised where its line would come."""
    waiting = iter(lines)

    def read(prompt):
        line = next(waiting, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    _chat.read_lines(chat, None, verbose=verbose, read=read)


def test_a_prompt_is_answered(capsys):
    assert main(["run", "echo", "Hello", "there."]) == 0
    assert capsys.readouterr().out == "Hello there.\n"


def test_what_is_piped_stands_before_the_prompt(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("A text.\n"))
    assert main(["run", "echo", "Sum it up.", "--verbose"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "A text.\n\nSum it up.\n" and "answer 5 tokens" in shown.err


def test_the_answer_as_json(capsys):
    assert main(["run", "echo", "one two three", "--num-predict", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["response"] == "one two" and answer["reason"] == "length"
    assert answer["metrics"]["generated_tokens"] == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["run", "echo"], "no prompt"),
        (["run", "echo", "hi", "--temperature", "-1"], "temperature"),
        (["run", "echo", "hi", "--temperatur", "1"], "--temperature"),
        (["run", "smolm2:135m", "hi"], "Did you mean 'smollm2:135m'"),
        (["run", "echo", "hi", "--num-predict", "many"], "valid integer"),
        (["run", "./nothing.gguf", "hi"], "no file or folder"),
    ],
)
def test_typos_exit_2(words, part, capsys):
    assert main(words) == 2
    assert part in capsys.readouterr().err


def test_a_file_that_is_cut_short_is_refused(tiny_gguf, tmp_path, capsys):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:5000])
    assert main(["run", str(cut), "hi"]) in (1, 2)
    assert capsys.readouterr().err.startswith("error: ")


def test_turns_are_remembered_and_forgotten(chat, capsys):
    talk(chat, "first", '"""two', 'lines"""', "", "/set verbose", "third")
    said = [message.content for message in chat.said]
    assert said == ["first", "first", "two\nlines", "two\nlines", "third", "third"]
    assert "answer 1 tokens" in capsys.readouterr().err
    talk(chat, "/clear", "/bye", "never")
    assert chat.said == []


def test_system_and_parameters_are_set(chat, capsys):
    talk(chat, "/set system Be brief.", "/set parameter temperature 0", "/set parameter stop a b", "/show system")
    assert chat.system == "Be brief." and chat.options.temperature == 0 and chat.options.stop == ("a", "b")
    assert "Be brief." in capsys.readouterr().out
    talk(chat, "/set parameter num_ctx 8", "one two three four five six seven eight nine")
    assert [options.num_ctx for options in chat.opened] == [None, 8]
    assert chat.said == []


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("/cler", "Did you mean '/clear'"),
        ("/set parameter temprature 1", "Did you mean 'temperature'"),
        ("/set parameter temperature hot", "must be of type number"),
        ("/set parameter top_p 7", "expected 0 to 1"),
        ("/set parameter seed", "a name and a value"),
        ("/set systm x", "Did you mean 'system'"),
        ("/show parametrs", "Did you mean 'parameters'"),
    ],
)
def test_a_mistake_in_a_conversation_is_explained_and_it_goes_on(chat, line, part, capsys):
    talk(chat, line, "still here")
    shown = capsys.readouterr()
    assert part in shown.err and "still here" in shown.out


@pytest.mark.parametrize(
    ("line", "part"), [("/help", "/set parameter"), ("/show info", "no model"), ("/show parameters", "num_predict")]
)
def test_it_tells_about_itself(chat, line, part, capsys):
    talk(chat, line)
    assert part in capsys.readouterr().out


def test_ctrl_c_at_the_prompt_does_not_end_it(chat, capsys):
    talk(chat, KeyboardInterrupt(), "on")
    shown = capsys.readouterr()
    assert "on" in shown.out and "/bye" in shown.err


def test_ctrl_c_stops_the_answer_only(chat, monkeypatch, capsys):
    written = []

    def write(text):
        written.append(text)
        if len(written) == 2:
            raise KeyboardInterrupt
        return len(text)

    monkeypatch.setattr("sys.stdout.write", write)
    talk(chat, "one two three", "next")
    monkeypatch.undo()
    assert chat.said[:2] == [Message("user", "one two three"), Message("assistant", "one two")]
    assert chat.said[-1] == Message("assistant", "next")


def test_raw_text_is_continued_without_memory():
    chat = _chat.Chat(lambda options: open_engine("echo"), GenerationOptions(), raw=True)
    assert "".join(chunk.text for chunk in chat.answer("Once upon")) == "Once upon" and chat.said == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_conversation_in_a_real_terminal(smidgen_home):
    import pty

    parent, child = pty.openpty()
    words = [sys.executable, "-m", "smidgen", "run", "echo"]
    with subprocess.Popen(words, stdin=child, stdout=child, stderr=child, close_fds=True) as process:
        os.close(child)
        seen = b""
        os.write(parent, b"good day\n/bye\n")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if select.select([parent], [], [], 0.5)[0]:
                try:
                    seen += os.read(parent, 4096)
                except OSError:
                    break
            elif process.poll() is not None:
                break
        assert process.wait(30) == 0
    os.close(parent)
    assert seen.count(b"good day") >= 2
    assert "good day" in (smidgen_home / "history").read_text()


def test_the_real_model_answers(smollm2_gguf, capsys):
    words = ["run", str(smollm2_gguf), "The capital of France is", "--raw", "--temperature", "0", "--num-predict", "3"]
    assert main([*words, "--json", "--num-ctx", "64"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert "Paris" in first["response"] and first["metrics"]["generated_tokens"] == 3


def test_a_folder_is_run_through_a_gguf_in_the_cache(tiny_folder, smidgen_home, capsys):
    words = ["run", str(tiny_folder), "Words", "--temperature", "0", "--num-predict", "4", "--json", "--quiet"]
    assert main(words) == 0
    first = json.loads(capsys.readouterr().out)
    (cached,) = (smidgen_home / "cache").glob("*.gguf")
    stamp = cached.stat().st_mtime_ns
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["response"] == first["response"]
    assert cached.stat().st_mtime_ns == stamp
