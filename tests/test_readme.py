"""Every command line, target, file and link that README, CONTRIBUTING and docs name exists."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
import typer

from smidgen.cli.main import root_command
from smidgen.errors import SmidgenError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACEHOLDER = re.compile(r"[A-Z]{2,}|…|\.\.\.")


def code_blocks(page: str) -> list[str]:
    """The lines of a page that are code: indented by four, or between fences."""
    lines, fenced = [], False
    for line in page.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line.strip())
    return lines


def whole_commands(page: str) -> list[str]:
    """Lines to type as they stand, without what begins them."""
    examples = re.findall(r"^For example: (.+)$", page, re.MULTILINE)
    lines = [re.sub(r"^(\$ |\.venv/bin/)", "", line) for line in [*code_blocks(page), *examples]]
    return [line for line in lines if re.match(r"smidgen( |$)", line)]


def mentions(page: str) -> list[str]:
    """Commands named in running text, which may leave out what is required."""
    return [span for span in re.findall(r"`([^`\n]+)`", page) if span.startswith("smidgen ")]


def words_of(line: str) -> list[str]:
    return shlex.split(line, comments=True)[1:]


def parse(words: list[str]) -> None:
    """Read a command line as smidgen does, without running it."""
    own = list(itertools.takewhile(lambda word: word.startswith("-"), words))
    name, *rest = words[len(own) :] or ["--help"]
    with root_command().make_context("smidgen", [*own, name]) as context:
        command = context.command.get_command(context, name)
        inner = command.make_context(name, rest[:1] if is_group(command) else rest, parent=context)
        if is_group(command) and rest:
            command.get_command(inner, rest[0]).make_context(rest[0], rest[1:], parent=inner)


def is_group(command) -> bool:
    return hasattr(command, "list_commands")


def check_mention(words: list[str]) -> None:
    """Check the names in a command line of which parts may be missing."""
    root = root_command()
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None or PLACEHOLDER.search(name):
        return
    with root.make_context("smidgen", [name]) as context:
        command = context.command.get_command(context, name)
        own = [word for word in words if not word.startswith("-")][1:2]
        if is_group(command) and own:
            command = command.get_command(context, own[0])
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("-") and option not in known | {"-h", "--help"}:
            raise SmidgenError(f"{name} has no option {option}.")


def every(find) -> list:
    found = [(page, item) for page in PAGES for item in find(page.read_text(encoding="utf-8"))]
    return [pytest.param(item, id=f"{page.name}: {item}") for page, item in found]


COMMANDS, MENTIONS = every(whole_commands), every(mentions)


def test_the_pages_name_commands():
    assert len(COMMANDS) >= 4 and len(MENTIONS) >= 1


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_parses(line):
    try:
        parse(words_of(line))
    except typer.Exit as ending:
        assert ending.exit_code == 0


@pytest.mark.parametrize("line", MENTIONS)
def test_every_command_that_is_mentioned_exists(line):
    check_mention(words_of(line))


@pytest.mark.parametrize(
    "line",
    [
        "smidgen mak smollm2:135m",
        "smidgen make smollm2:135m --fits 80MB",
        "smidgen prune --keep many",
        "smidgen rm",
        "smidgen data curat a.jsonl",
        "smidgen data curate a.jsonl",
        "smidgen data curate a.jsonl --outt b.jsonl",
    ],
)
def test_wrong_lines_are_noticed(line):
    with pytest.raises((SmidgenError, typer.TyperException)):
        parse(words_of(line))


@pytest.mark.parametrize(
    "line", ["smidgen mak", "smidgen make --fits 80MB", "smidgen data curat", "smidgen data curate --outt"]
)
def test_wrong_mentions_are_noticed(line):
    with pytest.raises(SmidgenError):
        check_mention(words_of(line))


def test_code_is_told_from_text():
    page = "`smidgen a`\n\n    smidgen b  # why\n\n```sh\n$ smidgen c 'd e'\n```\nsmidgen f\nFor example: smidgen g\n"
    assert whole_commands(page) == ["smidgen b  # why", "smidgen c 'd e'", "smidgen g"]
    assert mentions(page) == ["smidgen a"] and words_of("smidgen c 'd e'  # why") == ["c", "d e"]


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        spans = [*code_blocks(text), *re.findall(r"`([^`\n]+)`", text)]
        for span in spans:
            if span.startswith("make "):
                named.update(re.findall(r"[a-z]+", span.partition("#")[0])[1:])
    assert {"demo", "test"} <= named <= targets


def test_every_link_and_script_leads_somewhere():
    missing = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
        missing += [link for link in links if not (page.parent / link).exists()]
        named = re.findall(r"\b(?:scripts|examples|benchmarks)/[\w.-]*\w|\btests/\w+/|\bsrc/smidgen/\w+/", text)
        missing += [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_the_house_in_the_readme_is_the_house():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^      ([\w/.]+) {2,}\S", text, re.MULTILINE)
    house = ROOT / "src" / "smidgen"
    rooms = {f"{path.parent.name}/" for path in house.glob("*/__init__.py")}
    assert [name for name in drawn if not (house / name).exists()] == [] and rooms <= set(drawn)
