"""All invariants at once, on a whole gateway: real connections over virtual sockets, in virtual time.

Everything from the handshake to the log is the product's own; the clock and the kernel alone are not. `tests.streams`
checks what the policies decide to the event; here is who waits for whom, what is left behind, and what is answered.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from deltawire.gateway.server.connection.sending import CLOSE_TIMEOUT
from deltawire.protocol.codec import JSON, Codec
from deltawire.protocol.events import (
    Data,
    MessageStop,
)
from deltawire.protocol.filters import format_filter
from deltawire.protocol.messages import Policy
from tests.contract.follower import Follower
from tests.contract.listener import Listener
from tests.contract.peers import Peer
from tests.contract.words import MAKERS, batches, codecs, encodings, malformed, names, parameters, picks, spoilt
from tests.contract.world import MAX_PEERS, SWEEP, TIMEOUT, World
from tests.contract.writer import WriterPeer
from tests.support.rawpeer import BINARY, TEXT, frame
from tests.support.soaking import lasting


class GatewayMachine(World):
    """Producers, consumers of every policy, their faults and their lies, time, memory."""

    # Coming and going

    @precondition(lambda self: len(self.peers) < MAX_PEERS)
    @rule(
        name=names,
        start=st.sampled_from(["start", "start", "now"]),
        policy=st.sampled_from([None, *Policy]),
        buffer=st.sampled_from([None, 1, 3, 20]),
        wanted=st.sampled_from(
            [{}, {}, {}, {"types": "text_delta"}, {"types": "usage,message_stop"}, {"kind": "text"}]
        ),
        urgent=st.sampled_from([None, "usage,message_stop,error"]),
        interval=st.sampled_from([0, 0, 0, 16]),
        codec=encodings,
    )
    def follow(  # noqa: PLR0917 - drawn, by name
        self,
        name: str,
        start: str,
        policy: Policy | None,
        buffer: int | None,
        wanted: dict[str, str],
        urgent: str | None,
        interval: int,
        codec: Codec | None,
    ) -> None:
        if (policy or self.gateway.settings.policy) is not Policy.COALESCE:
            interval = 0
        query: dict[str, Any] = {"from": start, "policy": policy, "buffer": buffer, "urgent": urgent}
        self.subscribe(name, query | wanted | {"interval": interval or None}, codec)

    @precondition(lambda self: bool(self.followers))
    @rule(pick=picks, policy=st.sampled_from([None, *Policy]), codec=encodings, cuts=st.booleans())
    def resume(self, pick: int, policy: Policy | None, codec: Codec | None, cuts: bool) -> None:  # noqa: FBT001 - drawn
        old = self.followers[pick % len(self.followers)]
        if old.position < 0:
            return
        old.cut() if cuts else old.hang_up()
        query = {"after": old.position, "epoch": old.epoch, "policy": policy}
        self.subscribe(old.stream, query | format_filter(old.request), codec)

    @precondition(lambda self: len(self.peers) < MAX_PEERS)
    @rule(
        name=names,
        producer=st.sampled_from(["p", "p", "q", None]),
        generation=st.sampled_from([0, 0, 1, 2]),
        on_full=st.sampled_from(["wait", "wait", "reject"]),
        codec=codecs,
    )
    def write(self, name: str, producer: str | None, generation: int, on_full: str, codec: Codec) -> None:
        self.add_writer(name, producer, generation, on_full, codec)

    @precondition(lambda self: bool(self.writers) and len(self.peers) < MAX_PEERS)
    @rule(
        pick=picks,
        wanted=st.sampled_from([["start"], ["start", "stop"], ["usage", "start"], ["stop", "start"]]),
        cuts=st.booleans(),
        newer=st.integers(0, 1),
    )
    def come_back(self, pick: int, wanted: list[str], cuts: bool, newer: int) -> None:  # noqa: FBT001 - drawn
        """A producer begins a message, and says the next thing on another connection."""
        writer = self.writers[pick % len(self.writers)]
        self.publish_by(writer, ["start", "text"], is_batch=False)
        if cuts:
            writer.cut()
            self.settle()
        self.add_writer(writer.stream, writer.producer, writer.generation + newer, "wait", JSON)
        if self.writers:
            self.publish_by(self.writers[-1], wanted, is_batch=False)

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
        assert "Consumer._end_interval" not in self.loop.timers or self.peers, "nobody is left to be written to"
        if self.peers:  # those that stood still are found dead
            self.settle(TIMEOUT + CLOSE_TIMEOUT + 4 * SWEEP)
        assert not self.peers
        self.settle(SWEEP)
        assert self.loop.timers == ["Deadlines._sweep"], "nothing else is yet to come"
        assert all(stream.leases.is_running for stream in self.hub.dispatcher._leased), (
            "one of a producer that came back"
        )
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
    @rule(
        pick=picks,
        wanted=batches,
        times=st.sampled_from([1, 3, 8]),
        then=st.sampled_from(["", "read", "wait", "succeed"]),
    )
    def pile_up(self, pick: int, wanted: list[str], times: int, then: str) -> None:
        """A consumer stands still while much is published; perhaps it reads on, perhaps it does not for long."""
        follower = self.followers[pick % len(self.followers)]
        follower.stall(0)
        self.settle()
        for writer in [it for it in self.writers if it.stream == follower.stream]:
            self.publish_by(writer, wanted * times, is_batch=bool(pick % 2))
        if then == "wait" and follower.socket.is_full:
            self.wait(TIMEOUT + CLOSE_TIMEOUT + 4 * SWEEP)
            assert follower.socket.is_lost or not follower.socket.is_full, "send_timeout ends what takes nothing"
        elif then == "succeed":  # newer connections, before what the older ones sent was taken
            for writer in [it for it in self.writers if it.stream == follower.stream]:
                if len(self.peers) < MAX_PEERS:  # else each time there would be twice as many
                    self.add_writer(follower.stream, writer.producer, writer.generation + pick % 2, "wait", JSON)
        if then in ("read", "succeed") and not follower.is_over:
            follower.go_on()
            self.settle()

    def publish_by(self, writer: WriterPeer, wanted: list[str], *, is_batch: bool) -> None:
        if writer.is_over or not writer.epoch:
            return
        made = [self.make(kind, writer) for kind in wanted]
        self.senders.update((msgspec.json.encode(data), writer) for data in made)
        writer.publish(made, is_batch=is_batch)
        self.settle()

    def make(self, kind: str, writer: WriterPeer) -> Data:
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
        follower.signal(times, self.gateway.settings.signal_rate)
        self.settle()

    # Standing still

    @precondition(lambda self: bool(self.living))
    @rule(pick=picks, room=st.sampled_from([0, 0, 200, 3_000]))
    def stall(self, pick: int, room: int) -> None:
        peer = self.living[pick % len(self.living)]
        peer.stall(room)
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
        is_held = isinstance(peer, WriterPeer) and bool(peer.pending)
        peer.socket.arrive(data)
        if isinstance(peer, WriterPeer):
            peer.may_be_ended = True
        self.settle()
        if isinstance(peer, Listener):
            return  # nobody listens to it
        if is_answered and peer.is_reading and peer.is_polite and not is_held:
            heard = len(peer.problems) > problems or getattr(peer, "acks", 0) > acks or peer.is_over
            assert heard, "what is said is answered"

    @precondition(lambda self: len(self.peers) < MAX_PEERS)
    @rule(
        stream=st.sampled_from(["a", "b", "", "..", "%2e%2e", "a b", "x" * 129, "%ff", "é"]),
        tail=st.sampled_from(["subscribe", "publish", "events", "sse", "nothing"]),
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
            assert peer.status == (200 if tail == "sse" else 101)
            peer.cut() if tail == "sse" else peer.hang_up()
            self.settle()

    @precondition(lambda self: len(self.peers) < MAX_PEERS)
    @rule(request=st.one_of(st.binary(max_size=40), st.just(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), st.just(b"")))
    def knock_at_random(self, request: bytes) -> None:
        peer = Peer(self.loop, "/", JSON, request)
        self.peers.append(peer)
        peer.was_hindered = True
        self.settle()
        if not peer.is_over:
            self.settle(TIMEOUT + 2 * SWEEP)
        assert peer.is_over, "nobody waits for ever for a request"


def _pack(value: Any) -> bytes:
    """A value in MessagePack; what that can't say, as text."""
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        return b"\xc1"


TestGateway = GatewayMachine.TestCase
TestGateway.settings = settings(max_examples=lasting(15, 500))  # half of what others draw: each starts a gateway
