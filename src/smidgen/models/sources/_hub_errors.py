"""What the hub library raises, put into words for a person."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from smidgen.errors import OutOfResources, ReferenceNotFound, SmidgenError, SourceUnavailable
from smidgen.models.files import writing_error

_PUBLIC = "https://huggingface.co"


def transport_errors() -> tuple[type[Exception], ...]:
    """Return what a failed request can raise.

    The hub library's HTTP client has changed between versions; the root of the client's errors is among the
    bases of the library's own.
    """
    from huggingface_hub.errors import HfHubHTTPError

    roots = tuple(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    return (OSError, *roots)


def is_unreachable(error: BaseException | None) -> bool:
    """Say whether the hub gave no answer at all (or may not be asked), as opposed to one that refuses."""
    return error is not None and getattr(error, "response", None) is None


def explain(error: Exception, name: str, endpoint: str | None) -> SmidgenError:
    """Return the error for a person.

    Args:
        error: What the hub library raised.
        name: The reference that was asked for.
        endpoint: The hub's address where it is not the public one.
    """
    from huggingface_hub import errors

    place = endpoint or _PUBLIC
    repository = name.partition(":")[2].partition("@")[0]
    if isinstance(error, errors.GatedRepoError):
        return SourceUnavailable(
            f"{name} is gated: its publisher wants its terms to be accepted first.",
            remedy=f"Accept them at {place}/{repository} and set HF_TOKEN to a token of that account.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ReferenceNotFound(f"{name} has no such revision.", remedy=f"See {place}/{repository}/commits/main.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ReferenceNotFound(
            f"There is no repository {name} that can be read.",
            remedy="Check the spelling; if it is private, set HF_TOKEN to a token that may read it.",
        )
    if isinstance(error, OSError) and error.filename is not None:
        explained = writing_error(Path(os.fsdecode(error.filename)), error)
        if isinstance(explained, SmidgenError):
            return explained
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OutOfResources(f"The disk is full, so that {name} could not be stored.", remedy="Free some space.")
    response = getattr(error, "response", None)
    if response is not None:
        return SourceUnavailable(
            f"{place} answered {response.status_code} when asked for {name}.",
            remedy="Check HF_TOKEN." if response.status_code in (401, 403) else "Try again later.",
        )
    reason = str(error).strip().splitlines()
    return SourceUnavailable(
        f"{place} could not be reached for {name}: {reason[0] if reason else type(error).__name__}",
        remedy="Check the connection (and HF_ENDPOINT, HF_HUB_OFFLINE); what was downloaded is kept for the next try.",
    )
