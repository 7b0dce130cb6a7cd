"""What the pages on running the server show for other programs to read: the unit, the configuration, the Dockerfile."""

import asyncio
import configparser
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

from smidgen.models.catalog import packaged
from smidgen.serving.app import create
from smidgen.serving.settings import ServingSettings

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "serving"
parse = runpy.run_path(str(Path(__file__).with_name("test_readme.py")))["parse"]


def block(page: str, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def program(name: str) -> str:
    """Return the path of a program that not every machine has."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return found or pytest.skip(f"{name} is not here")


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    reader = configparser.ConfigParser(delimiters=("=",), strict=True)
    reader.optionxform = str  # type: ignore[assignment,method-assign]
    reader.read_string(block("systemd.md", "ini"))
    return reader


def test_the_unit_starts_the_server_as_nobody(unit):
    service = unit["Service"]
    path, *words = service["ExecStart"].split()
    assert path.endswith("/bin/smidgen")
    parse(words)
    assert (service["DynamicUser"], service["NoNewPrivileges"], service["CapabilityBoundingSet"]) == ("yes", "yes", "")
    assert (service["ProtectSystem"], service["ProtectHome"]) == ("strict", "yes")
    assert f"SMIDGEN_HOME=/var/lib/{service['StateDirectory']}" in service["Environment"].split()


def test_the_unit_s_words_are_systemd_s(unit, tmp_path):
    systemd = program("systemd-analyze")
    path = tmp_path / "smidgen.service"
    path.write_text(block("systemd.md", "ini").replace("/opt/smidgen/bin/smidgen", sys.executable))
    checked = subprocess.run([systemd, "verify", str(path)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_nginx_passes_streams_on_under_a_name_that_the_server_takes():
    text = block("nginx.md", "nginx")
    assert text.count("{") == text.count("}") == 3
    lines = dict(line.rstrip(";").split(maxsplit=1) for line in text.splitlines() if line.startswith("        "))
    assert (lines["proxy_buffering"], lines["gzip"], lines["proxy_http_version"]) == ("off", "off", "1.1")
    (host,) = re.findall(r"proxy_set_header Host (\S+);", text)
    (name,) = re.findall(r"server_name (\S+);", text)
    (reached,) = re.findall(r"^    server (\S+);", text, re.MULTILINE)
    assert host == reached == f"127.0.0.1:{ServingSettings().port}"
    assert [asyncio.run(status(header)) for header in (host, name)] == [200, 403]


async def status(host: str) -> int:
    app = create(ServingSettings())
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return (await client.get("/api/version", headers={"Host": host})).status_code
    finally:
        await app.state.service.close()


def test_nginx_reads_its_configuration(tmp_path):
    nginx = program("nginx")
    text = re.sub(r" *(listen|ssl_\w+) .*\n", "", block("nginx.md", "nginx"))
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{text}}}\n")
    words = [nginx, "-t", "-p", str(tmp_path), "-c", "nginx.conf", "-e", str(tmp_path / "errors")]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_image_serves_as_nobody_what_it_holds():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    begins = [number for number, (name, _) in enumerate(steps) if name == "FROM"]
    last = dict(steps[begins[-1] :])
    assert len(begins) == 2 and all(re.search(r":\S+$|:\S+ AS ", steps[number][1]) for number in begins)
    assert last["USER"].split(":")[0] not in ("0", "root")
    assert "ADD" not in dict(steps) and "pip" not in last["RUN"] and "smidgen pull" not in last["RUN"]
    parse(re.findall(r'"([^"]+)"', last["CMD"]))
    for given in re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE):
        assert (ROOT / given).exists()


def test_all_that_the_dockerfile_names_is_there():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    copied = {name for words in re.findall(r"^COPY ([^-].*)", text, re.MULTILINE) for name in words.split()[:-1]}
    given = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    assert copied == given and {"pyproject.toml", "src", project["readme"], *project["license-files"]} <= copied
    assert all((ROOT / name).exists() for name in copied)
    assert set(re.findall(r"--constraint (\S+)", text)) <= copied
    assert set(re.findall(r"--from=(\S+)", text)) == set(re.findall(r" AS (\S+)", text))
    (program,) = re.findall(r'^ENTRYPOINT \["(\S+)"\]', text, re.MULTILINE)
    assert program in project["scripts"]
    (model,) = re.findall(r"^ARG MODEL=(\S+)", text, re.MULTILINE)
    (pull,) = re.findall(rf"/bin/{program} (.*)", text)
    parse(pull.replace('"$MODEL"', model).split())
    assert model in packaged()
    (asked,) = re.findall(r"urlopen\('http://127.0.0.1:(\d+/\w+)'\)", text)
    assert asked == f"{ServingSettings().port}/health" and f"EXPOSE {ServingSettings().port}" in text


def test_the_dockerfile_is_clean():
    checked = subprocess.run([program("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")
