"""Clients: a producer that numbers its events, and a reader that resumes where it was. Both go from node to node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

from tests.simulation.book import Book
from tests.simulation.network import Network
from tests.simulation.node import PORT
from tests.simulation.world import Process, World
from tests.support.rawpeer import HANDSHAKE, PONG, frame, text

PATIENCE: Final = 8.0
"""Seconds without a sign of life after which a client connects anew."""

WINDOW: Final = 6
"""Events that a producer has not heard an ack of, at most."""


class Session(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, client: Client, target: str) -> None:
        self._client = client
        self._target = target
        self._heard = bytearray()
        self._is_open = False
        self._transport: asyncio.Transport | None = None
        self.heard_at = client.world.now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(HANDSHAKE.format(path=self._target, headers="").encode())

    def abort(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, data: bytes) -> None:
        """Send a frame."""
        assert self._transport is not None
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._client.world.now
        self._heard += data
        if not self._is_open:
            head, found, rest = bytes(self._heard).partition(b"\r\n\r\n")
            if not found:
                return
            self._is_open = True
            self._heard = bytearray(rest)
            status = int(head.split()[1])
            if status != 101:
                self._client.refused(self, status)
                self.abort()
                return
        while (message := self._next()) is not None:
            opcode, payload = message
            if opcode == 9:
                self.send(frame(PONG, payload))
            elif opcode == 1:
                self._client.hear(self, json.loads(payload))

    def _next(self) -> tuple[int, bytes] | None:
        heard = self._heard
        if len(heard) < 2:
            return None
        size, start = heard[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(heard[2:start])
        if len(heard) < start + size:
            return None
        opcode, payload = heard[0] & 15, bytes(heard[start : start + size])
        del heard[: start + size]
        return opcode, payload

    def connection_lost(self, _: Exception | None) -> None:
        self._client.lost(self)


class Client(Process):
    """Somebody who connects again, to any node.

    Args:
        world: where it lives.
        network: that it is on.
        name: of it.
        nodes: their names.
        book: of what is promised.
        stream: that it is there for.
    """

    def __init__(  # noqa: PLR0917 - all of them for each
        self, world: World, network: Network, name: str, nodes: Sequence[str], book: Book, stream: str
    ) -> None:
        super().__init__(world, name)
        self.book = book
        self.stream = stream
        self._network = network
        self._nodes = nodes
        self.session: Session | None = None
        self.later(0.0, self.connect)

    def later(self, seconds: float, step: Callable[[], None]) -> None:
        """Take a step later."""
        self.world.after(seconds, partial(self.deliver, step))

    @property
    def target(self) -> str:
        """Where it connects to."""
        raise NotImplementedError

    @property
    def is_done(self) -> bool:
        """Whether it has all that it is there for."""
        raise NotImplementedError

    def connect(self) -> None:
        """Connect to any node."""
        node = self.random.choice(self._nodes)
        self.session = session = Session(self, f"/v1/streams/{self.stream}/{self.target}")
        self.world.tell(f"{self.name} connects to {node}: {self.target}")
        self._network.dial(
            self, node, PORT, lambda it: it.near.connect(session), partial(self._again, session, "refused")
        )
        self.later(PATIENCE, partial(self._watch, session))

    def _watch(self, session: Session) -> None:
        if session is self.session:
            if self.world.now - session.heard_at >= PATIENCE and not self.is_done:
                session.abort()
                self._again(session, "silence")
            else:
                self.later(PATIENCE, partial(self._watch, session))

    def _again(self, session: Session, why: str) -> None:
        if session is self.session:
            self.session = None
            self.world.tell(f"{self.name} is off: {why}")
            self.left()
            self.later(0.1 + self.random.random(), self.connect)

    def refused(self, session: Session, status: int) -> None:
        """An HTTP status came instead of the connection."""
        if status not in (429, 503):
            self.book.violation(f"{self.name} is refused with {status}")
        self._again(session, f"status {status}")

    def lost(self, session: Session) -> None:
        """A connection is gone."""
        self._again(session, "lost")

    def hear(self, session: Session, message: dict[str, Any]) -> None:
        """A message came."""
        if session is not self.session:
            return
        if message["type"] == "problem":
            self.world.tell(f"{self.name} hears {message['code']}: {message['message'][:100]}")
            if not message["retryable"]:
                self.book.violation(f"{self.name} hears {message['code']}, and need not try again")
        else:
            self.take_message(message)

    def take_message(self, message: dict[str, Any]) -> None:
        """A message came that is no problem."""
        raise NotImplementedError

    def left(self) -> None:
        """The connection is gone."""


class Producer(Client):
    """Publishes some events, each once, however often it takes."""

    def __init__(self, *args: Any, total: int) -> None:
        self.total = total
        self.acked = self._sent = 0
        self._epoch = ""
        self._acked_in = ""  # epoch
        self._is_ready = False
        super().__init__(*args)
        self.later(0.0, self._write)

    @property
    def target(self) -> str:
        return f"publish?producer={self.name}"

    @property
    def is_done(self) -> bool:
        return self.acked >= self.total

    def left(self) -> None:
        self._is_ready = False

    def take_message(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ready":
                self._epoch, number = message["epoch"], message["producer_seq"]
                self.world.tell(f"{self.name} is ready: {self._epoch} {number}, head {message['head']}")
                if number < self.acked and self._epoch == self._acked_in:
                    self.book.violation(f"{self.name}: {self.acked} was acked in {self._epoch}, ready says {number}")
                self._sent = self.acked = number
                self._acked_in = self._epoch
                self._is_ready = True
            case "ack":
                number = message.get("producer_seq", 0)
                self.world.tell(f"{self.name} has {number} acked: {self._epoch} {message['seq']}")
                self.acked, self._acked_in = max(self.acked, number), self._epoch
                self.book.acked(self.stream, self._epoch, message["seq"], f"{self.name}/{number}")

    def _write(self) -> None:
        if self._is_ready and self.session is not None:
            for _ in range(self.random.randint(1, 3)):
                if self._sent < self.total and self._sent - self.acked < WINDOW:
                    self._sent += 1
                    said = {"text": f"{self.name}/{self._sent}"}
                    self.session.send(text({"type": "text_delta", "producer_seq": self._sent, "data": said}))
        self.later(self.random.uniform(0.2, 0.8), self._write)


class Reader(Client):
    """Reads a stream, from where it was.

    Attributes:
        epoch: of what it has read; empty before.
        at: seq that it has got to.
    """

    def __init__(self, *args: Any, position: tuple[str, int] = ("", 0), is_restless: bool = True) -> None:
        self.epoch, self.at = position
        self.head = -1  # as it was told
        self.texts: dict[int, str] = {}  # of its epoch
        self._is_fresh = False  # it has just subscribed
        self._is_restless = is_restless
        super().__init__(*args)
        if is_restless:
            self.later(3.0 * self.random.random(), self._move)

    @property
    def target(self) -> str:
        where = f"&after={self.at}&epoch={self.epoch}" if self.epoch else ""
        return f"subscribe?policy=disconnect&buffer=10000{where}"

    @property
    def is_done(self) -> bool:
        return self.at >= self.head >= 0

    def _move(self) -> None:
        if self.session is not None:
            self.session.abort()
        self.later(3.0 + 8.0 * self.random.random(), self._move)

    def take_message(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribed":
                self._subscribed(message)
            case "gap":
                self._gap(message)
            case "text_delta":
                seq = message["seq"]
                self._follows(seq)
                self.at = seq
                self.texts[seq] = message["data"]["text"]
                self.book.read(self.stream, self.epoch, seq, self.texts[seq])
            case "caught_up":
                self._is_fresh = False
                if message["seq"] != self.at:
                    self.book.violation(f"{self.name} is at {self.at}, and caught up at {message['seq']}")
            case other:
                self.book.violation(f"{self.name} hears {other}")

    def _subscribed(self, message: dict[str, Any]) -> None:
        self._is_fresh = True
        epoch, after, before = message["epoch"], message["after"], self.at
        told = f"{epoch} after {after}, head {message['head']}, recovered {message['recovered']}"
        self.world.tell(f"{self.name} is subscribed: {told}")
        self.head = message["head"]
        self._expected_gap: tuple[int, int] | None = None
        if epoch != self.epoch:
            if self.epoch and message["recovered"]:
                self.book.same(self.stream, self.epoch, epoch, before)
            if self.epoch and not message["recovered"] and after:
                self.book.same(self.stream, self.epoch, epoch, after)
                self._expected_gap = (after + 1, before)
            self.texts = {seq: it for seq, it in self.texts.items() if seq <= after}
        if message["recovered"] and after != before:
            self.book.violation(f"{self.name} was at {before}, and is recovered after {after}")
        self.epoch, self.at = epoch, after

    def _gap(self, message: dict[str, Any]) -> None:
        first, last, reason = message["first"], message["seq"], message["reason"]
        self.world.tell(f"{self.name} has a gap: {first} to {last}, {reason}")
        if reason == "epoch_changed":
            if not self._is_fresh:
                self.book.violation(f"{self.name} hears of an epoch in the middle of it")
            if self._expected_gap is not None and (first, last) != self._expected_gap:
                self.book.violation(f"{self.name} has a gap {first} to {last}, not {self._expected_gap}")
            if self._expected_gap is None:
                self.at = last
        else:
            self._follows(first)
            self.at = last
            self.book.missed(self.stream, self.epoch, first, last)

    def _follows(self, seq: int) -> None:
        if seq != self.at + 1:
            self.book.violation(f"{self.name} is at {self.at} of {self.epoch}, and gets {seq}")
