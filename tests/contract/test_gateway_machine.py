"""All invariants at once, on a whole gateway: real connections over virtual sockets, in virtual time.

Everything from the handshake to the log is the product's own; the clock and the kernel alone are not. `tests.streams`
checks what the policies decide to the event; here is who waits for whom, what is left behind, and what is answered.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
import structlog
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import gateway.hub.channel
import gateway.hub.hub
import gateway.hub.pace
import gateway.server.gateway
from gateway.config import Settings
from gateway.server import Gateway
from gateway.server.connection import CLOSE_TIMEOUT
from gateway.streams.leases import MAX_OPEN
from gateway.streams.stream import Stream
from protocol.codec import JSON, MSGPACK, Codec
from protocol.events import (
    Data,
    Error,
    EventType,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from protocol.messages import Policy
from tests.contract.follower import Follower
from tests.contract.loop import VirtualLoop
from tests.contract.peers import Peer
from tests.contract.writer import Writer
from tests.server.rawpeer import BINARY, TEXT, frame
from tests.streams.naive import NaiveStream

MAX_PEERS = 10
SWEEP = 0.5
"""Seconds between looks at deadlines, at most."""

TIMEOUT = 10.0
"""Seconds of every timeout the machine's gateway has."""

picks = st.integers(0, 99)
names = st.sampled_from(["a", "a", "a", "b"])
codecs = st.sampled_from([JSON, JSON, MSGPACK])
MAKERS: dict[str, Callable[[int], Data]] = {
    "text": lambda number: TextDelta(f"{number};"),
    "big": lambda number: TextDelta(f"{number};" + "x" * 900),
    "thinking": lambda number: Thinking(f"{number};", number % 2),
    "tool": lambda number: ToolDelta(0, f"{number};"),
    "start": lambda number: MessageStart(f"m{number}"),
    "usage": lambda number: Usage(number, number, number),
    "error": lambda number: Error(f"error {number}"),
    "other": lambda number: Extension("p", "n", number),
}
kinds = st.sampled_from(["text", "text", *MAKERS, "stop"])
batches = st.lists(kinds, min_size=1, max_size=8)

values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 5),
        st.sampled_from([2**53, -(2**63), 2**63, 1e300, -0.0, 0.5]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["text", "index", "message_id", "provider", "name", "data", ""]), inner),
    ),
    max_leaves=8,
)
words = st.sampled_from([*EventType, "signal", "close_stream", "ack", "", "\ud7ff", "x" * 300])
envelopes = st.fixed_dictionaries(
    {"type": st.one_of(words, values)},
    optional={
        "data": values,
        "name": values,
        "id": values,
        "seq": values,
        "first": values,
        "timestamp": st.one_of(values, st.sampled_from(["2026-13-45T99:00:00Z", "2026-11-22T11:00:00", "now"])),
        "producer_seq": st.sampled_from([0, -1, 1.5, "1", None, 2**53, 2**64, 1_000_000]),
        "surplus": values,
    },
)
malformed: st.SearchStrategy[Any] = st.one_of(envelopes, st.lists(envelopes, min_size=1, max_size=3), values)
spoilt = st.one_of(  # not even an encoding
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"",
            b"[" * 2000,
            b'{"type":' + b"[" * 2000,
            b'{"type":"text_delta","data":{"text":"\xff"}}',
            b'{"type":"text_delta","data":{"text":"\\ud800"}}',
            b'{"type":"extension","data":{"provider":"p","name":"n","data":NaN}}',
            b'{"type":"usage","data":{"prompt_tokens":' + b"9" * 400 + b"}}",
            b'{"type":"text_delta","data":{"text":"a"}} {}',
            b"x" * 70_000,
            b"\xdd\xff\xff\xff\xff",
            b"\xc1",
        ]
    ),
)
parameters = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(
                [
                    "from",
                    "after",
                    "epoch",
                    "policy",
                    "buffer",
                    "types",
                    "interval",
                    "producer",
                    "generation",
                    "on_full",
                    "limit",
                    "x",
                ]
            ),
            st.text(max_size=3),
        ),
        st.one_of(
            st.sampled_from(
                ["", "0", "1", "-1", "1.5", "1e3", "9" * 30, "start", "now", "e0", "block", "drop", "wait", "reject"]
            ),
            st.sampled_from(["text_delta,", ",", "usage,usage", "..", "a/b", "٣", "\x00", "x" * 200]),
            st.text(max_size=4),
        ),
    ),
    max_size=4,
)


