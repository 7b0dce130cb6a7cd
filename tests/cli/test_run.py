import io
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from smidgen.cli import _chat
from smidgen.cli._answers import Wrapper, columns
from smidgen.cli.main import main
from smidgen.export import runnable
from smidgen.inference.engine import Message, open_engine
from smidgen.inference.go_template import parse as parse_template
from smidgen.inference.options import GenerationOptions
from smidgen.inference.setup import Setup
from smidgen.models.store import Store


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

    _chat.read_lines(_chat.Prompt(chat, verbose=verbose), read=read)


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
        ("/set", "No setting is named"),
        ("/show", "No thing to show is named"),
        ("/show parametrs", "Did you mean 'parameters'"),
        ("/show info", "no model"),
        ("/show license", "no model"),
        ("/load", "name is missing"),
        ("/save", "name is missing"),
        ("/save x", "no model"),
        ("/set think loudly", "no way to think 'loudly'"),
        ("/set format xml", "'xml' is no format"),
    ],
)
def test_a_mistake_in_a_conversation_is_explained_and_it_goes_on(chat, line, part, capsys):
    talk(chat, line, "still here")
    shown = capsys.readouterr()
    assert part in shown.err and "still here" in shown.out


@pytest.mark.parametrize(("line", "part"), [("/help", "/set parameter"), ("/show parameters", "num_predict")])
def test_it_tells_about_itself(chat, line, part, capsys):
    talk(chat, line)
    shown = capsys.readouterr().out
    assert part in shown and "None" not in shown


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


def test_what_the_modelfile_says_is_honoured(capsys):
    setup = Setup(
        {"temperature": 0.25, "stop": ["STOP"]}, "Be brief.", (Message("user", "Q"), Message("assistant", "A"))
    )
    options = setup.options({"temperature": 0.5})
    assert options.temperature == 0.5 and options.stop == ("STOP",)
    template = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}<assistant>"
    laid_out = replace(setup, template=parse_template(template))
    chat = _chat.Chat(lambda _: open_engine("echo"), options, setup=laid_out)
    answer = "".join(chunk.text for chunk in chat.answer("Hi STOP there"))
    assert answer == "<system>Be brief.<user>Q<assistant>A<user>Hi "
    assert chat.prompt(Message("user", "on")).endswith("<user>on<assistant>")
    chat.system = "Shout."
    assert chat.prompt(Message("user", "on")).startswith("<system>Shout.<user>Q")


def test_the_model_s_memory_is_given_back_between_messages():
    opened = []

    def load(options):
        opened.append(open_engine("echo"))
        return opened[-1]

    with _chat.Chat(load, GenerationOptions()) as chat:
        chat.keep_alive = 0.05
        assert "".join(chunk.text for chunk in chat.answer("one")) == "one"
        deadline = time.monotonic() + 10
        while not opened[0]._closed and time.monotonic() < deadline:
            time.sleep(0.01)
        assert opened[0]._closed
        assert "".join(chunk.text for chunk in chat.answer("two")) == "two" and len(opened) == 2
        assert [message.content for message in chat.said] == ["one", "one", "two", "two"]


def test_settings_are_switched(chat, capsys):
    talk(chat, "/set think high", '/set system """You are', 'brief."""', "/show system", "/set format json")
    assert chat.think == "high" and chat.system == "You are\nbrief." and chat.schema["type"] == "object"
    talk(chat, "/set nothink", "/set noformat", "/set nowordwrap", "/set nohistory", "on")
    assert chat.think is False and chat.schema is None
    talk(chat, "/set format json", "held")
    assert "cannot be held to a format" in capsys.readouterr().err


def test_thinking_is_shown_apart(capsys):
    chat = _chat.Chat(lambda _: open_engine("echo"), GenerationOptions())
    chat.think = True
    talk(chat, "<think>Hm, well.</think>Yes.")
    assert "Thinking...\nHm, well.\n...done thinking.\n\nYes." in capsys.readouterr().out
    prompt = _chat.Prompt(chat, hide_thinking=True)
    prompt.take("<think>Hm.</think>No.")
    assert capsys.readouterr().out.strip() == "No."


def test_lines_are_broken_between_words():
    shown = io.StringIO()
    wrapper = Wrapper(shown, 10)
    for character in "aaa bbb ccc\nlonglonglonglong dd 日本語日本語 e":
        wrapper.write(character)
    wrapper.finish()
    lines = shown.getvalue().split("\n")
    assert lines[:2] == ["aaa bbb ", "ccc"] and "".join(lines).replace(" ", "").endswith("日本語日本語e")
    assert all(columns(line.rstrip()) <= 10 or "long" in line for line in lines)


def test_a_conversation_is_saved_and_gone_on_with(tiny_gguf, capsys):
    Store().add("base", {"model.gguf": tiny_gguf}, {"licence": "apache-2.0"})

    def begin(name):
        local = runnable.find(name)
        setup = Setup.of(local)
        options = setup.options({"num_ctx": 256, "num_thread": 1})
        return _chat.Chat(lambda _: open_engine("echo"), options, setup=setup, local=local)

    waiting = iter(["/set system Be kind.", "/set parameter temperature 0", "hello", "/save Kind", "/load kind", "on"])

    def read(prompt):
        line = next(waiting, None)
        if line is None:
            raise EOFError
        return line

    chat = begin("base")
    _chat.read_lines(_chat.Prompt(chat, begin), read=read)
    assert capsys.readouterr().err == ""
    facts = Store().resolve("kind").facts
    assert (
        facts["system"] == "Be kind." and facts["parameters"]["temperature"] == 0 and facts["parent"] == "base:latest"
    )
    assert facts["messages"] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello"}]
    assert chat.local.name == "kind:latest" and chat.options.temperature == 0
    before = chat.setup.conversation([])
    assert [message.content for message in before] == ["Be kind.", "hello", "hello"]


def test_a_model_follows_its_modelfile_and_a_format(tiny_gguf, tmp_path, capsys):
    path = tmp_path / "Modelfile"
    template = 'TEMPLATE "{{ .System }}: {{ .Prompt }}"\nSYSTEM Say'
    path.write_text(f"FROM {tiny_gguf}\n{template}\nPARAMETER temperature 0\nPARAMETER num_predict 5\n")
    assert main(["create", "plain", "-f", str(path), "--quiet"]) == 0
    capsys.readouterr()

    def answer(*words):
        assert main(["run", *words, "--json", "--quiet"]) == 0
        return json.loads(capsys.readouterr().out)

    expected = answer(str(tiny_gguf), "Say: words", "--raw", "--temperature", "0", "--num-predict", "5")
    found = answer("plain", "words")
    assert found["response"] == expected["response"] and found["metrics"]["generated_tokens"] == 5
    schema = '{"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}'
    held = answer("plain", "words", "--format", schema, "--num-predict", "60")
    assert set(json.loads(held["response"])) == {"n"}


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
        os.write(parent, b'good day\n"""two\nlines"""\n/set nothing\n/bye\n')
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
    shown = seen.decode(errors="replace").replace("\r", "")
    assert shown.count("good day") >= 2 and "\ntwo\nlines\n" in shown
    assert "There is no setting 'nothing'." in shown
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
