"""A conversation in the terminal: what was said, the words that begin with "/", and reading lines."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from smidgen.cli.screen import Screen, show_error
from smidgen.errors import EngineFailed, InvalidInput, ReferenceNotFound, SmidgenError
from smidgen.inference.engine import Message
from smidgen.inference.options import GenerationOptions, read_option

if TYPE_CHECKING:
    from smidgen.inference.engine import Chunk, Engine
    from smidgen.models.sources import LocalModel

PROMPT, MORE = ">>> ", "... "
QUOTES = '"""'
LOADED_WITH = ("num_ctx", "num_thread")
"""Options for which the model is loaded anew."""

HELP = '''/set parameter NAME VALUE   change how answers are made (temperature, seed, num_predict, num_ctx, stop, ...)
/set system TEXT            change what the model is to be; forgets the conversation
/set verbose, /set quiet    show or hide how fast each answer was
/show info                  what the model is
/show parameters            how answers are made
/show system                what the model is to be
/clear                      forget the conversation
/bye                        end (as Ctrl-D does)
/help                       this text
"""                         begins and ends a message of several lines
Ctrl-C                      stops an answer'''


class Chat:
    """A conversation with one model. A context manager that gives the model's memory back.

    Args:
        load: Loads the model for given options.
        options: How answers are made.
        system: What the model is to be.
        raw: Continue each text as it stands; nothing that was said before is repeated to the model.
    """

    def __init__(
        self,
        load: Callable[[GenerationOptions], Engine],
        options: GenerationOptions,
        *,
        system: str | None = None,
        raw: bool = False,
    ) -> None:
        self.options, self.system, self.raw = options, system, raw
        self.said: list[Message] = []
        self._load = load
        self._engine = load(options)

    def answer(self, text: str) -> Generator[Chunk, None, None]:
        """Answer; what was said is remembered when the answer ends or is stopped."""
        if self.raw:
            yield from self._engine.complete(text, self.options)
            return
        begin = [Message("system", self.system)] if self.system else []
        asked = Message("user", text)
        written: list[str] = []
        try:
            for chunk in self._engine.chat([*begin, *self.said, asked], self.options):
                written.append(chunk.text)
                yield chunk
        finally:
            if any(written):
                self.said += [asked, Message("assistant", "".join(written))]

    def set_option(self, name: str, words: list[str]) -> None:
        """Change one option, loading the model anew where it takes effect only then.

        Raises:
            ReferenceNotFound: There is no such option.
            RecipeError: The value is of the wrong kind or out of range.
        """
        changed = replace(self.options, **{name: read_option(name, words)})
        if name in LOADED_WITH and changed != self.options:
            fresh = self._load(changed)
            self._engine.close()
            self._engine = fresh
        self.options = changed

    def close(self) -> None:
        """Give the model's memory back."""
        self._engine.close()

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Prompt:
    """Reads lines, answers them, and understands the words that begin with "/".

    Args:
        chat: The conversation.
        local: The model's files, for ``/show info``.
        verbose: Show how fast each answer was.
    """

    def __init__(self, chat: Chat, local: LocalModel | None, *, verbose: bool = False) -> None:
        self.chat, self.local, self.verbose = chat, local, verbose
        self.screen = Screen()

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
        if what == "parameter":
            words = _split(value)
            if len(words) < 2:
                raise InvalidInput(
                    "A parameter needs a name and a value.", remedy="As in: /set parameter temperature 0"
                )
            self.chat.set_option(words[0], words[1:])
            self.screen.text(f"{words[0]} is {getattr(self.chat.options, words[0])!r}.")
        elif what == "system":
            self.chat.system = value.strip().strip('"') or None
            self._clear()
        elif what in ("verbose", "quiet"):
            self.verbose = what == "verbose"
        else:
            raise ReferenceNotFound.among("setting", what, ["parameter", "system", "verbose", "quiet"])

    def _show(self, rest: str) -> None:
        if rest == "parameters":
            options = self.chat.options
            changed = {each.name: getattr(options, each.name) for each in fields(options)}
            self.screen.table(("parameter", "value"), [(name, value) for name, value in changed.items()])
        elif rest == "system":
            self.screen.text(self.chat.system or "No system text is set.")
        elif rest == "info":
            self._show_info()
        else:
            raise ReferenceNotFound.among("thing to show", rest, ["info", "parameters", "system"])

    def _show_info(self) -> None:
        from smidgen.cli.show import rows
        from smidgen.models.facts import inspect

        if self.local is None:
            self.screen.text("The echo engine has no model.")
            return
        self.screen.table((self.local.name, ""), rows(inspect(self.local)))

    def _answer(self, text: str) -> None:
        from smidgen.cli.run import describe_metrics

        answer = self.chat.answer(text)
        last = None
        try:
            for last in answer:
                sys.stdout.write(last.text)
                sys.stdout.flush()
        except KeyboardInterrupt:
            answer.close()
        sys.stdout.write("\n\n")
        if self.verbose and last is not None and last.metrics is not None:
            self.screen.say(describe_metrics(last.metrics) + "\n")


def read_lines(chat: Chat, local: LocalModel | None, *, verbose: bool, read: Callable[[str], str] = input) -> None:
    """Hold the conversation until it is ended by a word or by the end of input.

    Args:
        chat: The conversation.
        local: The model's files.
        verbose: Show how fast each answer was.
        read: Shows a prompt and returns a line; raises EOFError at the end.

    Raises:
        EngineFailed: The engine stopped; nothing more can be answered.
    """
    prompt = Prompt(chat, local, verbose=verbose)
    with _history():
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
    r'''Read one message: a line, or several between triple quotes.

    Example:
        >>> lines = iter(['"""one', 'two"""'])
        >>> read_message(lambda prompt: next(lines))
        'one\ntwo'
    '''
    line = read(PROMPT)
    if not line.lstrip().startswith(QUOTES):
        return line
    text = line.lstrip().removeprefix(QUOTES)
    while not text.rstrip().endswith(QUOTES):
        text += "\n" + read(MORE)
    return text.rstrip().removesuffix(QUOTES)


@contextmanager
def _history() -> Iterator[None]:
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
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
