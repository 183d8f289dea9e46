"""One answer on its way to a stream, beside the way to whoever asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import Final

from deltawire.gateway.client import Publisher
from deltawire.gateway.logs import get_logger
from deltawire.gateway.proxy.decoding import Decode, UnreadableContent, make_decoder
from deltawire.gateway.proxy.fields import STREAM, SUBSCRIBE
from deltawire.gateway.tee import BUFFER, LINGER
from deltawire.gateway.tee.relay import Relay
from deltawire.protocol.addresses import PREFIX
from deltawire.protocol.providers import make_any

log = get_logger()

HEAD_START: Final = 0.02
"""Seconds until the gateway is connected to. That takes a millisecond or two, which are the request's at first."""


class Answer:
    """One answer, published as events. Nothing here waits for the gateway, or raises.

    Args:
        stream: the id of the stream.
        make_publisher: makes where events go; not entered yet. It is called when the caller has the first piece, or
            `HEAD_START` after `start_soon`.
        readers: where readers reach the gateway, `ws://HOST:PORT`.
        body: what makes the ids that have to be made unique.
        close: whether the stream ends with the answer.
        on_cancel: called when a reader cancels.

    Attributes:
        stream: the id of the stream.
        fields: where the answer can be followed, for the head of the response.
    """

    def __init__(  # noqa: PLR0913 - an answer, and where it goes
        self,
        stream: str,
        make_publisher: Callable[[], Publisher],
        readers: str,
        body: str,
        *,
        close: bool,
        on_cancel: Callable[[], None],
    ) -> None:
        self._make_relay: Callable[[], Relay] = lambda: Relay(
            make_publisher(), make_any(body=body), BUFFER, on_cancel=on_cancel, close=close
        )
        self.stream: Final = stream
        self._decode: Decode = bytes
        self._unread = 0
        self._is_over = False  # readers get no more of it
        self._is_ended = False  # and know that
        self._is_started = False
        url = f"{readers}{PREFIX}/{stream}/subscribe"
        self.fields: Final = [(STREAM, stream.encode()), (SUBSCRIBE, url.encode())]

    @cached_property
    def _relay(self) -> Relay:
        return self._make_relay()

    def start_soon(self) -> None:
        """Connect to the gateway after `HEAD_START`, or at the end of the answer if that comes first."""
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_later, HEAD_START, self._start)  # after what waits for nothing: a timer takes time

    def _start(self) -> None:
        if not self._is_started:
            self._is_started = True
            self._relay.start()

    @property
    def dropped(self) -> int:
        """Number of chunks of which readers did not get everything."""
        return self._relay.dropped + self._unread

    @property
    def lost(self) -> int:
        """Number of events that the gateway acked, and lost with its memory."""
        return self._relay.lost

    def begin(self, coding: str) -> None:
        """Take what follows for a body with this content coding."""
        try:
            self._decode = make_decoder(coding)
        except UnreadableContent as error:
            self._give_up(error)

    def take(self, piece: bytes) -> None:
        """Publish a piece of the body."""
        if self._is_over:
            self._unread += 1
            return
        try:
            content = self._decode(piece)
        except UnreadableContent as error:
            self._unread += 1
            self._give_up(error)
        else:
            self._relay.take(content)

    def fail(self, error: Exception) -> None:
        """Tell readers that the answer failed; they get nothing more of it."""
        if not self._is_over:
            self._is_over = True
            self._relay.fail(error)

    def end(self, failure: Exception | None = None) -> None:
        """Tell readers that the answer has ended, or failed; they get nothing more of it."""
        if failure is not None:
            self.fail(failure)
        if not self._is_ended:
            self._is_over = self._is_ended = True
            self._relay.end()

    def _give_up(self, error: UnreadableContent) -> None:
        log.warning("answer.decode_failed", stream=self.stream, why=str(error))
        self.fail(error)

    async def finish(self) -> None:
        """Tell readers that the answer has ended, and wait a little until they know."""
        self._start()
        self.end()
        await self._relay.wait(LINGER)
