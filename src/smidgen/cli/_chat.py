"""The conversation's prompt in the terminal: reading lines, and the words that begin with "/"."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import TYPE_CHECKING

from smidgen.cli import _answers
from smidgen.cli._conversation import Chat
from smidgen.cli._pictures import take_out
from smidgen.cli.screen import Screen, show_error
from smidgen.errors import EngineFailed, InvalidInput, ReferenceNotFound, SmidgenError
from smidgen.inference.options import GenerationOptions

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel

__all__ = ["Chat", "Prompt", "read_lines", "read_message", "schema_from"]

PROMPT, MORE = ">>> ", "... "
QUOTES = '"""'
MOST_SCHEMA = 1 << 18

HELP = '''/set parameter NAME VALUE   change how answers are made (temperature, seed, num_predict, num_ctx, stop, ...)
/set system TEXT            change what the model is to be; forgets the conversation
/set think, nothink         let the model think first, or not; /set think high where it knows levels
/set format json, noformat  hold answers to JSON, or to a schema in a file; or not
/set verbose, quiet         show or hide how fast each answer was
/set wordwrap, nowordwrap   break lines between words, or not
/set history, nohistory     keep these lines for later conversations, or not
/show info                  what the model is
/show parameters            how answers are made
/show system                what the model is to be
/show template              how a conversation is laid out
/show license               the text of its licence
/show modelfile             a Modelfile that makes the same model
/load NAME                  go on with another model, or with a saved conversation
/save NAME                  keep this model with its settings and this conversation under a name
/clear                      forget the conversation
/bye                        end (as Ctrl-D does)
/?, /help                   this text
"""                         begins and ends a message of several lines
Ctrl-C                      stops an answer'''

_SWITCHES = {
    "verbose": ("verbose", True),
    "quiet": ("verbose", False),
    "wordwrap": ("wrap", True),
    "nowordwrap": ("wrap", False),
    "history": ("history", True),
    "nohistory": ("history", False),
}


class Prompt:
    """Reads lines, answers them, and understands the words that begin with "/".

    Args:
        chat: The conversation.
        open_chat: Begins a conversation with another model; None where there is no other.
        verbose: Show how fast each answer was.
        wrap: Break lines between words.
        hide_thinking: Show only what is said.
    """

    def __init__(
        self,
        chat: Chat,
        open_chat: Callable[[str], Chat] | None = None,
        *,
        verbose: bool = False,
        wrap: bool = True,
        hide_thinking: bool = False,
    ) -> None:
        self.chat, self.verbose, self.wrap, self.hide_thinking = chat, verbose, wrap, hide_thinking
        self.history = True
        self.screen = Screen()
        self._open_chat = open_chat

    def take(self, text: str) -> bool:
        """Answer one message or do what one command says; returns whether to go on."""
        if text.startswith("/"):
            return self._obey(text)
        if text.strip():
            self._answer(text)
        return True

    def _obey(self, line: str) -> bool:
        word, _, rest = line.strip().partition(" ")
        if word in ("/bye", "/exit"):
            return False
        known: dict[str, Callable[[str], None]] = {
            "/set": self._set,
            "/show": self._show,
            "/load": self._load,
            "/save": self._save,
            "/clear": self._clear,
            "/help": lambda _: self.screen.text(HELP),
            "/?": lambda _: self.screen.text(HELP),
        }
        if word not in known:
            raise ReferenceNotFound.among("command", word, [*known, "/bye"])
        known[word](rest.strip())
        return True

    def _clear(self, _: str = "") -> None:
        self.chat.said.clear()
        self.screen.text("The conversation is forgotten.")

    def _set(self, rest: str) -> None:
        what, _, value = rest.partition(" ")
        known: dict[str, Callable[[str], None]] = {
            "parameter": self._set_parameter,
            "system": self._set_system,
            "think": self._set_think,
            "nothink": lambda _: self._set_think("false"),
            "format": self._set_format,
            "noformat": lambda _: self._set_format(""),
        }
        if what in _SWITCHES:
            name, on = _SWITCHES[what]
            setattr(self, name, on)
        elif what in known:
            known[what](value.strip())
        else:
            raise _unknown("setting", what, [*known, *_SWITCHES])

    def _set_parameter(self, value: str) -> None:
        words = _split(value)
        if len(words) < 2:
            raise InvalidInput("A parameter needs a name and a value.", remedy="As in: /set parameter temperature 0")
        self.chat.set_option(words[0], words[1:])
        self.screen.text(f"{words[0]} is {getattr(self.chat.options, words[0])!r}.")

    def _set_system(self, value: str) -> None:
        self.chat.system = value.strip('"')
        self._clear()

    def _set_think(self, value: str) -> None:
        self.chat.think = read_think(value or "true")

    def _set_format(self, value: str) -> None:
        self.chat.schema = None if not value else schema_from(value)

    def _show(self, rest: str) -> None:
        known: dict[str, Callable[[], None]] = {
            "info": self._show_info,
            "parameters": self._show_parameters,
            "system": lambda: self.screen.text(self._system() or "No system text is set."),
            **dict.fromkeys(("license", "modelfile", "template"), lambda: self._show_part(rest)),
        }
        if rest not in known:
            raise _unknown("thing to show", rest, known)
        known[rest]()

    def _system(self) -> str | None:
        return self.chat.setup.system if self.chat.system is None else self.chat.system

    def _show_parameters(self) -> None:
        options = self.chat.options
        given = [(each.name, getattr(options, each.name)) for each in fields(GenerationOptions)]
        # What nobody has set is as the model or the machine has it.
        rows = [(name, json.dumps(value)) for name, value in given if value not in (None, ())]
        self.screen.table(("parameter", "value"), rows)

    def _show_info(self) -> None:
        from smidgen.cli.show import rows
        from smidgen.models.facts import inspect

        local = self._model()
        self.screen.table((local.name, ""), rows(inspect(local)))

    def _show_part(self, name: str) -> None:
        from smidgen.cli import _about

        self.screen.text(_about.part(self._model(), name))

    def _model(self) -> LocalModel:
        if self.chat.local is None:
            raise ReferenceNotFound("The echo engine has no model.")
        return self.chat.local

    def _load(self, name: str) -> None:
        if not name or self._open_chat is None:
            raise InvalidInput("A model's name is missing.", remedy="As in: /load smollm2:135m")
        self.chat.switch(self._open_chat(name))
        self.screen.text(f"Going on with {name}.")

    def _save(self, name: str) -> None:
        from smidgen.cli._saving import save

        if not name:
            raise InvalidInput("A name is missing.", remedy="As in: /save my-helper")
        stored = save(self.chat, self._model(), name)
        self.screen.text(f"{stored} is in the store; /load {stored} goes on from here.")

    def _answer(self, text: str) -> None:
        from smidgen.cli.run import describe_metrics

        last = None
        text, images = take_out(self.chat, text, self.screen.say)
        with suppress(KeyboardInterrupt):
            last = _answers.show(self.chat, text, images, wrap=self.wrap, hide_thinking=self.hide_thinking)
        sys.stdout.write("\n\n")
        if self.verbose and last is not None and last.metrics is not None:
            self.screen.say(describe_metrics(last.metrics) + "\n")


