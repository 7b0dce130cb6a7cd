"""Documents over HTTP: as JSON or as they are, bad ones refused, the server none the worse for them."""

import base64
import runpy
from pathlib import Path

import pytest

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
    plain = running.client.post("/v1/extract?preset=invoice&model=none&pages=1", content=CONTENT, headers=headers)
    assert plain.json()["data"]["invoice_number"] == "KT-2044"
    assert running.stop()[0] == 0
