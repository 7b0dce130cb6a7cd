"""A Chromium that is driven through its DevTools protocol, over a pair of pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 120.0
"""Seconds that anything may take in the browser; a busy machine needs some."""


class Browser:
    """One page in a Chromium without a window.

    Args:
        folder: Where the browser keeps its profile.
    """

    def __init__(self, folder: Path) -> None:
        found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
        program = next((path for path in found if path), None)
        assert program, "this test needs Chromium"
        their_in, self._out = os.pipe()
        self._in, their_out = os.pipe()
        theirs = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (their_in, their_out)]
        os.close(their_in)
        os.close(their_out)
        # Chromium reads commands from descriptor 3 and answers on descriptor 4.
        command = ["bash", "-c", f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}', "bash", program]
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
        quiet = ("--disable-background-networking", "--disable-dev-shm-usage", "--disable-extensions")
        self._process = subprocess.Popen(
            [*command, *options, *quiet, "--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"],
            pass_fds=theirs,
            stderr=subprocess.DEVNULL,
        )
        for each in theirs:
            os.close(each)
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        self.complaints: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Send one command and return its result."""
        self._number += 1
        sent: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            sent["sessionId"] = self._session
        os.write(self._out, json.dumps(sent).encode() + b"\0")
        limit = time.monotonic() + PATIENCE
        while True:
            message = self._next(limit, method)
            self._notice(message)
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def _next(self, limit: float, method: str) -> Any:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, limit - time.monotonic()))
            assert ready, f"the browser did not answer {method}"
            piece = os.read(self._in, 1 << 20)
            assert piece, "the browser is gone"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def _notice(self, message: Any) -> None:
        """Remember exceptions of scripts and what the console complains of."""
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page, awaiting promises."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until an expression is true in the page; return its value."""
        limit = time.monotonic() + PATIENCE
        while not (value := self.run(condition)):
            assert time.monotonic() < limit, f"never came true: {condition}\n{self.run('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def open(self, address: str) -> None:
        """Show a page, and wait until it is ready."""
        self.call("Page.navigate", url=address)
        self.wait("document.documentElement?.dataset.ready === ''")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Set the size of the window."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def prefer(self, **features: str) -> None:
        """Set what the user prefers: ``prefer(color_scheme="dark")``."""
        wanted = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=wanted)

    def type(self, selector: str, text: str) -> None:
        """Replace the text of a field as if it were typed."""
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "End": 35, "ArrowDown": 40}
        shared = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": 8 if shift else 0}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **shared, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def click(self, selector: str) -> None:
        """Click an element."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def shot(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser."""
        self._session = None
        try:
            self.call("Browser.close")
        finally:
            os.close(self._out)
            os.close(self._in)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for the tests of one file."""
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with nothing but the echo model."""
    running = start_server(tmp_path_factory.mktemp("home"), "--parallel", "4")
    yield running
    running.stop()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where screenshots go: the folder that SMIDGEN_SCREENSHOTS names, or one of the test's own."""
    folder = Path(os.environ.get("SMIDGEN_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
