"""Documents over HTTP: as JSON or as they are, bad ones refused, the server none the worse for them."""

import base64
import io
import runpy
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

made = runpy.run_path(str(Path(__file__).parents[2] / "documents" / "conftest.py"))
CONTENT = made["build_pdf"]([made["INVOICE"]])
ASKED = {"file": base64.b64encode(CONTENT).decode(), "preset": "invoice", "model": "none"}


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"preset": None}, 400, "either schema or preset"),
        ({"preset": "invoic"}, 404, "Did you mean 'invoice'"),
        ({"schema": {"properties": {}}}, 400, "either schema or preset"),
        ({"preset": None, "schema": {"properties": {"a": {"$ref": "#"}}}}, 400, "refers to itself"),
        ({"preset": None, "schema": "pydantic:os.path"}, 400, "schema"),
        ({"file": "?"}, 400, "no base64"),
        ({"file": None}, 400, "file"),
        ({"model": "nowhere"}, 404, "nowhere"),
    ],
)
def test_what_cannot_be_done_is_refused(ask, fields, status, words):
    answer = ask("POST", "/v1/extract", {**ASKED, **fields})
    assert answer.status_code == status and words in answer.json()["error"]["message"]


def test_a_document_larger_than_the_server_takes_is_refused(ask):
    assert ask("POST", "/v1/extract", ASKED, max_body=100).status_code == 413


def test_a_running_server_extracts_and_outlives_bad_documents(start_server, smidgen_home):
    running = start_server(smidgen_home)
    found = running.client.post("/v1/extract", json=ASKED | {"name": "kestrel.pdf"}).json()
    assert found["file"] == "kestrel.pdf" and found["data"]["amount"] == 48.0
    assert found["fields"]["amount"]["status"] == "grounded" and found["model"] is None
    bad = running.client.post("/v1/extract", json=ASKED | {"file": "JVBERi0xLjQKbm90aGluZw=="})
    assert bad.status_code == 400 and "damaged" in bad.json()["error"]["message"]
    headers = {"Content-Type": "application/pdf"}
    query = "/v1/extract?preset=invoice&model=none&pages=1&pictures=true"
    plain = running.client.post(query, content=CONTENT, headers=headers).json()
    assert plain["data"]["invoice_number"] == "KT-2044"
    (page,) = plain["pages"]
    with Image.open(io.BytesIO(base64.b64decode(page["picture"]))) as drawn:
        assert drawn.format == "JPEG"
        assert drawn.width / drawn.height == pytest.approx(page["width"] / page["height"], abs=0.01)
    assert "picture" not in found["pages"][0]
    assert running.stop()[0] == 0


def workers_of(running):
    """The processes of a server that read documents, each with its processor time."""
    found = {}
    for each in psutil.Process(running.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # it ends just now
            if "smidgen.documents.worker" in each.cmdline():
                found[each.pid] = sum(each.cpu_times()[:2])
    return found


def test_nobody_reads_on_for_a_client_that_left(start_server, smidgen_home):
    running = start_server(smidgen_home)
    many = base64.b64encode(made["build_pdf"]([made["INVOICE"]] * 100)).decode()
    with pytest.raises(httpx.ReadTimeout):
        running.client.post("/v1/extract", json=ASKED | {"file": many}, timeout=0.3)
    limit = time.monotonic() + 60
    while workers_of(running):
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert running.client.post("/v1/extract", json=ASKED).json()["data"]["amount"] == 48.0
    assert len(workers_of(running)) == 1
    assert running.stop()[0] == 0
