"""The server of the simulation answers as a real one does: both are asked the same, at random."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, cast

import hiredis
import pytest

from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.library import LOAD, call
from tests.simulation.network import Network
from tests.simulation.server import Server
from tests.simulation.store import RefusedError, Reply
from tests.simulation.world import World
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.soaking import lasting

pytestmark = needs_redis

_OWN = re.compile(rb"[0-9a-f]{40}|\d{13}")
"""Terms, which are milliseconds, and parts of an incarnation."""

Ask = Callable[[Sequence[Any]], Reply]
KEYS = Keys("d")
NAMES = ["a", "b"]
FIXED = ("settings", "s", "created", "1", "changed", "1", "messages", "m")


class Real:
    """A connection to a real server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._reader = hiredis.Reader()

    def ask(self, command: Sequence[Any]) -> Reply:
        self._socket.sendall(hiredis.pack_command(cast("Any", tuple(command))))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65536))
        return reply

    def close(self) -> None:
        self._socket.close()


class Model:
    """The server of the simulation."""

    def __init__(self) -> None:
        world = World(0)
        self._server = Server(world, Network(world, 0.0), lambda *_: None, lambda _: None)

    def ask(self, command: Sequence[Any]) -> Reply:
        encoded = [it if isinstance(it, bytes) else str(it).encode() for it in command]
        try:
            return self._server.execute(encoded)
        except RefusedError as error:
            return hiredis.ReplyError(str(error))


class Both:
    """Asks both, and compares what does not depend on the clock or on who the server is.

    Attributes:
        term: of each stream, as each server has it.
    """

    def __init__(self, real: Ask, model: Ask) -> None:
        self._sides = real, model
        self.terms: list[dict[str, bytes]] = [{}, {}]

    def ask(self, command: Sequence[Any], stream: str = "") -> Reply:
        """Ask; `TERM` in a command stands for the newest one of a stream."""
        replies = []
        for side, terms in zip(self._sides, self.terms, strict=True):
            own = [terms.get(stream, b"") if it == "TERM" else it for it in command]
            reply = side(own)
            if isinstance(reply, list) and reply and isinstance(reply[0], list) and b"term" in reply[0]:  # a claim
                fields = dict(zip(reply[0][::2], reply[0][1::2], strict=True))
                terms[stream] = fields[b"term"]
                reply[0] = sorted(fields.items())
            replies.append(reply)
        real, model = map(_common, replies)
        assert real == model, (command, real, model, replies)
        return real


def _common(reply: Reply) -> Reply:
    """A reply without what only one of them can say."""
    match reply:
        case list() | tuple():
            return [_common(it) for it in reply]
        case bytes():
            return _OWN.sub(b"*", reply)
        case Exception():
            text = str(reply).split(" script:")[0]
            return "ERR user_function" if "user_function" in text else text.split(",")[0]
        case _:
            return reply


@pytest.fixture
def both(server: RedisServer) -> Iterator[Both]:
    real = Real(server.port)
    both = Both(real.ask, Model().ask)
    both.ask(LOAD)
    yield both
    real.close()


def random_command(draw: Random) -> tuple[Sequence[Any], str]:  # noqa: PLR0911 - a table
    """A command that a gateway may send, or that another program may."""
    stream = draw.choice(NAMES)
    names = KEYS.of_stream(stream)
    term = draw.choice(["TERM"] * 9 + ["5"])
    head = draw.randint(0, 8)
    match draw.choice([*["append"] * 6, "create", "claim", "confirm", "repair", "trim", "release", "read", "other"]):
        case "append":
            last = head + draw.randint(0, 3)
            fields = draw.choice([(), ("p:q", f"{draw.randint(0, 1)}:{head}:{last}"), ("end", "closed")])
            return call("append", names, term, head, last, 7, b"x" * draw.randint(0, 5), *fields), stream
        case "create":
            return call(
                "create", names, draw.choice(["n", "m"]), "", draw.choice(["e1", "e2"]), *FIXED, "end", ""
            ), stream
        case "claim":
            seen = draw.choice(["TERM", "TERM", "7"])
            return call("claim", names, draw.choice(["n", "m"]), seen, draw.choice(["e1", "e2"])), stream
        case "confirm":
            return call("confirm", names, term, head), stream
        case "repair":
            base = draw.randint(0, 4)
            fields = (*FIXED, "lineage", "", "end", "")
            return call("repair", names, term, draw.choice(["", "5"]), "n", "e1", base, *fields), stream
        case "trim":
            return call("trim", names, term, head, draw.randint(0, 2)), stream
        case "release":
            return call("release", names, term, draw.choice(["leave", "leave", "delete"])), stream
        case "read":
            return draw.choice(
                [call("read", names, head, head + 3, draw.choice([1, 9])), call("summary", names, "-")]
            ), ""
        case _:
            return draw.choice(others(stream, draw)), ""


def others(stream: str, draw: Random) -> list[Sequence[Any]]:
    """Commands that are no functions."""
    state, events, listed = KEYS.of_stream(stream)
    return [
        ("HMGET", state, "owner", "head", "none"),
        ("HGET", state, "lineage"),
        ("HSET", state, "incarnation", "older"),
        ("HDEL", state, "end"),
        ("ZCARD", listed),
        ("ZADD", "z", draw.randint(0, 9), f"m{draw.randint(0, 3)}"),
        ("ZREMRANGEBYSCORE", "z", 0, draw.randint(0, 9)),
        ("ZRANGE", "z", 0, -1),
        ("ZRANGE", "z", 0, 1, "WITHSCORES"),
        ("SET", "k", "v", "PX", 100_000, "XX"),
        ("SET", "k", "v"),
        ("GET", "k"),
        ("DEL", "k", events),
        ("XLEN", events),
        ("XRANGE", events, draw.randint(0, 5), "+", "COUNT", 2),
        call("unlist", KEYS.of_stream(stream)),
        call("vacant", KEYS.of_stream(stream)),
        call("probe", KEYS.probes[0]),
        ("GET", state),
        ("SET", draw.choice([state, events]), "something else"),
        ("HSET", state, "field", "of another program"),
        ("HDEL", state, "term"),
        ("XADD", events, "9-9", "field", "of another program"),
        call("begin", ("k",), "v", 100_000),
        call("renew", ("k", "z2"), "n", 100_000, 60),  # of two, the clocks would decide the order
        ("NONSENSE",),
        ("FLUSHALL",),
    ]


@pytest.mark.parametrize("seed", range(lasting(20, 400)))
def test_a_server_in_memory_answers_as_a_real_one_does(both: Both, seed: int) -> None:
    draw = Random(seed)
    for _ in range(300):
        command, stream = random_command(draw)
        both.ask(command, stream)
