"""A process that compiles others' schemas before any engine sees them.

llguidance is compiled code that ends its whole process on some schemas. A server reads schemas that anybody sends; here
such an end takes only this process with it, which is started anew for the next schema.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from smidgen.errors import EngineFailed, InvalidInput
from smidgen.inference.child import Child

_CHILD = "smidgen.inference._schema_child"
_PATIENCE = 10.0


class SchemaReader:
    """Says what is wrong with schemas. Begins with the first one, and may be asked by several threads."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._lock = threading.Lock()

    def fault_of(self, schema: Mapping[str, Any]) -> str:
        """Compile a schema; returns what is wrong with it, empty where nothing is.

        Raises:
            InvalidInput: It ended the process, or took longer than ten seconds.
        """
        with self._lock:
            if self._child is None:
                self._child = Child(_CHILD, "reading a schema")
            timer = threading.Timer(_PATIENCE, self._child.process.kill)
            timer.daemon = True
            timer.start()
            try:
                self._child.send(schema=dict(schema))
                return str(self._child.receive()["fault"])
            except EngineFailed:
                self._child = None
                raise InvalidInput("invalid format: the schema cannot be compiled") from None
            finally:
                timer.cancel()

    def close(self) -> None:
        """End the process. May be called again."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.close()
