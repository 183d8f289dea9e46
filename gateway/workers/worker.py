"""One worker: a gateway on sockets it was given, which obeys its supervisor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple, TypeAlias

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.logs import get_logger
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting.limits import Limits
from deltawire.gateway.workers.control import Orders, Word
from deltawire.gateway.workers.links import Links
from deltawire.gateway.workers.siblings import WorkerSiblings

log = get_logger()


class Seat(NamedTuple):
    """What the supervisor gives a worker.

    Attributes:
        worker: its number.
        workers: how many there are.
        restarts: how often a process died in its place before.
        settings: its part of the gateway's.
        sockets: to listen on, as all workers do.
        control: its end of the line to the supervisor.
        links: to the other workers.
        key: by which other gateways know that they may relay to any of them.
        limits: on connections, over all workers.
    """

    worker: int
    workers: int
    restarts: int
    settings: Settings
    sockets: Sequence[socket.socket]
    control: socket.socket
    links: Links
    key: str
    limits: Limits


OpenGateway: TypeAlias = Callable[[AsyncExitStack, Gateway], Awaitable[None]]


async def work(seat: Seat, open_gateway: OpenGateway) -> None:
    """Serve until the supervisor says to leave, then drain.

    Args:
        seat: of this worker.
        open_gateway: begins to serve; what it puts on the stack ends with it.

    Raises:
        ConfigError: settings contradict each other, or a file or key they name can't be used.
    """
    siblings = WorkerSiblings(seat.worker, seat.workers, seat.links, seat.key)
    gateway = Gateway(seat.settings, sockets=seat.sockets, limits=seat.limits, siblings=siblings)
    gateway.hub.tally.worker_restarts = seat.restarts
    told: asyncio.Future[Word] = asyncio.get_running_loop().create_future()

    def obey(word: Word) -> None:
        if word == Word.RELOAD:
            reload_files(gateway)
            orders.tell(Word.RELOADED)
        elif not told.done():
            told.set_result(word)

    orders = Orders(seat.control, obey)
    async with AsyncExitStack() as stack:
        await open_gateway(stack, gateway)
        siblings.start(gateway)
        stack.callback(siblings.stop)
        orders.start()
        stack.callback(orders.stop)
        orders.tell(Word.READY)
        gateway.hub.announce_storage()
        word = await told
        deadline = asyncio.get_running_loop().time() + seat.settings.drain_timeout
        if word == Word.LEAVE:
            gateway.stop_listening()
        await gateway.drain()
        if word == Word.DRAIN:
            await siblings.relays.wait_all_gone(deadline)
        siblings.relays.abort()


def reload_files(gateway: Gateway) -> None:
    """Read certificates and keys again; a file that can't be used is logged, and changes nothing."""
    try:
        gateway.reload()
    except ConfigError as error:
        log.error("gateway.reload_failed", reason=str(error))  # noqa: TRY400 - the reason is enough
    else:
        log.info("gateway.reloaded")
