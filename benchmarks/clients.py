"""Claim: the clients that people use work against ``smidgen serve``, unchanged.

    python benchmarks/clients.py [--model smollm2:135m] [--limit 128] [--threads N] [--suite NAME] [--json]

Into a folder for temporary files come an environment with the clients of Ollama, OpenAI and Anthropic, LangChain's
packages for the three, and langchain-tests; and the source distribution of langchain-ollama, for its integration tests.
Every test runs twice on a real port: against a store in which the model bears the names that the tests expect, and
against the echo engine that says what a script says (`benchmarks/_clients/scripted.py`). A test that only the script
passes is judged by content: the protocol is right, the model does not do it. Exit code 1 where a test fails both.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from _serving import addressed

from smidgen.errors import SmidgenError
from smidgen.models.reference import Reference
from smidgen.models.sources import fetch
from smidgen.models.store import Store

HERE = Path(__file__).resolve().parent
NAME = "clients:latest"
"""The model's name, where no test expects another."""

OWN = "langchain-ollama==1.1.0"
PACKAGES = (
    "ollama==0.6.3",
    "openai==3.54.0",
    "anthropic==2.12.0",
    OWN,
    "langchain-openai==1.7.3",
    "langchain-anthropic==1.7.7",
    "langchain-tests==1.1.9",
    "pytest-timeout==2.4.0",
)
SUITES = {
    "official clients": HERE / "_clients" / "official_clients.py",
    "langchain-tests": HERE / "_clients" / "standard_suites.py",
    "langchain-ollama": Path("tests", "integration_tests"),
}
"""A suite's name -> its file or folder; a relative one lies in langchain-ollama's source distribution."""

PASSED, CONTENT, FAILED, SKIPPED = "passed", "judged by content", "failed", "skipped"
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pyproject.toml", "-o", "addopts=", "--timeout=300")
ONE_LOOP = ("-o", "asyncio_default_test_loop_scope=session", "-o", "asyncio_default_fixture_loop_scope=session")
"""langchain-openai keeps its connections for all tests, so all must run in one loop."""

OFFLINE = re.compile("Name or service not known|name resolution|nodename nor servname")
"""What a test says that wanted something from elsewhere, where there is no network."""

Outcomes = dict[str, tuple[str, str]]
"""A test's name -> how it ended, and what it said about that."""


def prepared(work: Path) -> tuple[Path, Path]:
    """Make what the tests need, where it is not there from an earlier run.

    Returns:
        The environment's Python, and the folder of langchain-ollama's source distribution.
    """
    python = work / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    mark = work / "installed.json"
    if not mark.is_file() or json.loads(mark.read_text()) != list(PACKAGES):
        venv.create(work / "venv", with_pip=True, clear=True)
        subprocess.run([python, *PIP, "install", *PACKAGES], check=True, stdout=sys.stderr)
        sources = [*PIP, "download", "--no-deps", "--no-binary", ":all:", "--dest", work, OWN]
        subprocess.run([python, *sources], check=True, stdout=sys.stderr)
        (packed,) = work.glob("langchain_ollama-*.tar.gz")
        subprocess.run(["tar", "-xzf", packed.name], cwd=work, check=True)
        mark.write_text(json.dumps(PACKAGES))
    (folder,) = (path for path in work.glob("langchain_ollama-*") if path.is_dir())
    return python, folder


def expected_names(tests: Path) -> list[str]:
    """Return the names of models that a package's tests take for granted."""
    found = re.compile(r'MODEL_NAME = (?:os\.environ\.get\("\w+", )?"([^"]+)"')
    return sorted({name for path in tests.rglob("*.py") for name in found.findall(path.read_text(encoding="utf-8"))})


def stored(work: Path, model: str, names: list[str], limit: int) -> Path:
    """Put a model into a store of its own under every name, with at most ``limit`` tokens an answer."""
    home = work / "home"
    path = fetch(Reference("catalog", model), Store()).path
    (work / "Modelfile").write_text(f"FROM {path}\nPARAMETER num_predict {limit}\n", encoding="utf-8")
    environment = os.environ | {"SMIDGEN_HOME": str(home)}
    for words in (["create", NAME, "-f", work / "Modelfile"], *(["cp", NAME, name] for name in names)):
        smidgen = [sys.executable, "-m", "smidgen", *words, "--quiet"]
        subprocess.run(smidgen, check=True, stdout=sys.stderr, env=environment)
    return home


