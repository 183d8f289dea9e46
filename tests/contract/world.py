"""A gateway in virtual time, who is connected to it, and what holds whatever they do."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import ExitStack
from itertools import count
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
import structlog
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

import deltawire.gateway.hub.channel
import deltawire.gateway.hub.deadlines
import deltawire.gateway.hub.flushing
import deltawire.gateway.server.gateway
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.streams.ending import ABANDONED
from deltawire.gateway.streams.leases import MAX_OPEN
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.publication import WITHHELD_FOR
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codec import JSON, Codec
from deltawire.protocol.codes import CloseCode
from deltawire.protocol.events import (
    Data,
    Error,
    MessageStart,
    MessageStop,
)
from deltawire.protocol.messages import Policy
from tests.contract.follower import Follower
from tests.contract.listener import Listener
from tests.contract.peers import Peer
from tests.contract.writer import WriterPeer
from tests.support.loop import VirtualLoop
from tests.support.naive import NaiveStream

MAX_PEERS = 10
SWEEP = 0.5
"""Seconds between looks at deadlines, at most."""

BLOCK_TIMEOUT = 4.0
"""Seconds a `block` consumer may hold producers up: less than a socket may stand still."""

TIMEOUT = 10.0
"""Seconds of every other timeout the machine's gateway has."""