def _unknown(kind: str, name: str, known: Iterable[str]) -> SmidgenError:
    if not name:
        return InvalidInput(f"No {kind} is named.", remedy=f"Known: {', '.join(sorted(known))}.")
    return ReferenceNotFound.among(kind, name, known)


def read_think(value: str) -> bool | str:
    """Read whether, or how hard, a model shall think.

    Raises:
        ReferenceNotFound: It is no such word.

    Example:
        >>> read_think("true"), read_think("HIGH"), read_think("false")
        (True, 'high', False)
    """
    words: dict[str, bool | str] = {"true": True, "false": False, "low": "low", "medium": "medium", "high": "high"}
    if value.lower() not in words:
        raise ReferenceNotFound.among("way to think", value, words)
    return words[value.lower()]


def schema_from(text: str) -> dict[str, object]:
    """Read an answer's format: "json", a JSON schema, or the path of a file that holds one.

    Raises:
        InvalidInput: It is none of these.
    """
    from pathlib import Path

    from smidgen.inference.structured import schema_of

    if text == "json":
        return schema_of("json", most_bytes=MOST_SCHEMA)
    place = Path(text).expanduser()
    content = place.read_text(encoding="utf-8") if not text.startswith("{") and place.is_file() else text
    try:
        wanted = json.loads(content)
    except ValueError:
        raise InvalidInput(
            f"{text!r} is no format for answers.", remedy="Give json, a JSON schema, or a file that holds one."
        ) from None
    return schema_of(wanted, most_bytes=MOST_SCHEMA)


def read_lines(prompt: Prompt, *, read: Callable[[str], str] = input) -> None:
    """Hold the conversation until it is ended by a word or by the end of input.

    Args:
        prompt: What answers the lines.
        read: Shows a prompt and returns a line; raises EOFError at the end.

    Raises:
        EngineFailed: The engine stopped; nothing more can be answered.
    """
    with _history(prompt):
        going = True
        while going:
            try:
                going = prompt.take(read_message(read))
            except EOFError:
                sys.stdout.write("\n")
                return
            except KeyboardInterrupt:
                sys.stdout.write("\n")
                Screen().say("Ctrl-D or /bye ends the conversation.")
            except EngineFailed:
                raise
            except SmidgenError as error:
                show_error(error)


def read_message(read: Callable[[str], str]) -> str:
    r'''Read one message: a line, or several between triple quotes; what /set system is told may span lines too.

    Example:
        >>> lines = iter(['"""one', 'two"""'])
        >>> read_message(lambda prompt: next(lines))
        'one\ntwo'
    '''
    line = read(PROMPT)
    command = "/set system "
    head = command if line.lstrip().startswith(command) else ""
    text = line.lstrip().removeprefix(head).lstrip()
    if not text.startswith(QUOTES):
        return line
    text = text.removeprefix(QUOTES)
    while not text.rstrip().endswith(QUOTES):
        text += "\n" + read(MORE)
    return head + text.rstrip().removesuffix(QUOTES)


@contextmanager
def _history(prompt: Prompt) -> Iterator[None]:
    """Keep the lines of earlier conversations at hand, where the system can edit lines and a person types."""
    try:
        import readline
    except ImportError:
        yield
        return
    if not sys.stdin.isatty():
        yield
        return
    from smidgen.models.store import default_root

    path = default_root() / "history"
    with suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with suppress(OSError):
            if prompt.history:
                path.parent.mkdir(parents=True, exist_ok=True)
                readline.write_history_file(path)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
