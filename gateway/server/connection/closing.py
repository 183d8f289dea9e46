"""How a connection ends: its phases, and the causes of each transition (RFC 6455 §7). Pure.

| | a close was sent or received | its peer broke a limit | its socket is gone |
|---|---|---|---|
| ACTIVE | CLOSING | (closed first) | CLOSED |
| CLOSING | CLOSING | DEAF | CLOSED |
| DEAF | DEAF | DEAF | CLOSED |
| CLOSED | CLOSED | CLOSED | CLOSED |

From CLOSING on nothing is sent, from DEAF on nothing is parsed, and in CLOSED nothing is counted. `CLOSE_TIMEOUT` runs
from CLOSING until CLOSED.

The methods that start a transition:

- `close_with_problem` sends a problem, then closes; `finish` sends a close frame
- `await_close` waits for the peer's close frame, or for it to hang up
- `stop_parsing` discards whatever else comes
- `abort` drops the socket; `fail` closes after an exception in the gateway

The peer object gets `answer_rest` before a close, `on_finished` when CLOSING, and `on_lost` when CLOSED.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Phase(Enum):
    """Where a connection is on its way to the end."""

    ACTIVE = auto()
    """It serves its peer, or waits for a request."""

    CLOSING = auto()
    """Its last frame is written; it waits for the peer to close, or to receive what is in flight."""

    DEAF = auto()
    """Like CLOSING, and what the peer still sends is discarded."""

    CLOSED = auto()
    """Its socket is gone."""


class Cause(Enum):
    """The cause of a transition."""

    CLOSE = auto()
    """A close frame was sent or received, the peer hung up, or the last piece of a response is written."""

    LIMIT_BROKEN = auto()
    """The peer sends more than it may."""

    SOCKET_LOST = auto()
    """The socket is gone."""


_TABLE: Final[dict[tuple[Phase, Cause], Phase]] = {
    (Phase.ACTIVE, Cause.CLOSE): Phase.CLOSING,
    (Phase.ACTIVE, Cause.SOCKET_LOST): Phase.CLOSED,
    (Phase.CLOSING, Cause.CLOSE): Phase.CLOSING,
    (Phase.CLOSING, Cause.LIMIT_BROKEN): Phase.DEAF,
    (Phase.CLOSING, Cause.SOCKET_LOST): Phase.CLOSED,
    (Phase.DEAF, Cause.CLOSE): Phase.DEAF,
    (Phase.DEAF, Cause.LIMIT_BROKEN): Phase.DEAF,
    (Phase.DEAF, Cause.SOCKET_LOST): Phase.CLOSED,
    (Phase.CLOSED, Cause.CLOSE): Phase.CLOSED,
    (Phase.CLOSED, Cause.LIMIT_BROKEN): Phase.CLOSED,
    (Phase.CLOSED, Cause.SOCKET_LOST): Phase.CLOSED,
}


def after(phase: Phase, cause: Cause) -> Phase:
    """Return the phase that follows.

    Raises:
        KeyError: the transition is not in the table and can't happen: a peer is told which limit it broke, and
            closed, before it is DEAF.
    """
    return _TABLE[phase, cause]
