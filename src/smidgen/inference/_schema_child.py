"""The child process of `smidgen.inference.schema_reader`."""

from __future__ import annotations

import sys

from smidgen.inference.child import Parent, run
from smidgen.inference.structured import fault_of

_MEMORY = 2 << 30
"""Bytes of address space that schemas may take."""


def main(parent: Parent) -> None:
    """Compile one schema after the other."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    while True:
        schema = parent.next_request()["schema"]
        try:
            parent.answer(fault=fault_of(schema))
        except ValueError as error:
            parent.answer(fault=str(error))


if __name__ == "__main__":
    run(main)
