"""A scripted gateway: shows what the real one can't be made to show on demand (cuts, odd messages, refusals)."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from deltawire.gateway.client.backoff import Backoff
from deltawire.protocol.codec import CODECS, JSON
from deltawire.protocol.messages import CloseStream, Message
from tests.support.serving import close

AT_ONCE = Backoff(initial=0, longest=0)
"""No test waits for a back-off."""


class NotingBackoff(Backoff, frozen=True):
    """No waits; notes how many came before each one in its run of failures."""

    attempts: list[int] = msgspec.field(default_factory=list)

    def delay(self, attempt: int, chance: float) -> float:
        """None."""
        del chance
        self.attempts.append(attempt)
        return 0.0


Script = Callable[[ServerConnection], Awaitable[None]]


class FakeGateway:
    """Plays one script per connection, in order; further connections are refused with HTTP 404.

    A script may also be a `Response`, which refuses the connection before the upgrade.
    """

    def __init__(self, *scripts: Script | Response, subprotocols: Sequence[str] = tuple(CODECS)) -> None:
        self.scripts = deque(scripts)
        self.requests: list[str] = []
        self._subprotocols = [Subprotocol(name) for name in subprotocols]
        self._server: Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._play,
            "127.0.0.1",
            0,
            process_request=self._admit,
            subprotocols=self._subprotocols,
            close_timeout=1,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await close(self._server)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request.path)
        if not self.scripts:
            return connection.respond(404, "no script left")
        if isinstance(self.scripts[0], Response):
            response = self.scripts.popleft()
            assert isinstance(response, Response)
            return response
        return None

    async def _play(self, peer: ServerConnection) -> None:
        script = self.scripts.popleft()
        assert not isinstance(script, Response)
        await script(peer)


def text(message: Message | dict[str, Any]) -> str:
    """A message as the payload of a text frame."""
    return JSON.encode(message).decode()


def frames(*messages: Message | dict[str, Any], then: Script) -> Script:
    """A script that sends messages, then does something last."""

    async def play(peer: ServerConnection) -> None:
        for message in messages:
            await peer.send(text(message))
        await then(peer)

    return play


def closing(code: int, reason: str = "") -> Script:
    """Ends a script with a close frame."""

    async def play(peer: ServerConnection) -> None:
        await peer.close(code, reason)

    return play


async def cut(peer: ServerConnection) -> None:
    """Ends a script without a word; what was sent still arrives."""
    peer.transport.close()


async def stay(peer: ServerConnection) -> None:
    """Ends a script when the client leaves."""
    await peer.wait_closed()


class FakeLog:
    """The producer side of a stream: numbers, repeats and holes, as SPEC §7.3 has them."""

    def __init__(self, epoch: str = "e1") -> None:
        self.epoch = epoch
        self.last = 0
        self.texts: list[str] = []
        self.closed = False

    def forget(self, epoch: str) -> None:
        """The gateway restarts without memory."""
        self.epoch = epoch
        self.last = 0
        self.texts = []

    def ready(self) -> str:
        return text(
            {
                "type": "ready",
                "stream": "demo",
                "epoch": self.epoch,
                "head": len(self.texts),
                "generation": 0,
                "producer_seq": self.last,
            }
        )

    def take(self, payload: str | bytes) -> str | None:
        """The answer to one message."""
        decoded = msgspec.json.decode(payload)
        if decoded == msgspec.to_builtins(CloseStream()):
            self.closed = True
            return None
        for event in decoded if isinstance(decoded, list) else [decoded]:
            number = event["producer_seq"]
            if number == self.last + 1:
                self.last = number
                self.texts.append(event["data"]["text"])
            elif number > self.last:
                return text(
                    {
                        "type": "problem",
                        "code": "sequence_gap",
                        "message": f"{self.last + 1} comes next",
                        "retryable": False,
                        "producer_seq": number,
                        "expected": self.last + 1,
                    }
                )
        return text({"type": "ack", "seq": len(self.texts), "producer_seq": self.last})

    def serving(self, messages: int | None = None, *, answer_last: bool = True) -> Script:
        """A script that serves so many messages, then cuts; None serves until the client leaves or closes the stream.

        Args:
            messages: how many.
            answer_last: whether the last one is answered before the cut.
        """

        async def play(peer: ServerConnection) -> None:
            await peer.send(self.ready())
            served = 0
            async for payload in peer:
                served += 1
                answer = self.take(payload)
                if self.closed:
                    await peer.close(1000)
                elif answer is not None and (served != messages or answer_last):
                    await peer.send(answer)
                if served == messages:
                    break
            await cut(peer)

        return play