class GatewayMachine(RuleBasedStateMachine):
    """Producers, consumers of every policy, their faults and their lies, time, memory."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.logs = self.stack.enter_context(structlog.testing.capture_logs())
        self.patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        self.loop = VirtualLoop()
        self.peers: list[Peer] = []  # until their sockets are gone
        self.books: dict[str, NaiveStream] = {}  # by epoch
        self.places: dict[bytes, int] = {}  # what was appended → its seq
        self.senders: dict[bytes, Writer] = {}
        self.newest: dict[tuple[str, str | None], int] = defaultdict(int)  # (epoch, producer) → generation
        self.open: dict[tuple[str, str], str | None] = {}  # (epoch, message) → producer
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
        self.patch.setattr(gateway.server.gateway, "WRITE_LIMIT", write_limit)
        if is_interrupted:  # after every single reader
            self.patch.setattr(gateway.hub.hub, "SLICE", 0.0)
        for module in (gateway.hub.hub, gateway.hub.channel, gateway.hub.pace):
            self.patch.setattr(module, "monotonic", self.loop.time)
        self.listen_to_appends()
        self.gateway = Gateway(
            Settings(
                policy=policy,
                buffer=5,
                buffer_bytes=buffer_bytes,
                retention_events=retention_events,
                retention_bytes=retention_bytes,
                closed_retention=30.0,
                drain_timeout=5.0,
            )
        )
        self.hub = self.gateway.hub
        self.loop.finish(self.gateway.__aenter__())
        for producer, generation in (("p", 0), (None, 0)):
            self.write("a", producer, generation, "wait", JSON)
        for asked in (None, Policy.BLOCK, Policy.DROP_OLDEST, Policy.DISCONNECT):
            self.subscribe("a", {"policy": asked}, JSON)

    def listen_to_appends(self) -> None:
        append = Stream.append

        def note(stream: Stream, data: Data, timestamp: str, now: float, producer_id: str | None = None) -> int:
            seq = append(stream, data, timestamp, now, producer_id)
            self.note(stream, data, seq, producer_id)
            return seq

        self.patch.setattr(Stream, "append", note)

    def note(self, stream: Stream, data: Data, seq: int, producer_id: str | None) -> None:
        """Something was appended. What is wrong with it is told at the end of the step: errors are caught here."""
        book = self.find_book(stream.epoch)
        book.note(data, stream.last_active_at)
        if seq != book.head:
            self.violations.append(f"{seq} is given after {book.head - 1}")
        key = msgspec.json.encode(data)
        sender = self.senders.get(key)
        if sender is not None:
            if key in self.places:
                self.violations.append(f"{data} is appended twice")
            if sender.producer != producer_id or sender.epoch != stream.epoch:
                self.violations.append(f"{data} is appended elsewhere")
            if sender.producer is not None and sender.generation < self.newest[stream.epoch, sender.producer]:
                self.violations.append(f"{data} is of an older generation")
            self.places[key] = seq
        if isinstance(data, MessageStart):
            self.open[stream.epoch, data.message_id] = producer_id
            begun = [key for key in self.open if key[0] == stream.epoch]
            if len(begun) > MAX_OPEN:
                del self.open[begun[0]]
        elif isinstance(data, MessageStop):
            self.open.pop((stream.epoch, data.message_id), None)

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
            raise failure if isinstance(failure, BaseException) else AssertionError(failure)
        for peer in self.peers:
            if isinstance(peer, Writer) and peer.epoch:
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
    def writers(self) -> list[Writer]:
        return [peer for peer in self.peers if isinstance(peer, Writer) and not peer.is_over]

    @property
    def living(self) -> list[Peer]:
        return [peer for peer in self.peers if not peer.is_over]

    # Coming and going

    @precondition(lambda self: len(self.peers) < MAX_PEERS)
    @rule(
        name=names,
        start=st.sampled_from(["start", "start", "now"]),
        policy=st.sampled_from([None, *Policy]),
        buffer=st.sampled_from([None, 1, 3, 20]),
        types=st.sampled_from([None, None, None, "text_delta", "usage,message_stop"]),
        interval=st.sampled_from([0, 0, 0, 16]),
        codec=codecs,
    )
    def follow(  # noqa: PLR0917 - drawn, by name
        self,
        name: str,
        start: str,
        policy: Policy | None,
        buffer: int | None,
        types: str | None,
        interval: int,
        codec: Codec,
    ) -> None:
        if (policy or self.gateway.settings.policy) is not Policy.COALESCE:
            interval = 0
        query: dict[str, Any] = {"from": start, "policy": policy, "buffer": buffer, "types": types}
        self.subscribe(name, query | {"interval": interval or None}, codec)

    def subscribe(self, name: str, query: dict[str, Any], codec: Codec) -> None:
        said = urlencode({key: value for key, value in query.items() if value is not None})
        self.peers.append(Follower(self.loop, name, said, codec, self.find_book))
        self.settle()

    @precondition(lambda self: bool(self.followers))
    @rule(pick=picks, policy=st.sampled_from([None, *Policy]), codec=codecs, cuts=st.booleans())
    def resume(self, pick: int, policy: Policy | None, codec: Codec, cuts: bool) -> None:  # noqa: FBT001 - drawn
        old = self.followers[pick % len(self.followers)]
        if old.position < 0:
            return
        old.cut() if cuts else old.hang_up()
        types = None if old.request.types is None else ",".join(old.request.types)
        query = {"after": old.position, "epoch": old.epoch, "policy": policy, "types": types}
        self.subscribe(old.stream, query, codec)

    @precondition(lambda self: len(self.peers) < MAX_PEERS)
    @rule(
        name=names,
        producer=st.sampled_from(["p", "p", "q", None]),
        generation=st.sampled_from([0, 0, 1, 2]),
        on_full=st.sampled_from(["wait", "wait", "reject"]),
        codec=codecs,
    )
    def write(self, name: str, producer: str | None, generation: int, on_full: str, codec: Codec) -> None:
        self.peers.append(Writer(self.loop, name, producer, generation, on_full, codec, self))
        for peer in self.writers:
            if peer.stream == name and peer.producer == producer:
                peer.may_be_ended = True  # an earlier connection with the same numbers is fenced when it goes on
        self.settle()

    @precondition(lambda self: bool(self.living))
    @rule(pick=picks, how=st.sampled_from(["hang up", "cut", "vanish"]))
    def leave(self, pick: int, how: str) -> None:
        peer = self.living[pick % len(self.living)]
        match how:
            case "hang up":
                peer.hang_up()
            case "cut":
                peer.cut()
            case _:
                peer.is_polite = False
                peer.stall(0)
        self.settle()

    @precondition(lambda self: self.steps > 25)  # seldom: a crowd is what this is about
    @rule(closes=st.booleans())
    def everybody_leaves(self, closes: bool) -> None:  # noqa: FBT001 - drawn
        self.steps = 0
        for peer in self.peers:
            peer.cut()
        if closes:
            self.hub.close_all()
        self.settle()
        if self.peers:  # those that stood still are found dead
            self.settle(TIMEOUT + CLOSE_TIMEOUT + 4 * SWEEP)
        assert not self.peers
        self.settle(SWEEP)
        assert self.loop.timers == ["Hub._sweep"], "nothing else is yet to come"
        if closes:
            self.settle(31.0)
            self.nothing_is_kept()

    # Publishing

    @precondition(lambda self: bool(self.writers))
    @rule(pick=picks, wanted=batches, is_batch=st.booleans())
    def publish(self, pick: int, wanted: list[str], is_batch: bool) -> None:  # noqa: FBT001 - drawn
        self.publish_by(self.writers[pick % len(self.writers)], wanted, is_batch=is_batch)

    @precondition(lambda self: bool(self.writers))
    @rule(pick=picks, wanted=batches)
    def publish_from_all(self, pick: int, wanted: list[str]) -> None:
        for writer in self.writers:
            self.publish_by(writer, wanted, is_batch=bool(pick % 2))

    @precondition(lambda self: bool(self.writers and self.followers))
    @rule(pick=picks, wanted=batches, times=st.sampled_from([1, 3, 8]), then=st.sampled_from(["", "read", "wait"]))
    def pile_up(self, pick: int, wanted: list[str], times: int, then: str) -> None:
        """A consumer stands still while much is published; perhaps it reads on, perhaps it does not for long."""
        follower = self.followers[pick % len(self.followers)]
        follower.stall(0)
        follower.moved_at = self.now
        self.settle()
        for writer in [it for it in self.writers if it.stream == follower.stream]:
            self.publish_by(writer, wanted * times, is_batch=bool(pick % 2))
        if then == "wait" and follower.socket.is_full:
            self.wait(TIMEOUT + CLOSE_TIMEOUT + 4 * SWEEP)
            assert follower.socket.is_lost or not follower.socket.is_full, "send_timeout ends what takes nothing"
        elif then == "read" and not follower.is_over:
            follower.go_on()
            self.settle()

    def publish_by(self, writer: Writer, wanted: list[str], *, is_batch: bool) -> None:
        if writer.is_over or not writer.epoch:
            return
        made = [self.make(kind, writer) for kind in wanted]
        self.senders.update((msgspec.json.encode(data), writer) for data in made)
        writer.publish(made, is_batch=is_batch)
        self.settle()

    def make(self, kind: str, writer: Writer) -> Data:
        """An event that says what no other one says."""
        number = next(self.numbers)
        if kind == "stop":
            mine = [message for (epoch, message), _ in self.open.items() if epoch == writer.epoch]
            return MessageStop(mine[-1] if mine else "m", f"stop {number}")
        return MAKERS[kind](number)

    @precondition(lambda self: bool(self.writers))
    @rule(pick=picks, times=st.integers(1, 4))
    def repeat(self, pick: int, times: int) -> None:
        self.writers[pick % len(self.writers)].repeat(times)
        self.settle()

    @precondition(lambda self: bool(self.writers) and self.steps > 12)
    @rule(pick=picks, asks=st.booleans())
    def close(self, pick: int, asks: bool) -> None:  # noqa: FBT001 - drawn
        writer = self.writers[pick % len(self.writers)]
        if asks:
            writer.close_stream()
        elif writer.stream in [stream.id for stream in self.hub.list()]:
            self.hub.close(writer.stream)
        self.settle()

    @precondition(lambda self: bool(self.followers))
    @rule(pick=picks, times=st.sampled_from([1, 1, 30]))
    def signal(self, pick: int, times: int) -> None:
        follower = self.followers[pick % len(self.followers)]
        follower.was_hindered |= times > 1
        for _ in range(times):
            value = {"type": "signal", "name": "cancel"}
            follower.send(json.dumps(value).encode() if follower.codec.is_text else msgspec.msgpack.encode(value))
        self.settle()

    # Standing still

    @precondition(lambda self: bool(self.living))
    @rule(pick=picks, room=st.sampled_from([0, 0, 200, 3_000]))
    def stall(self, pick: int, room: int) -> None:
        peer = self.living[pick % len(self.living)]
        peer.stall(room)
        peer.moved_at = self.now
        self.settle()

    @precondition(lambda self: any(not peer.is_reading and peer.is_polite for peer in self.living))
    @rule(pick=picks)
    def go_on(self, pick: int) -> None:
        stalled = [peer for peer in self.living if not peer.is_reading and peer.is_polite]
        stalled[pick % len(stalled)].go_on()
        self.settle()

    @rule(seconds=st.sampled_from([0.016, 0.3, 4.0, 11.0, 31.0]))
    def wait(self, seconds: float) -> None:
        while seconds > 0:  # in steps, so that what must not last is seen
            self.settle(min(seconds, SWEEP))
            seconds -= SWEEP
            self.check_waiting()

    @precondition(lambda self: bool(self.writers))
    @rule(pick=picks, wanted=batches, seconds=st.sampled_from([0.0, 0.0, TIMEOUT + 2 * SWEEP]))
    def run_short_of_memory(self, pick: int, wanted: list[str], seconds: float) -> None:
        writer = self.writers[pick % len(self.writers)]
        writer.may_be_ended = True
        before = self.hub.manager.memory_limit
        self.hub.manager.memory_limit = 0
        self.publish_by(writer, wanted, is_batch=True)
        self.settle(seconds)
        self.hub.manager.memory_limit = before

    # Lying

    @precondition(lambda self: bool(self.living))
    @rule(pick=picks, value=malformed)
    def speak_nonsense(self, pick: int, value: Any) -> None:
        peer = self.living[pick % len(self.living)]
        payload = json.dumps(value).encode() if peer.codec.is_text else _pack(value)
        self.say(peer, frame(TEXT if peer.codec.is_text else BINARY, payload), is_answered=value != [])

    @precondition(lambda self: bool(self.living))
    @rule(pick=picks, payload=spoilt, breaks=st.sampled_from(["", "", "kind", "framing"]))
    def speak_noise(self, pick: int, payload: bytes, breaks: str) -> None:
        peer = self.living[pick % len(self.living)]
        if breaks == "framing" and payload:
            peer.was_hindered = True
            peer.is_polite = False
            self.say(peer, payload[:50], is_answered=False)
        else:
            is_text = peer.codec.is_text is not (breaks == "kind")
            self.say(peer, frame(TEXT if is_text else BINARY, payload), is_answered=False)

    def say(self, peer: Peer, data: bytes, *, is_answered: bool) -> None:
        if isinstance(peer, Follower):
            peer.was_hindered = True  # it may have said too much
        problems, acks = len(peer.problems), getattr(peer, "acks", 0)
        is_held = isinstance(peer, Writer) and bool(peer.pending)
        peer.socket.arrive(data)
        if isinstance(peer, Writer):
            peer.may_be_ended = True
        self.settle()
        if is_answered and peer.is_reading and peer.is_polite and not is_held:
            heard = len(peer.problems) > problems or getattr(peer, "acks", 0) > acks or peer.is_over
            assert heard, "what is said is answered"

    @precondition(lambda self: len(self.peers) < MAX_PEERS)
    @rule(
        stream=st.sampled_from(["a", "b", "", "..", "%2e%2e", "a b", "x" * 129, "%ff", "é"]),
        tail=st.sampled_from(["subscribe", "publish", "events", "nothing"]),
        query=parameters,
        codec=codecs,
    )
    def knock(self, stream: str, tail: str, query: list[tuple[str, str]], codec: Codec) -> None:
        target = f"/v1/streams/{quote(stream, safe='%')}/{tail}?{urlencode(query, errors='surrogatepass')}"
        peer = Peer(self.loop, target, codec)
        self.peers.append(peer)
        self.settle()
        if tail == "publish":  # perhaps as a producer that is waited for
            self.present_at.update(dict.fromkeys(self.present_at, self.now))
        assert peer.status is not None, "a request is answered at once"
        if not peer.is_over:
            assert peer.status == 101
            peer.hang_up()
            self.settle()

    @precondition(lambda self: len(self.peers) < MAX_PEERS)
    @rule(request=st.one_of(st.binary(max_size=40), st.just(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), st.just(b"")))
    def knock_at_random(self, request: bytes) -> None:
        peer = Peer(self.loop, "/", JSON, request)
        self.peers.append(peer)
        peer.was_hindered = True
        self.settle()
        if not peer.is_over:
            self.settle(TIMEOUT)
        assert peer.is_over, "nobody waits for ever for a request"

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
            if follower.is_reading and follower.lacks():
                if follower.behind_since is None:
                    follower.behind_since = self.now
                allowed = follower.request.interval / 1000
                assert self.now - follower.behind_since <= allowed, f"{follower.lacks()} lacking"
                assert allowed, f"{follower.lacks()} lacking"
            else:
                follower.behind_since = None

    @invariant()
    def invariant_7_nobody_but_a_full_block_consumer_holds_a_producer_up_and_that_not_for_long(self) -> None:
        for writer in self.writers:
            if not writer.is_reading or not writer.pending or not writer.epoch:
                continue
            oldest = self.places.get(b""), id(writer.pending[0][1])
            if writer.held_since[1] != oldest[1]:
                writer.held_since = (self.now, oldest[1])
            blocking = [
                peer
                for peer in self.peers
                if isinstance(peer, Follower)
                and peer.epoch == writer.epoch
                and peer.policy is Policy.BLOCK
                and peer.socket.is_full
            ]
            assert blocking, f"{writer.pending} is held up by nobody"
            since = max(writer.held_since[0], *(peer.moved_at for peer in blocking))
            assert self.now - since <= TIMEOUT + 2 * SWEEP, "a stalled consumer holds a producer up for too long"

    @invariant()
    def invariant_8_nothing_is_left_of_whoever_is_gone(self) -> None:
        if not hasattr(self, "hub"):
            return
        hub = self.hub
        assert len(self.gateway._connections) == len([peer for peer in self.peers if peer.status == 101])
        assert not hub._queue
        assert not hub._resting
        streams = hub.manager.list()
        assert sum(stream.publishing for stream in streams) <= len(
            [it for it in self.peers if it not in self.followers]
        )
        assert sum(stream.consumers for stream in streams) <= len([it for it in self.peers if it not in self.writers])
        for stream in streams:
            assert set(stream._views.values()) == {it.view for it in stream._subscriptions}
        for channel in hub._channels.values():
            assert channel.attached or channel._waiting, "a channel nobody holds"
            assert not [trip for trip in channel._trips if trip[2] not in channel.attached]
        if self.peers:
            return
        assert not hub._channels
        assert list(hub._swept) == [self.gateway]
        for stream in streams:
            assert stream.is_idle
            assert not stream._blocking
            assert not stream._views
        assert all(stream.leases.is_running for stream in hub._leased)

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
        assert not [entry for entry in self.logs if entry["log_level"] in ("error", "critical")]

    def nothing_is_kept(self) -> None:
        """Invariant 8, once every stream is closed and its time is over."""
        manager = self.hub.manager
        assert (manager.count(), manager.bytes, manager.ledger.bytes) == (0, 0, 0)
        assert not manager._closed
        assert not self.hub._leased

    def teardown(self) -> None:
        try:
            if hasattr(self, "gateway"):
                self.finish()
        finally:
            self.loop.finish(self.loop.shutdown())
            self.loop.close()
            self.stack.close()

    def finish(self) -> None:
        """Everybody reads again, and the gateway goes: each is told so, and nothing is left."""
        last = [peer for peer in self.living if peer.is_polite]
        for peer in last:
            if not peer.is_reading:
                peer.go_on()
        self.settle(0.05)
        self.check_waiting()
        for peer in self.peers:
            peer.may_be_ended = True
        self.loop.finish(self.gateway.__aexit__(), within=TIMEOUT)
        self.settle()
        for peer in last:
            assert peer.is_over
        assert not self.peers
        self.settle(60.0)
        assert not asyncio.all_tasks(self.loop)
        assert not self.loop.has_timers
        assert not self.hub._swept
        assert not self.hub._channels
        self.invariant_9_nothing_fails_inside()


def _pack(value: Any) -> bytes:
    """A value in MessagePack; what that can't say, as text."""
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        return b"\xc1"


TestGateway = GatewayMachine.TestCase
