"""What a server refuses, with the HTTP status it says it with. Each dialect words and wraps them its own way."""

from __future__ import annotations

from collections.abc import Sequence

from smidgen.errors import (
    DamagedFile,
    InvalidInput,
    Locked,
    MissingExtra,
    OutOfResources,
    ReferenceNotFound,
    SmidgenError,
    SourceUnavailable,
    Unsupported,
)
from smidgen.models.reference import did_you_mean


class ModelNotFound(ReferenceNotFound):
    """No model of that name is in the store.

    Args:
        name: The name as the client wrote it.
        similar: Names like it of models that there are.

    Attributes:
        hint: What stands behind the words that clients know, in every wording of this error.
    """

    def __init__(self, name: str, similar: Sequence[str] = ()) -> None:
        self.name = name
        self.hint = f". {did_you_mean(similar)}" if similar else ""
        super().__init__(f"model '{name}' not found{self.hint}")


class QueueFull(SmidgenError):
    """More requests wait than the queue may hold."""

    def __init__(self) -> None:
        super().__init__("server busy, please try again.  maximum pending requests exceeded")


class ClientGone(SmidgenError):
    """The client left before its answer was ready."""

    def __init__(self) -> None:
        super().__init__("request canceled")


class ContextExceeded(InvalidInput):
    """What is to be read is longer than the context."""

    def __init__(self) -> None:
        super().__init__("the input length exceeds the context length")


class BodyTooLarge(InvalidInput):
    """A request's body, or a part of it, is larger than the server takes."""


class BodiesFull(SmidgenError):
    """The bodies of all requests that are being answered or wait take more than the server keeps of them.

    Args:
        limit: Bytes that it keeps.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"server busy, please try again.  the requests that are being answered or wait hold {limit} bytes already"
        )


class NotAllowed(SmidgenError):
    """The client may not do this: no key, a wrong key, or a wrong host.

    Args:
        message: What is wrong.
        status: 401 or 403.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


_STATUSES: tuple[tuple[type[SmidgenError], int], ...] = (
    (BodyTooLarge, 413),
    (ClientGone, 499),
    (QueueFull, 503),
    (BodiesFull, 503),
    (Locked, 503),
    (SourceUnavailable, 502),
    (ReferenceNotFound, 404),
    (InvalidInput, 400),
    (Unsupported, 400),
    (MissingExtra, 501),
    (OutOfResources, 500),
    (DamagedFile, 500),
)


def status_of(error: SmidgenError) -> int:
    """Return the HTTP status that stands for an error.

    Example:
        >>> status_of(ModelNotFound("x")), status_of(QueueFull()), status_of(SmidgenError("?"))
        (404, 503, 500)
    """
    if isinstance(error, NotAllowed):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
