"""The errors of the clients.

ClientError
├── GatewayUnreachable   there was no answer, or only "not now", until the client gave up
├── Refused              the gateway refused, and a retry would not help
│   ├── Fenced           a newer generation of this producer took over
│   ├── StreamClosed     the stream has ended: nothing can be published to it
│   └── StreamNotFound   the stream does not exist, and was not to be created
├── ProtocolFault        the gateway broke the protocol, by a defect or because it is another program
│   └── TextMismatch     the text of a message does not match its digest
├── EventRefused         one event was refused; the publisher stays usable
│   └── StreamFull       a slow consumer holds the stream up and `on_full` is `reject`
├── NotPermitted         the token does not allow a signal; the subscriber stays usable
├── TokenUnavailable     the function that provides tokens failed
└── NotDelivered         sent data was never confirmed: it may or may not have arrived

Every message is one line that can be shown to a user. Wrong arguments raise `ValueError` or `TypeError` instead, in the
call that has them.
"""
# ruff: noqa: N818 - the names say what happened, like those of websockets

from __future__ import annotations

from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.errors import DeltawireError
from deltawire.protocol.messages import Problem


class ClientError(DeltawireError):
    """Base of all errors that a client raises about the gateway or the network."""


class GatewayUnreachable(ClientError):
    """There was no answer, or only "not now", until the client gave up.

    Args:
        url: the gateway's address.
        reason: why the last attempt failed, in plain words.

    Attributes:
        has_answered: whether the gateway, or a proxy before it, answered "not now".
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason
        self.has_answered = reason.startswith(("closed with ", "HTTP "))

    def __str__(self) -> str:
        begin = f"the gateway at {self.url} can't serve this now" if self.has_answered else f"no gateway at {self.url}"
        return f"{begin}: {self.reason}"


class Refused(ClientError):
    """The gateway refused, and a retry would not help.

    Args:
        code: the close code, or the HTTP status if it refused before the upgrade.
        message: the reason in the gateway's words.
        problem: the gateway's `problem` message, if there was one.
    """

    def __init__(self, code: int, message: str, problem: Problem | None = None) -> None:
        super().__init__(code, message, problem)
        self.code = code
        self.message = message
        self.problem = problem

    def __str__(self) -> str:
        kind = "HTTP" if self.code < 1000 else "close"
        return f"refused: {self.message} ({kind} {self.code})"


class Fenced(Refused):
    """A newer generation of this producer took over: this one must stop."""


class StreamClosed(Refused):
    """The stream has ended: nothing can be published to it."""


class StreamNotFound(Refused):
    """The stream does not exist, or no longer, and the subscriber asked not to create it."""


class ProtocolFault(ClientError):
    """The gateway broke the protocol, by a defect or because the address belongs to another program."""


class TextMismatch(ProtocolFault):
    """The text of a message does not match its digest: it was changed or lost on the way from the gateway.

    Args:
        first: seq of the message's first event.
        last: seq of its `message_stop`.
    """

    def __init__(self, first: int, last: int) -> None:
        super().__init__(first, last)
        self.first = first
        self.last = last

    def __str__(self) -> str:
        return f"the text of the message in events {self.first} to {self.last} is not what the gateway sent"


class EventRefused(ClientError):
    """One event was refused and is in no stream; the publisher stays usable.

    Args:
        problem: the gateway's `problem` message, or the one that it would have sent.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"event refused: {self.problem.message} ({self.problem.code})"


class StreamFull(EventRefused):
    """A slow consumer holds the stream up, and this publisher does not wait (`on_full="reject"`)."""


class NotPermitted(ClientError):
    """The token does not allow a signal; the subscriber stays usable."""


class TokenUnavailable(ClientError):
    """The function that provides tokens failed or returned no token; `__cause__` is what it raised."""


class NotDelivered(ClientError):
    """Sent data was never confirmed: it may or may not have arrived."""


def refusal(code: int, message: str, problem: Problem | None = None) -> Refused:
    """The error for a close code or HTTP status that must not be retried."""
    kinds: dict[int, type[Refused]] = {
        CloseCode.FENCED: Fenced,
        CloseCode.STREAM_CLOSED: StreamClosed,
        CloseCode.NOT_FOUND: StreamNotFound,
    }
    return kinds.get(code, Refused)(code, message, problem)


def event_refusal(problem: Problem) -> EventRefused:
    """The error for a problem about one event."""
    return StreamFull(problem) if problem.code == ProblemCode.STREAM_FULL else EventRefused(problem)
