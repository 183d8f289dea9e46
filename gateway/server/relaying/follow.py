"""A follow: the mirror of a stream that another node owns, and the connection that keeps it up to date.

    begun ──► catching up ──► live ──► lost ──► found again ──► catching up ──► …
                                │        └──► over: who reads here is told to connect again
                                └──► over: nobody reads here any more

While the owner is lost, readers wait, as the new one goes on where the old one has stopped. If it does not, because its
epoch is another one, they are told to resume, and learn then what is missing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final

from deltawire.gateway.engines.engine import Elsewhere
from deltawire.gateway.hub import Hub
from deltawire.gateway.hub.channel import Channel, Told
from deltawire.gateway.logs import get_logger
from deltawire.gateway.server.connection.consumer import Consumer
from deltawire.gateway.server.relaying.link import Link
from deltawire.gateway.server.relaying.messages import Count, Forward, Forwarded, State, Terms, read_from_owner
from deltawire.gateway.server.relaying.reaching import UnreachableError
from deltawire.gateway.streams.mirror import Mirror
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.protocol.addresses import PREFIX
from deltawire.protocol.codec import JSON
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import DeltawireError, StreamError
from deltawire.protocol.events import Event
from deltawire.protocol.framing import TEXT, payload_start
from deltawire.protocol.messages import CaughtUp, Gap, Problem, Signal, StreamEnd, Subscribed

LINGER: Final = 5.0
"""Seconds that a mirror without consumers is kept: those of a lost network come back within that."""

SILENCE: Final = 10.0
"""Seconds without a sign of life after which an owner is lost, three of them: as long as its session lasts."""

PATIENCE: Final = 15.0
"""Seconds that consumers wait for a new owner: as long as a session lasts, and some to take the stream over."""

FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
"""Seconds between two tries to find the owner, at first and at most; each is shortened at random."""

GONE: Final = "the gateway that serves this stream is gone: connect again, and resume"
BEHIND: Final = "this consumer fell behind what is held here of the stream: connect again, and resume"

Connect = Callable[[Elsewhere, str, Callable[[list[bytes]], None]], Awaitable[Link]]
"""Connects to a node, and asks it for a path; raises `UnreachableError`."""

log = get_logger()


class Follow:
    """One follow.

    Args:
        hub: whose consumers read the mirror.
        stream_id: of the stream.
        connect: connects to a node.
        locate: finds the owner; None if nobody has the stream.

    Attributes:
        mirror: as soon as the owner has said what it has.
        is_live: whether the mirror has everything that the owner has sent.
        failure: why the owner can't be reached; empty if it could be.
    """

    def __init__(
        self,
        hub: Hub,
        stream_id: str,
        connect: Connect,
        locate: Callable[[str], Awaitable[Elsewhere | None]],
    ) -> None:
        self._hub = hub
        self.stream_id = stream_id
        self._connect = connect
        self._locate = locate
        self.mirror: Mirror | None = None
        self.is_live = False
        self.failure = ""
        self._channel: Channel | None = None
        self._link: Link | None = None
        self._settings: StreamSettings | None = None  # as the owner has said over this connection
        self._is_over = False
        self._settled = asyncio.Event()  # it is live, or over
        self._unused = asyncio.Event()
        self._used_at = self._live_at = self._lost_at = hub.now()
        self._attempt = 0  # to find the owner, in a row
        self._consumers = 1  # as the owner was told last
        self._numbers = count(1)
        self._signals: dict[int, Told] = {}  # those on their way, by number
        self._is_ending_overrun = False

    async def run(self, owner: Elsewhere) -> None:
        """Follow until nobody reads here, or nothing more can come.

        Args:
            owner: of the stream.
        """
        self._hub.deadlines.add(self)
        try:
            found: Elsewhere | None = owner
            while not self._is_over:
                if found is not None:
                    await self._follow(found)
                if not self._is_over:
                    found = await self._find()
        finally:
            self._hub.deadlines.remove(self)
            self._end()

    async def _follow(self, owner: Elsewhere) -> None:
        """Follow one owner until the connection is lost."""
        mirror, self._settings = self.mirror, None
        path = f"{PREFIX}/{self.stream_id}/subscribe"
        if mirror is not None:
            path += f"?after={mirror.log.head}&epoch={mirror.epoch}"
        try:
            self._link = link = await self._connect(owner, path, self._receive)
        except UnreachableError as error:
            self.failure = str(error)
            self._is_over = mirror is None
            return
        self.failure = ""
        try:
            await link.lost
        finally:
            self._link = None
            link.abort()
            self._settle_signals()
        was_live, self.is_live = self.is_live, False
        if self.mirror is not None and self.mirror.is_closed:
            await self._unused.wait()  # it has everything, for those who read it
        elif was_live:
            self._settled.clear()
            self._lost_at = self._hub.now()
            if self._lost_at - self._live_at >= LONGEST_WAIT:  # else it may be lost again and again
                self._attempt = 0
        self._is_over = self._is_over or self.mirror is None

    async def _find(self) -> Elsewhere | None:
        """Look for the owner, after a while if it was not found before; None if it is not found now."""
        if self._attempt:
            wait = min(FIRST_WAIT * 2.0 ** min(self._attempt, 10), LONGEST_WAIT)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - it spreads gateways, and keeps no secret
        self._attempt += 1
        if self._hub.now() - self._lost_at >= PATIENCE:
            self._is_over = True
            return None
        owner = await self._locate(self.stream_id)
        self._is_over = self._is_over or owner is None
        return owner if owner is not None and owner.url and owner.key else None

    async def wait_live(self, timeout: float) -> bool:
        """Wait until the mirror has everything, or the follow is over; return whether either came in time.

        Args:
            timeout: seconds to wait at most.
        """
        self.use()
        try:
            async with asyncio.timeout(timeout):
                await self._settled.wait()
        except TimeoutError:
            return False
        self.use()
        return True

    def use(self) -> None:
        """Keep the mirror for a while, as a consumer is about to read it."""
        self._used_at = self._hub.now()

    def sweep(self, now: float) -> None:
        """Tell the owner how many consumers there are; end if there are none; take a silent owner for lost."""
        mirror, link = self.mirror, self._link
        if mirror is not None:
            if mirror.consumers:
                self._used_at = now
            elif now - self._used_at >= LINGER:
                self._unused.set()
                self._stop()
            if link is not None and self.is_live and mirror.consumers != self._consumers:
                self._consumers = mirror.consumers
                link.send(Count(self._consumers))
        if link is not None and now - link.heard_at >= SILENCE:
            link.abort()

    def _stop(self) -> None:
        """End, as it can't go on, or need not."""
        self._is_over = True
        if self._link is not None:
            self._link.close()

    def end(self, code: ProblemCode, message: str) -> None:  # noqa: ARG002 - as others that hold a stream
        """End."""
        self._stop()

    def _end(self) -> None:
        """Tell who still reads to connect again, and forget the mirror."""
        self._is_over = True
        self.is_live = False
        self._settled.set()
        mirror, channel = self.mirror, self._channel
        if mirror is None or channel is None:
            return
        mirror.is_over = True
        for holder in tuple(channel.attached):
            if holder is not self:
                holder.end(ProblemCode.OVERLOADED, GONE)
        self._hub.manager.drop_mirror(mirror)
        self._hub.dispatcher.detach(channel, self)
        log.info("follow.ended", stream=self.stream_id, head=mirror.log.head)

    # What consumers want

    def _forward(self, signal: Signal, told: Told) -> None:
        """Send a signal to the owner; nobody can tell who gets it while the owner is lost."""
        if self._link is None or not self.is_live:
            told(None)
            return
        number = next(self._numbers)
        self._signals[number] = told
        self._link.send(Forward(number, signal))

    def _settle_signals(self) -> None:
        """Tell that it is not known whether signals have arrived that were on their way."""
        signals, self._signals = self._signals, {}
        for told in signals.values():
            told(None)

    def _end_overrun_soon(self) -> None:
        """End consumers that want what is not here any more, once this turn is over: one of them is reading now."""
        if not self._is_ending_overrun:
            self._is_ending_overrun = True
            asyncio.get_running_loop().call_soon(self._end_overrun)

    def _end_overrun(self) -> None:
        self._is_ending_overrun = False
        if self.mirror is None or self._channel is None:
            return
        held = self.mirror.log.head - self.mirror.log.floor + 1
        for holder in tuple(self._channel.attached):
            if isinstance(holder, Consumer) and holder.lag > held:
                holder.end(ProblemCode.OVERLOADED, BEHIND)

    # What the owner sends

    def _receive(self, frames: list[bytes]) -> None:
        """Take whole frames, and deliver the events among them."""
        try:
            for frame in frames:
                if not self._is_over:
                    self._take_frame(frame)
            if self._channel is not None:
                self._hub.dispatcher.deliver(self._channel)
                self._make_room()
        except Exception:  # one stream's fault is not another's
            self._hub.tally.faults += 1
            log.exception("follow.failed", stream=self.stream_id)
            self._stop()

    def _take_frame(self, frame: bytes) -> None:
        payload = frame[payload_start(frame) :]
        if frame[0] == TEXT:
            self._take(JSON.decode_to_consumer(payload), frame)
        else:
            self._take_message(payload)

    def _take(self, message: object, frame: bytes) -> None:
        mirror = self.mirror
        match message:
            case Event() if mirror is not None:
                if message.seq != mirror.log.head + 1:
                    raise DeltawireError(f"seq {message.seq} follows {mirror.log.head}")
                mirror.take(message, frame, self._hub.now())
            case Subscribed():
                self._begin(message)
            case CaughtUp():
                self.is_live, self._live_at = True, self._hub.now()
                self._settled.set()
                log.info("follow.started", stream=self.stream_id, head=message.seq)
            case Gap() if mirror is not None:
                mirror.skip_to(message.seq)
            case StreamEnd() if mirror is not None:
                mirror.close(message.reason, self._hub.now())
            case Problem(code=ProblemCode.POSITION_AHEAD | ProblemCode.NOT_FOUND):
                self._stop()
            case _:
                pass

    def _begin(self, subscribed: Subscribed) -> None:
        """Make the mirror, or go on with it, which is possible in the same epoch alone."""
        hub, now = self._hub, self._hub.now()
        self._consumers = 1  # for as many a new connection stands
        if self._settings is None:  # it does not know what a follow is: its version is an earlier one
            self._stop()
            return
        if self.mirror is not None:
            if (subscribed.epoch, subscribed.after) != (self.mirror.epoch, self.mirror.log.head):
                self._stop()
            return
        mirror = Mirror(
            self.stream_id,
            subscribed.epoch,
            self._settings,
            subscribed.after,
            now,
            hub.manager.ledger,
            self._end_overrun_soon,
        )
        mirror.tell_floor(subscribed.floor)
        try:
            hub.manager.keep_mirror(mirror, now)
        except StreamError:
            self._stop()
            return
        self.mirror = mirror
        self._channel = hub.dispatcher.attach(mirror, self)
        self._channel.forward = self._forward

    def _take_message(self, payload: bytes) -> None:
        match read_from_owner(payload):
            case Terms(settings):
                self._settings = settings
            case State(floor, consumers) if self.mirror is not None:
                self.mirror.tell_floor(floor)
                self.mirror.consumers_elsewhere = max(consumers - self._consumers, 0)
            case Forwarded(number, delivered) if number in self._signals:
                self._signals.pop(number)(delivered)
            case _:
                pass

    def _make_room(self) -> None:
        """Keep less of the mirror where memory is short, as it is never refused what the owner sends.

        Whoever has not read yet what goes reads it at the owner; most have been sent it by now.
        """
        manager, mirror = self._hub.manager, self.mirror
        excess = manager.ledger.bytes - manager.events_limit
        if mirror is not None and excess > 0 and not manager.make_room(self._hub.now()):
            mirror.give_back(excess)
