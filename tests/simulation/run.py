"""One run: nodes, a server, clients and faults, from a seed; and whether every promise was kept."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import structlog

from tests.simulation import clocks
from tests.simulation.book import Book
from tests.simulation.clients import Client, Producer, Reader
from tests.simulation.faults import Fault, may_lose, plan
from tests.simulation.network import Network
from tests.simulation.node import Node
from tests.simulation.server import Server
from tests.simulation.sessions import Sessions
from tests.simulation.world import World

SETTLED: Final = 4.0
"""Seconds after the end of the last fault within which every node has renewed its session."""

RECOVERED: Final = 60.0
"""Seconds after that within which everybody has all that there is."""

EVENTS: Final = 30
"""Of each producer."""


class Run:
    """A run.

    Args:
        seed: of it.

    Attributes:
        world: its history.
        book: its violations.
        faults: what happens.
    """

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        self.book = Book(world)
        draw = world.draws("plan")
        self._count = draw.choice([2, 2, 3])
        latency = draw.choice([0.0002, 0.002, 0.02])
        self.faults = plan(draw, self._count)
        self.book.may_lose = may_lose(self.faults)
        self._retained = self.book.retained = draw.choice([50_000, 50_000, 15])
        self._spike = draw.choice([0.0, 0.02])
        self._network = Network(world, latency)
        self._nodes: list[Node] = []
        sessions = Sessions(world, lambda: self._nodes, self.book.violation)
        self._server = Server(world, self._network, self.book.called, sessions.renewed)
        self._streams = ["a", "b"][: draw.choice([1, 2])]
        self._producers = draw.choice([1, 2])
        self._log_failures: list[str] = []

    def play(self) -> list[str]:
        """Play it; returns what was wrong."""
        structlog.configure(processors=[self._log])
        try:
            with clocks.of(self.world):
                try:
                    self._play()
                finally:
                    for node in self._nodes:
                        if not node.is_gone:
                            self._look_into(node)
                            node.crash(is_told=True)
        finally:
            structlog.reset_defaults()
        return self.book.violations

    def _log(self, _: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if event.get("exc_info"):
            event = structlog.processors.format_exc_info(None, method, event)
        line = " ".join(str(event[key]) for key in ("event", "stream", "detail", "reason", "exception") if key in event)
        self.world.tell(f"        {self.world.running.name}: {line}")
        told = event["event"]
        is_planned = told == "storage.failed" or (told == "storage.read_failed" and self.book.may_lose)
        if method == "exception" or (told.endswith(("failed", "skipped")) and not is_planned):
            self.book.violation(f"{self.world.running.name} logs {line}")
        raise structlog.DropEvent

    def _play(self) -> None:
        world = self.world
        for fault in self.faults:
            world.tell(f"planned: {fault}")
        for number in range(self._count):
            self._nodes.append(self._start(number))
        names = [it.name for it in self._nodes]
        world.run(world.now + 0.5)
        self._network.spike = self._spike
        clients: list[Client] = []
        producers: list[Producer] = []
        readers: list[Reader] = []
        for stream in self._streams:
            common = (names, self.book, stream)
            producers += [
                Producer(world, self._network, f"producer{stream}{number}", *common, total=EVENTS)
                for number in range(self._producers)
            ]
            readers.append(Reader(world, self._network, f"reader{stream}", *common))
        clients += [*producers, *readers]
        for fault in self.faults:
            world.after(fault.at - 0.5, partial(self._begin, fault))
        begun = world.now - 0.5
        world.run(begun + max(it.at + it.lasts for it in self.faults) + SETTLED)
        until = world.now + RECOVERED
        world.tell("everything is mended")
        world.run(until, lambda: all(it.is_done for it in producers))
        for it in producers:
            if not it.is_done:
                self.book.violation(f"{it.name} has {it.acked} of {it.total} acked in the end")
        if self.book.violations:
            return
        for stream in self._streams:
            self._audit(stream, names, producers, until)

    def _audit(self, stream: str, names: list[str], producers: list[Producer], until: float) -> None:
        world, keys, state = self.world, self._server.store.keys, f"deltawire:{{{stream}}}:state".encode()

        def is_whole() -> bool:  # not while it is being filled again
            return bool(keys.get(state, {}).get(b"incarnation"))

        world.run(until, is_whole)
        if not is_whole():
            self.book.violation(f"the server never has {stream} again")
            return
        reader = Reader(world, self._network, f"auditor{stream}", names, self.book, stream, is_restless=False)

        def has_all() -> bool:  # a producer whose acked events are lost sends them again
            return all(it.is_done for it in producers) and reader.at >= int(keys[state][b"head"])

        world.run(until, has_all)
        if not has_all():
            self.book.violation(f"who reads {stream} in the end is at {reader.at} of {keys[state][b'head'].decode()}")
            return
        fields = keys[state]
        lineage = [
            (name, int(last)) for name, _, last in (it.rpartition(":") for it in fields[b"lineage"].decode().split())
        ]
        whole = [
            f"producer{stream}{number}/{event}" for number in range(self._producers) for event in range(1, EVENTS + 1)
        ]
        self.book.judge(stream, reader.epoch, reader.texts, lineage, whole)

    # Nodes

    def _start(self, number: int) -> Node:
        name = f"node{number}"
        settings = {"engine_url": "redis://redis", "retention_events": self._retained, "drain_timeout": 1.0}
        return Node(self.world, self._network, name, partial(self._ended, number), **settings)

    def _ended(self, number: int, error: BaseException | None) -> None:
        node = self._nodes[number]
        self.world.tell(f"{node.name} has ended: {error}")
        if not node.is_gone:
            self._end(number, is_told=True)
            self.world.after(1.0, partial(self._restart, number))

    def _look_into(self, node: Node) -> None:
        for failure in node.failures:
            self.book.violation(f"{node.name} fails: {failure!r}")

    def _end(self, number: int, *, is_told: bool) -> None:
        node = self._nodes[number]
        self._look_into(node)
        node.crash(is_told=is_told)

    def _restart(self, number: int) -> None:
        if self._nodes[number].is_gone:
            self.world.tell(f"node{number} starts again")
            skew = self._nodes[number].skew
            self._nodes[number] = self._start(number)
            self._nodes[number].skew = skew

    # Faults

    def _begin(self, fault: Fault) -> None:  # noqa: C901, PLR0912 - a table
        world, network, server = self.world, self._network, self._server
        node = self._nodes[fault.node]
        later = partial(world.after, fault.lasts)
        world.tell(f"### {fault.name} {node.name} for {fault.lasts:.2f} s")
        match fault.name:
            case "crash" | "vanish":
                if not node.is_gone:
                    self._end(fault.node, is_told=fault.name == "crash")
                    later(partial(self._restart, fault.node))
            case "leave":
                node.leave()
            case "pause":
                node.pause()
                later(node.resume)
            case "stall":
                server.pause()
                later(server.resume)
            case "jump":
                node.skew += (fault.share - 0.5) * 400
            case "shift":
                server.skew += (fault.share - 0.5) * 40
            case "cut":
                network.cut(node.name, server.name)
                later(partial(network.heal, node.name, server.name))
            case "part":
                other = self._nodes[(fault.node + 1) % self._count].name
                network.cut(node.name, other)
                later(partial(network.heal, node.name, other))
            case "mute":
                for it in network.between(node.name, server.name):
                    it.far.is_mute = True
            case "break":
                for it in network.between(node.name, server.name):
                    it.break_off()
            case "restart":
                server.restart()
            case "flush":
                server.store.execute(b"FLUSHALL")
                self.book.owned.clear()
            case "empty":
                server.restart(is_bare=True)
                self.book.owned.clear()
            case "rollback" | "promote":
                state, owned = server.store.snapshot(), dict(self.book.owned)
                later = partial(world.after, min(fault.lasts, 4.0))
                later(partial(self._put_back, state, owned, is_promotion=fault.name == "promote"))

    def _put_back(self, state: Any, owned: dict[str, tuple[bytes, str]], *, is_promotion: bool) -> None:
        self.world.tell(f"### the server has its older state, {is_promotion=}")
        self._server.restart(state, is_promotion=is_promotion)
        self.book.owned = owned


def simulate(seed: int) -> Run:
    """Play a run."""
    run = Run(seed)
    run.play()
    return run
