"""Who may ask, and who is turned away."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from smidgen.errors import InvalidInput
from smidgen.serving.security import is_own_host, require_safe
from smidgen.serving.settings import ServingSettings

Ask = Callable[..., httpx.Response]


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("127.0.0.1:11434", True),
        ("LOCALHOST:80", True),
        ("[::1]:11434", True),
        ("10.1.2.3", True),
        ("0.0.0.0:1", True),
        ("printer.local", True),
        ("a.localhost", True),
        ("x.internal:9", True),
        ("evil.example", False),
        ("evil.example:11434", False),
        ("8.8.8.8", False),
        ("localhost.evil.example", False),
        ("notlocal", False),
    ],
)
def test_only_hosts_of_this_machine_are_its_own(host: str, own: bool) -> None:
    assert is_own_host(host) is own


def test_a_foreign_host_gets_403_and_nothing_else(ask: Ask) -> None:
    answer = ask("GET", "/api/tags", headers={"host": "evil.example"})
    assert (answer.status_code, answer.content) == (403, b"")
    open_to_all = {"host": "0.0.0.0", "insecure": True}
    assert ask("GET", "/api/tags", None, {"host": "evil.example"}, **open_to_all).status_code == 200


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("https://127.0.0.1", True),
        ("http://127.0.0.1:11434", True),
        ("app://obsidian.md", True),
        ("chrome-extension://abcdef", True),
        ("https://allowed.example", True),
        ("https://sub.wild.example", True),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://localhost:3000.evil.example", False),
        ("null", False),
    ],
)
def test_web_pages_of_other_origins_are_kept_out(ask: Ask, origin: str, allowed: bool) -> None:
    origins = ("https://allowed.example", "https://*.wild.example")
    answer = ask("GET", "/api/tags", None, {"origin": origin}, origins=origins)
    assert answer.status_code == (200 if allowed else 403)
    assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)


def test_a_browser_may_ask_first(ask: Ask) -> None:
    headers = {
        "origin": "http://localhost:5173",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-os,x-other",
    }
    answer = ask("OPTIONS", "/api/chat", None, headers, api_key="k")
    assert answer.status_code == 204
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert "authorization" in allowed and "x-stainless-os" in allowed and "x-other" not in allowed


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "secret"}, 401),
        ({"authorization": "Bearer sécret".encode("latin-1").decode("latin-1")}, 401),
        ({"authorization": "Bearer secret"}, 200),
        ({"authorization": "bearer secret"}, 200),
        ({"x-api-key": "secret"}, 200),
    ],
)
def test_with_a_key_nothing_goes_without_it(ask: Ask, headers: dict[str, str], status: int) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = ask("GET", "/api/tags", None, raw, api_key="secret")
    assert answer.status_code == status
    if status == 401:
        assert answer.json() == {"error": "invalid API key"}
        assert answer.headers["www-authenticate"] == "Bearer"
        assert ask("GET", "/metrics", None, raw, api_key="secret").status_code == 401


def test_a_key_may_have_any_letters(ask: Ask) -> None:
    raw = [(b"authorization", "Bearer schlüssel".encode())]
    assert ask("GET", "/api/tags", None, raw, api_key="schlüssel").status_code == 200
    assert ask("GET", "/api/tags", None, raw, api_key="schlussel").status_code == 401


def test_without_a_key_any_authorization_is_taken(ask: Ask) -> None:
    assert ask("GET", "/api/tags", None, {"authorization": "Bearer anything"}).status_code == 200


def test_whether_the_server_is_there_needs_no_key(ask: Ask) -> None:
    assert ask("GET", "/health", api_key="secret").json() == {"status": "ok"}
    assert ask("GET", "/", api_key="secret").status_code == 200


def test_other_machines_are_let_in_with_a_key_or_with_consent_only() -> None:
    require_safe(ServingSettings())
    require_safe(ServingSettings(host="0.0.0.0", api_key="k"))
    require_safe(ServingSettings(host="192.168.0.1", insecure=True))
    with pytest.raises(InvalidInput, match="without a key"):
        require_safe(ServingSettings(host="0.0.0.0"))


def test_figures_are_there_for_prometheus(ask: Ask) -> None:
    answer = ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "smidgen_loaded_models 0.0" in answer.text
    assert "smidgen_waiting_requests 0.0" in answer.text
