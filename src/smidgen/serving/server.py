"""A server on a port: bound, announced, and stopped when the system asks for it."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import psutil
import uvicorn

from smidgen.errors import InvalidInput, Locked
from smidgen.serving.app import create
from smidgen.serving.security import require_safe
from smidgen.serving.settings import ServingSettings

_GRACE = 5
"""Seconds that answers which are being written may go on once the server is to stop."""

_BACKLOG = 2048
_UNAVAILABLE = (errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM)


def serve(settings: ServingSettings, announce: Callable[[str], None]) -> None:
    """Serve until the process is asked to stop.

    Args:
        settings: Where to bind, and the bounds.
        announce: Told the server's address as soon as it takes requests.

    Raises:
        InvalidInput: It would be open to other machines without a key, or there is no such address.
        Locked: Another program holds the port.
    """
    require_safe(settings)
    bound = bind(settings.host, settings.port)
    try:
        address = address_of(bound)
        config = uvicorn.Config(
            create(settings),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
            timeout_keep_alive=75,
            backlog=_BACKLOG,
        )
        # Clients that leave in the middle of an answer are no fault; asyncio warns of what is still written to them.
        logging.getLogger("asyncio").setLevel(logging.ERROR)
        _Server(config, lambda: announce(address)).run([bound])
    finally:
        bound.close()


def bind(host: str, port: int) -> socket.socket:
    """Open the port.

    Raises:
        Locked: Another program holds it; the message names that program where the system tells.
        InvalidInput: This machine has no such address.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"There is no address {host!r} to bind to: {error}.") from error
    opened = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_REUSEPORT"):  # elsewhere the option would let two servers share the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(place)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise Locked(
                f"Port {port} is taken by {holder(port)}.", remedy="Stop it, or choose another with --port."
            ) from error
        if error.errno in _UNAVAILABLE:
            raise InvalidInput(f"This machine does not allow to bind to {host}:{port}: {error.strerror}.") from error
        raise
    return opened


def holder(port: int) -> str:
    """Say which program holds a port, as far as the system tells."""
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return "another program"


def address_of(bound: socket.socket) -> str:
    """Return the web address of an open port."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Announces that it is ready, and ends quietly when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Stop on a signal, without passing it on once the server has stopped: that is how it ends well."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        names = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
        wanted = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {each: signal.signal(each, self.handle_exit) for each in wanted}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