class World(RuleBasedStateMachine):
    """A gateway, its peers, and a book of everything that was appended."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.logs = self.stack.enter_context(structlog.testing.capture_logs([structlog.processors.format_exc_info]))
        self.patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        self.loop = VirtualLoop()
        self.peers: list[Peer] = []  # until their sockets are gone
        self.books: dict[str, NaiveStream] = {}  # by epoch
        self.places: dict[bytes, int] = {}  # what was appended → its seq
        self.senders: dict[bytes, WriterPeer] = {}
        self.newest: dict[tuple[str, str | None], int] = defaultdict(int)  # (epoch, producer) → generation
        self.open: dict[tuple[str, str], str | None] = {}  # (epoch, message) → producer
        self.abandoned: dict[str, list[Writer | None]] = defaultdict(list)  # epoch → whose, with what comes next
        self.present_at: dict[tuple[str, str | None], float] = defaultdict(float)
        self.violations: list[str] = []
        self.steps = 0
        self.numbers = count(1)

    @initialize(
        write_limit=st.sampled_from([300, 2_000]),
        policy=st.sampled_from(Policy),
        retention_events=st.sampled_from([5, 30, 50_000]),
        retention_bytes=st.sampled_from([5_000, 8 << 20]),
        buffer_bytes=st.sampled_from([1_024, 1 << 20]),
        is_interrupted=st.booleans(),
    )
    def start(  # noqa: PLR0917 - drawn, by name
        self,
        write_limit: int,
        policy: Policy,
        retention_events: int,
        retention_bytes: int,
        buffer_bytes: int,
        is_interrupted: bool,  # noqa: FBT001 - drawn
    ) -> None:
        self.patch.setattr(deltawire.gateway.server.gateway, "WRITE_LIMIT", write_limit)
        if is_interrupted:  # after every single reader
            self.patch.setattr(deltawire.gateway.hub.flushing, "FLUSH_SLICE", 0.0)
        for module in (deltawire.gateway.hub.flushing, deltawire.gateway.hub.deadlines, deltawire.gateway.hub.channel):
            self.patch.setattr(module, "monotonic", self.loop.time)
        self.listen_to_appends()
        self.gateway = Gateway(
            Settings(
                policy=policy,
                buffer=5,
                buffer_bytes=buffer_bytes,
                retention_events=retention_events,
                retention_bytes=retention_bytes,
                block_timeout=BLOCK_TIMEOUT,
                closed_retention=30.0,
                drain_timeout=5.0,
            )
        )
        self.hub = self.gateway.hub
        self.loop.finish(self.gateway.__aenter__())
        for producer, generation in (("p", 0), (None, 0)):
            self.add_writer("a", producer, generation, "wait", JSON)
        for asked in (None, Policy.BLOCK, Policy.DROP_OLDEST, Policy.DISCONNECT):
            self.subscribe("a", {"policy": asked}, JSON)

    def subscribe(self, name: str, query: dict[str, Any], codec: Codec | None) -> None:
        """Add a consumer; one over plain HTTP where there is no codec, which resumes as EventSource does."""
        wanted = {key: value for key, value in query.items() if value is not None}
        if codec is None:
            position = (wanted.pop("epoch", ""), wanted.get("after"))
            last_id = f"{position[0]}.{position[1]}" if position[0] else ""
            wanted.pop("after", None)
            self.peers.append(Listener(self.loop, name, urlencode(wanted), self.find_book, last_id))
        else:
            self.peers.append(Follower(self.loop, name, urlencode(wanted), codec, self.find_book))
        self.settle()

    def add_writer(self, name: str, producer: str | None, generation: int, on_full: str, codec: Codec) -> None:
        self.peers.append(WriterPeer(self.loop, name, producer, generation, on_full, codec, self))
        for peer in self.writers:
            if peer.stream == name and peer.producer == producer:
                peer.may_be_ended = True  # an earlier connection with the same numbers is fenced when it goes on
        self.settle()

    def listen_to_appends(self) -> None:
        append, open_producer = Stream.append, Stream.open_producer

        def note(  # noqa: PLR0917 - as what it stands for
            stream: Stream,
            data: Data,
            timestamp: str,
            now: float,
            writer: Writer | None = None,
            is_urgent: bool = False,  # noqa: FBT001, FBT002 - likewise
        ) -> int:
            seq = append(stream, data, timestamp, now, writer, is_urgent)
            self.note(stream, data, seq, writer)
            return seq

        def note_coming(stream: Stream, producer_id: str | None, generation: int) -> Writer:
            writer = open_producer(stream, producer_id, generation)
            self.find_book(stream.epoch).came(writer)
            return writer

        self.patch.setattr(Stream, "append", note)
        self.patch.setattr(Stream, "open_producer", note_coming)

    def note(self, stream: Stream, data: Data, seq: int, writer: Writer | None) -> None:
        """Something was appended. What is wrong with it is told at the end of the step: errors are caught here."""
        book = self.find_book(stream.epoch)
        self.check_what_is_left_behind(book, data, writer)
        book.note(data, stream.last_active_at, writer)
        if seq != book.head:
            self.violations.append(f"{seq} is given after {book.head - 1}")
        key = msgspec.json.encode(data)
        sender = self.senders.get(key)
        if sender is not None:
            if key in self.places:
                self.violations.append(f"{data} is appended twice")
            if writer is None or sender.producer != writer.id or sender.epoch != stream.epoch:
                self.violations.append(f"{data} is appended elsewhere")
            if sender.producer is not None and sender.generation < self.newest[stream.epoch, sender.producer]:
                self.violations.append(f"{data} is of an older generation")
            self.places[key] = seq
        if isinstance(data, MessageStart):
            self.open[stream.epoch, data.message_id] = None if writer is None else writer.id
            begun = [key for key in self.open if key[0] == stream.epoch]
            if len(begun) > MAX_OPEN:
                del self.open[begun[0]]
        elif isinstance(data, MessageStop):
            self.open.pop((stream.epoch, data.message_id), None)

    def check_what_is_left_behind(self, book: NaiveStream, data: Data, writer: Writer | None) -> None:
        """A message is abandoned by nobody but its producer come back, which begins another one next."""
        if isinstance(data, MessageStop) and book.events[-1:] == [Error(ABANDONED, code="producer_lost")]:
            of, goes_on = book.open[data.message_id]
            if of is None or (of.id is not None and goes_on):
                self.violations.append(f"{data} is not of a producer that came back")
            self.abandoned[book.stream.epoch].append(of)
        elif writer is not None:
            abandoned = self.abandoned.pop(book.stream.epoch, [])
            if abandoned and not isinstance(data, MessageStart):
                self.violations.append(f"{data} abandons messages")
            if any(of is None or of.id != writer.id for of in abandoned):
                self.violations.append(f"{data} ends messages of somebody else")
            for message in book.left_behind(data, writer):
                self.violations.append(f"{data} leaves {message} open")

    def find_book(self, epoch: str) -> NaiveStream:
        if epoch not in self.books:
            [stream] = [stream for stream in self.hub.manager.list() if stream.epoch == epoch]
            self.books[epoch] = NaiveStream(stream)
        return self.books[epoch]

    def seq_of(self, data: Data) -> int | None:
        return self.places.get(msgspec.json.encode(data))

    def settle(self, seconds: float = 0.0) -> None:
        """Let the step have all its consequences."""
        self.steps += 1
        self.loop.advance(seconds)
        for failure in self.loop.failures:
            self.invariant_9_nothing_fails_inside()  # whose failure is the cause
            raise failure if isinstance(failure, BaseException) else AssertionError(failure)
        for peer in self.peers:
            if isinstance(peer, WriterPeer) and peer.epoch:
                key = peer.epoch, peer.producer
                self.present_at[key] = self.now
                self.newest[key] = max(self.newest[key], peer.generation)
        self.peers = [peer for peer in self.peers if not peer.socket.is_lost]

    @property
    def now(self) -> float:
        return self.loop.time()

    @property
    def followers(self) -> list[Follower]:
        return [peer for peer in self.peers if isinstance(peer, Follower) and not peer.is_over]

    @property
    def writers(self) -> list[WriterPeer]:
        return [peer for peer in self.peers if isinstance(peer, WriterPeer) and not peer.is_over]

    @property
    def living(self) -> list[Peer]:
        return [peer for peer in self.peers if not peer.is_over]

    # What holds at the end of each step

    def check_waiting(self) -> None:
        self.invariant_7_who_reads_has_everything_at_the_end_of_the_step()
        self.invariant_7_nobody_but_a_full_block_consumer_holds_a_producer_up_and_that_not_for_long()

    @invariant()
    def invariant_3_appended_once_in_order_and_never_by_an_older_generation(self) -> None:
        assert not self.violations

    @invariant()
    def invariant_7_who_reads_has_everything_at_the_end_of_the_step(self) -> None:
        for follower in self.followers:
            if not follower.is_reading:
                continue
            assert follower.position >= 0, "it hears at once where it stands"
            lacking: object = follower.lacks() or (follower.book.stream.is_closed and "the end")
            if not lacking:
                follower.behind_since = None
                continue
            if follower.behind_since is None:
                follower.behind_since = self.now
            allowed = follower.request.interval / 1000
            assert allowed, f"{lacking} lacking"
            assert self.now - follower.behind_since <= allowed, f"{lacking} lacking"

    @invariant()
    def invariant_7_nobody_but_a_full_block_consumer_holds_a_producer_up_and_that_not_for_long(self) -> None:
        for writer in self.writers:
            if not writer.is_reading or not writer.pending or not writer.epoch:
                continue
            if not writer.is_polite:
                continue  # it began a frame that has no end: what it says since is a part of that
            oldest = writer.pending[0][1]
            is_appended = writer.library.seq_of(oldest) is not None  # and only its ack is missing
            if writer.held_since[1] is not oldest or writer.is_appended is not is_appended:
                writer.held_since, writer.is_appended = (self.now, oldest), is_appended
            if is_appended:
                assert self.now - writer.held_since[0] <= 2 * WITHHELD_FOR, "an ack is withheld for too long"
                continue
            blocking = [
                peer
                for peer in self.peers
                if isinstance(peer, Follower)
                and peer.epoch == writer.epoch
                and peer.policy is Policy.BLOCK
                and peer.socket.is_full
            ]
            assert blocking, f"{writer.pending} is held up by nobody"
            since = max(writer.held_since[0], *(peer.socket.stuck_since for peer in blocking))
            assert self.now - since <= BLOCK_TIMEOUT + 2 * SWEEP, "a stalled consumer holds a producer up for too long"

    @invariant()
    def invariant_8_nothing_is_left_of_whoever_is_gone(self) -> None:
        if not hasattr(self, "hub"):
            return
        hub = self.hub
        assert len(self.gateway._connections) == len([peer for peer in self.peers if peer.is_served])
        assert not any(hub.dispatcher._scheduler._queues)
        assert not hub.dispatcher._scheduler._resting
        streams = hub.manager.list()
        assert sum(stream.publishing for stream in streams) <= len(
            [it for it in self.peers if it not in self.followers]
        )
        assert sum(stream.consumers for stream in streams) <= len([it for it in self.peers if it not in self.writers])
        for stream in streams:
            assert set(stream._views.values()) == {it.view for it in stream._subscriptions}
        for channel in hub.dispatcher._channels.values():
            assert channel.attached or channel._waiting, "a channel nobody holds"
            assert not [trip for trip in channel._trips if trip[2] not in channel.attached]
        if self.peers:
            return
        assert not hub.dispatcher._channels
        assert list(hub.deadlines._swept) == [self.gateway._housekeeping]
        for stream in streams:
            assert stream.is_idle
            assert not stream.blocking.subscriptions
            assert not stream._views

    @invariant()
    def a_lost_producer_is_waited_for_no_longer_than_its_lease(self) -> None:
        for (epoch, message), producer in list(self.open.items()):
            if self.books[epoch].stream.is_closed:
                del self.open[epoch, message]
            elif (epoch, producer) in self.present_at:
                gone_for = self.now - self.present_at[epoch, producer]
                assert gone_for <= TIMEOUT + 2 * SWEEP, f"{message} of {producer} is never ended"

    @invariant()
    def invariant_9_nothing_fails_inside(self) -> None:
        failures = [entry for entry in self.logs if entry["log_level"] in ("error", "critical")]
        assert not failures, "\n".join(entry.get("exception", str(entry)) for entry in failures)

    def nothing_is_kept(self) -> None:
        """Invariant 8, once every stream is closed and its time is over."""
        manager = self.hub.manager
        assert (manager.count(), manager.bytes, manager.ledger.bytes) == (0, 0, 0)
        assert not manager._closed
        assert not self.hub.dispatcher._leased

    def teardown(self) -> None:
        try:
            if hasattr(self, "gateway"):
                self.finish()
        finally:
            try:
                self.loop.finish(self.loop.shutdown())
            finally:  # even of a loop that can't be driven to its end
                self.loop.close()
                self.stack.close()

    def finish(self) -> None:
        """Everybody reads again, and the gateway goes: each is told so, and nothing is left."""
        for peer in self.living:
            if peer.is_polite and not peer.is_reading:
                peer.go_on()
        self.settle(0.05)
        self.check_waiting()
        last = [peer for peer in self.living if peer.is_polite]
        for peer in self.peers:
            peer.may_be_ended = True
        self.loop.finish(self.gateway.__aexit__(), within=TIMEOUT)
        self.settle()
        for peer in last:
            assert peer.is_over
            assert peer.was_hindered or peer.close_code in (CloseCode.STREAM_ENDED, CloseCode.SHUTTING_DOWN)
        assert not self.peers
        self.settle(60.0)
        assert not asyncio.all_tasks(self.loop)
        assert not self.loop.has_timers
        assert not self.hub.deadlines._swept
        assert not self.hub.dispatcher._channels
        self.invariant_9_nothing_fails_inside()
