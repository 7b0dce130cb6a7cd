"""A few hundred malformed requests, and that what must not happen would be seen."""

import json
from pathlib import Path

import pytest

ANSWER = b"HTTP/1.1 %d Words\r\n\r\n%s"


def test_a_few_hundred_malformed_requests_do_no_harm(benchmark, capsys):
    code = benchmark("serving_fuzz").main(["--requests", "256", "--seed", "3", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["faults"]) == (0, [])
    assert set(found["kinds"].values()) == {16} and found["requests"] == 256
    assert {"200", "400", "404"} <= set(found["statuses"])
    assert all("are free" in said for said in found["said_500"])


@pytest.mark.parametrize(
    ("answer", "faults"),
    [
        (ANSWER % (500, b'{"error":"internal fault: KeyError"}'), 1),
        (ANSWER % (500, b"Internal Server Error"), 1),
        (ANSWER % (200, b'{"done":false}\n{"error":"internal fault: KeyError"}'), 1),
        (ANSWER % (400, b"Traceback (most recent call last)"), 1),
        (ANSWER % (500, b'{"error":"The disk is full."}'), 0),
        (ANSWER % (400, b'{"error":"invalid JSON"}'), 0),
        (b"", 0),
    ],
)
def test_faults_are_told_apart(benchmark, answer, faults):
    tally = benchmark("serving_fuzz").Tally()
    tally.add("kind", b"request", answer)
    assert len(tally.faults) == faults and sum(tally.statuses.values()) == 1


def test_requests_repeat_with_their_seed(benchmark):
    malformed = benchmark("_malformed")
    routes = malformed.routes_of(
        {
            "paths": {
                "/api/chat": {
                    "post": {
                        "requestBody": {
                            "content": {
                                "application/json": {
                                    "schema": {"properties": dict.fromkeys(("model", "messages", "options", "format"))}
                                }
                            }
                        }
                    }
                },
                "/api/tags": {"get": {}},
            }
        }
    )
    first, second = ([malformed.Malformed(routes, ("echo",), seed).make(n) for n in range(64)] for seed in (1, 1))
    assert first == second != [malformed.Malformed(routes, ("echo",), 2).make(n) for n in range(64)]
    assert len({kind for kind, _ in first}) == len(malformed.Malformed(routes, ("echo",)).kinds)


def test_files_beside_the_store_are_seen(benchmark, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "blob").touch()
    before = benchmark("serving_fuzz").files_in(tmp_path, tmp_path / "store")
    (tmp_path / "outside").touch()
    assert benchmark("serving_fuzz").files_in(tmp_path, tmp_path / "store") - before == {str(tmp_path / "outside")}
    assert Path("/tmp/outside").exists() is False