def tested(python: Path, folder: Path, suite: Path, address: str) -> Outcomes:
    """Run a suite against a server."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LANGSMITH", "LANGCHAIN"))}
    environment |= {"CLIENTS_ADDRESS": address, "CLIENTS_MODEL": NAME, "OLLAMA_HOST": address}
    with tempfile.TemporaryDirectory() as place:
        told = Path(place) / "outcomes.xml"
        words = [python, *PYTEST, *ONE_LOOP, f"--junitxml={told}", suite]
        subprocess.run(words, cwd=folder, env=environment, check=False, stdout=sys.stderr)
        return outcomes(told.read_text(encoding="utf-8"))


def outcomes(told: str) -> Outcomes:
    """Read what pytest wrote; a test that is expected to fail and does, failed."""
    found: Outcomes = {}
    for case in ElementTree.fromstring(told).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        ending = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        if ending is None:
            found[name] = PASSED, ""
        elif ending.tag == "skipped" and ending.get("type") != "pytest.xfail":
            found[name] = SKIPPED, ending.get("message", "")
        elif OFFLINE.search(ending.text or ""):
            found[name] = SKIPPED, "fetches something from the open network"
        else:
            found[name] = FAILED, (ending.text or ending.get("message", "")).strip()
    return found


def judged(real: Outcomes, scripted: Outcomes) -> Outcomes:
    """Tell what the model did not do from what the server did not do."""
    found: Outcomes = {}
    for name, (ending, why) in real.items():
        by_script = scripted.get(name, (FAILED, ""))[0]
        if ending == FAILED and by_script == PASSED:
            found[name] = CONTENT, reason(why)
        elif ending == PASSED and by_script == FAILED:
            found[name] = FAILED, "with the script: " + reason(scripted.get(name, ("", "it was not run"))[1])
        else:
            found[name] = ending, reason(why) if ending == FAILED else why
    return found


def reason(text: str) -> str:
    """Return the line of a test's report that says what went wrong."""
    lines = [line.removeprefix("E").strip() for line in text.splitlines() if line.startswith("E  ")]
    return (lines or text.splitlines() or [""])[0][:160]


def table(found: Mapping[str, Outcomes]) -> list[str]:
    """Draw the counts, then every test that did not pass with its reason."""
    endings = (PASSED, CONTENT, FAILED, SKIPPED)
    lines = [f"| suite | tests | {' | '.join(endings)} |", "|---" * (2 + len(endings)) + "|"]
    for suite, tests in found.items():
        counts = [sum(ending == each for each, _ in tests.values()) for ending in endings]
        lines.append(f"| {suite} | {len(tests)} | {' | '.join(map(str, counts))} |")
    for ending in endings[1:]:
        told = [(name, why) for tests in found.values() for name, (each, why) in tests.items() if each == ending]
        lines += ["", f"{ending}:", *(f"  {name}  {why}" for name, why in told)] if told else []
    return lines


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--limit", type=int, default=128, help="tokens that an answer has at most")
    parser.add_argument("--threads", type=int, help="threads that the model computes with; one on a busy machine")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "smidgen-clients")
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this one; may be given again")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(given)
    asked.work.mkdir(parents=True, exist_ok=True)
    work = asked.work.resolve()
    try:
        python, folder = prepared(work)
        home = stored(work, asked.model, expected_names(folder / "tests"), asked.limit)
    except SmidgenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    threads = ["--threads", str(asked.threads)] if asked.threads else []
    servers = [["-m", "smidgen", "serve", "--port", "0", "--json", *threads], [str(HERE / "_clients" / "scripted.py")]]
    found: dict[str, list[Outcomes]] = {name: [] for name in asked.suite or SUITES}
    for words in servers:
        with addressed(words, SMIDGEN_HOME=str(home)) as address:
            for name, both in found.items():
                both.append(tested(python, folder, folder / SUITES[name], address))
    verdicts = {name: judged(*both) for name, both in found.items()}
    rows: dict[str, Any] = {
        suite: {name: {"ended": ending, "why": why} for name, (ending, why) in tests.items()}
        for suite, tests in verdicts.items()
    }
    print(json.dumps(rows, indent=1) if asked.json else "\n".join(table(verdicts)))
    return int(any(ending == FAILED for tests in verdicts.values() for ending, _ in tests.values()))


if __name__ == "__main__":
    sys.exit(main())
