"""The page's files over HTTP: all there, of the right types, under a strict policy, and nothing else."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

from smidgen.documents.schema import presets
from smidgen.serving import web
from smidgen.serving.app import create
from smidgen.serving.settings import ServingSettings

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
ROOT = Path(__file__).parents[3]

Get = Callable[..., list[httpx.Response]]


@pytest.fixture
def get() -> Get:
    """Ask one server for several paths."""

    def answers(
        *paths: str, headers: Mapping[str, str] | None = None, method: str = "GET", key: str | None = None
    ) -> list[httpx.Response]:
        async def run() -> list[httpx.Response]:
            transport = httpx.ASGITransport(create(ServingSettings(api_key=key)))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
                return [await client.request(method, path, headers=headers) for path in paths]

        return asyncio.run(run())

    return answers


def test_browsers_get_the_page_and_clients_the_text_they_look_for(get: Get) -> None:
    (page,) = get("/", headers={"Accept": BROWSER})
    assert page.headers["content-type"] == TYPES["html"] and page.text.startswith("<!DOCTYPE html>")
    for accept in ("*/*", "application/json", ""):
        for method in ("GET", "HEAD"):
            (answer,) = get("/", headers={"Accept": accept}, method=method)
            assert (answer.status_code, answer.text) == (200, "Ollama is running" if method == "GET" else "")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert "content-security-policy" not in answer.headers
        assert answer.headers["vary"] == page.headers["vary"] == "Accept"


def test_every_file_is_served_with_its_type_and_the_policy_without_a_key(get: Get) -> None:
    names = sorted(file.name for file in files("smidgen.serving.web").joinpath("assets").iterdir())
    assert names == sorted(web.assets()) and len(names) >= 10
    for name, answer in zip(names, get(*(web.PREFIX + name for name in names), key="secret"), strict=True):
        assert (answer.status_code, answer.headers["content-type"]) == (200, TYPES[name.rpartition(".")[2]])
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    (refused,) = get("/api/tags", key="secret")
    assert refused.status_code == 401


def test_every_file_that_is_named_exists_and_nothing_is_inline_or_elsewhere() -> None:
    texts = {name: asset.content.decode() for name, asset in web.assets().items()}
    pages = texts[web.PAGE] + texts[web.EXTRACT_PAGE]
    named = set(re.findall(r'(?:src|href)="web/([^"]+)"', pages))
    assert named >= {"app.js", "extract.js", "theme.js", "style.css", "icon.svg"}
    for name, text in texts.items():
        if name.endswith(".js"):
            imported = re.findall(r'(?:from|import) "([^"]*)"', text)
            assert all(each.startswith("./") for each in imported), name
            named |= {each.removeprefix("./") for each in imported}
        if name != "icon.svg":  # it names its namespace
            assert not re.search(r"https?://|url\(|innerHTML|outerHTML|insertAdjacentHTML|eval\(", text), name
    assert named | {web.PAGE, web.EXTRACT_PAGE} == set(texts)
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>|javascript:", pages)
    identified = set(re.findall(r'\bid="([^"]+)"', pages))
    for text in texts.values():
        asked = set(re.findall(r'byId\("([^"]+)"\)', text))
        assert asked <= identified


def test_the_page_for_documents_is_at_its_own_path_also_without_a_key(get: Get) -> None:
    for method in ("GET", "HEAD"):
        (answer,) = get(web.EXTRACT, method=method, key="secret")
        assert (answer.status_code, answer.headers["content-type"]) == (200, TYPES["html"])
        assert "content-security-policy" in answer.headers
    (refused,) = get("/extract", method="POST", key="secret")
    assert refused.status_code == 401
    offered = re.findall(r'<option value="(\w+)">the', web.assets()[web.EXTRACT_PAGE].content.decode())
    assert sorted(offered) == presets()


def test_only_files_of_the_page_are_found(get: Get) -> None:
    paths = ("", "nothing.js", "../app.py", "%2e%2e/__init__.py", "..%2f..%2fapp.py", "/etc/passwd", "assets/app.js")
    for path, answer in zip(paths, get(*(web.PREFIX + path for path in paths)), strict=True):
        assert answer.status_code == 404, path
        assert answer.text == "404 page not found"


def test_an_unchanged_file_is_not_sent_again(get: Get) -> None:
    (first,) = get("/web/app.js")
    (second,) = get("/web/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (second.status_code, second.content) == (304, b"")


def test_the_page_has_the_colours_of_the_report() -> None:
    report = files("smidgen.evaluate.report").joinpath("report.css").read_text(encoding="utf-8")
    light, _, dark = report.partition("prefers-color-scheme: dark")
    style = web.assets()["style.css"].content.decode()
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", style)
    shared = [pair for pair in pairs if f"--{pair[0]}:" in report]
    assert len(shared) >= 10
    for name, bright, dim in shared:
        assert f"--{name}: {bright};" in light and f"--{name}: {dim};" in dark, name


def brightness(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_and_borders_stand_out_enough(scheme: int) -> None:
    style = web.assets()["style.css"].content.decode()
    colours = {name: pair[scheme] for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", style)}
    texts = ("ink", "muted", "accent", "bad", "good", "doubt", "free")
    wanted = {(text, ground): 4.5 for text in texts for ground in ("paper", "surface")}
    wanted |= {("ink", "said"): 4.5, ("bad", "bad-soft"): 4.5, ("good", "good-soft"): 4.5, ("on-accent", "accent"): 4.5}
    wanted |= {("edge", "paper"): 3.0, ("edge", "surface"): 3.0}
    for (one, other), least in wanted.items():
        dim, bright = sorted(brightness(colours[each]) for each in (one, other))
        assert (bright + 0.05) / (dim + 0.05) >= least, (one, other)


def test_the_files_travel_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["smidgen"]
    package = ROOT / "src" / "smidgen"
    packed = {file for pattern in patterns for file in package.glob(pattern)}
    assert packed >= {package / "serving" / "web" / "assets" / name for name in web.assets()}
