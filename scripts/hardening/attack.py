"""What an attack is, and what it attacks."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeAlias

from scripts.hardening import answers
from scripts.hardening.hostile import Hostile, NoAnswerError
from scripts.hardening.tokens import Mint

STREAM = "neighbours"
"""What the healthy group reads and writes."""

ADDRESSES = 250
"""An attack comes from, where it is not about a single one."""

PUBLIC = ["coalesce", "drop_oldest", "drop_newest", "disconnect"]
"""Policies that can't hold a producer up: what a stranger's token allows."""


class Target:
    """The gateway under attack, seen from one attack: it has a network of its own.

    Args:
        port: of the gateway.
        mint: makes tokens for it.
        network: of 127.0.0.0/16, from 1.
    """

    def __init__(self, port: int, mint: Mint, network: int) -> None:
        self.port = port
        self.mint = mint
        self._network = network
        self._names = itertools.count()
        self._turns = itertools.count()
        self.reader = mint.token(subscribe=["*"], policies=PUBLIC)
        self.everything = mint.everything()

    def name(self) -> str:
        """A stream id nobody used before."""
        return f"x{self._network}-{next(self._names)}"

    def hostile(self, number: int | None = None, receive_buffer: int = 0) -> Hostile:
        """A connection from one of the addresses; from the next one where it is not said which."""
        number = next(self._turns) if number is None else number
        return Hostile(self.port, f"127.0.{self._network}.{1 + number % ADDRESSES}", receive_buffer)

    async def ask(self, data: bytes, number: int | None = None) -> str:
        """The answer to what may be a request; from one address where it is said which."""
        async with self.hostile(number) as it:
            status = await it.ask(data)
        return answers.of_status(status) if status else answers.DROPPED

    async def upgrade(self, path: str, token: str = "", headers: str = "", number: int | None = None) -> str:
        """The answer to a handshake."""
        async with self.hostile(number) as it:
            status = await it.upgrade(path, token, headers)
        return answers.of_status(status) if status else answers.DROPPED

    @asynccontextmanager
    async def upgraded(self, path: str, token: str = "", buffer: int = 0) -> AsyncIterator[Hostile]:
        """A connection past its handshake.

        Args:
            path: below `/v1/streams/`.
            token: which allows it; one for everything where there is none.
            buffer: SO_RCVBUF in bytes; 0 leaves it.

        Raises:
            ShutOutError: the gateway refused.
        """
        async with self.hostile(receive_buffer=buffer) as it:
            status = await it.upgrade(f"/v1/streams/{path}", token or self.everything)
            if status != 101:
                raise ShutOutError(f"{path}: HTTP {status}")
            yield it


class ShutOutError(Exception):
    """Who may come in was refused."""


Play: TypeAlias = Callable[[Target], AsyncIterator[str]]
"""Attempts, each of which gives its answer."""


async def attempt(play: Play, target: Target) -> list[str]:
    """Make the attempts of an attack once; the last answer says why it could not go on, if it could not."""
    given: list[str] = []
    try:
        async for answer in play(target):
            given.append(answer)  # noqa: PERF401 - those before a failure count
    except* NoAnswerError as failed:
        given.append(f"{answers.LATE}{failed.exceptions[0]}")
    except* (ShutOutError, OSError) as failed:
        given.append(f"{type(failed.exceptions[0]).__name__}: {failed.exceptions[0]}")
    return given


class Attack(NamedTuple):
    """One line of the table.

    Attributes:
        name: of the attack.
        play: its attempts, once.
        expected: the answers there may be.
        is_repeated: whether to try again until the time of the line is over.
        shuts_out: whether newcomers are to be refused meanwhile, as the gateway is full.
        is_timed: whether it is judged by how long neighbours wait.
    """

    name: str
    play: Play
    expected: frozenset[str]
    is_repeated: bool = True
    shuts_out: bool = False
    is_timed: bool = False


def attack(
    name: str, *expected: str, is_repeated: bool = True, shuts_out: bool = False, is_timed: bool = False
) -> Callable[[Play], Attack]:
    """Make an attack of its attempts; arguments as for `Attack`."""
    return lambda play: Attack(name, play, frozenset(expected), is_repeated, shuts_out, is_timed)
