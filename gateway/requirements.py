"""What of others is needed in one part alone, in a newer version than the rest of the package gets by with."""

from __future__ import annotations

from typing import Final

from websockets.version import version as websockets_version

SERVER_WEBSOCKETS: Final = 17
"""The first major version of websockets that reads every request the server answers: before it, only GET over HTTP/1.1,
with no word about what was too long. The client gets by with 15."""


class UnmetRequirementError(ImportError):
    """A part can't be imported beside what is installed; the message is one line for a person."""


def check_server_requirements(websockets: str = websockets_version) -> None:
    """See that the server can be imported.

    Args:
        websockets: the version that is installed.

    Raises:
        UnmetRequirementError: it can't.
    """
    if int(websockets.partition(".")[0]) < SERVER_WEBSOCKETS:
        raise UnmetRequirementError(
            f"a gateway needs websockets {SERVER_WEBSOCKETS} or newer, and {websockets} is installed: "
            "run it in an environment of its own"
        )
