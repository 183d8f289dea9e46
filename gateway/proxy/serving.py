"""Serving a `Proxy` by itself, with uvicorn, until a signal ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Final

import uvicorn

from deltawire.gateway.access.origins import is_known_host
from deltawire.gateway.logs import get_logger
from deltawire.gateway.proxy.asgi import Receive, Scope, Send, refuse
from deltawire.gateway.proxy.callers import CallerProtocol
from deltawire.gateway.proxy.proxy import Proxy

KEPT_FOR: Final = 65
"""Seconds that an unused connection of a caller is kept, more than the 60 that load balancers keep theirs for."""

log = get_logger()


@lru_cache(maxsize=16)  # callers name the same one again and again; one may have 64 KiB
def _is_known(hosts: tuple[bytes, ...], allowed: frozenset[str]) -> bool:
    return is_known_host([host.decode("latin-1") for host in hosts], allowed)


class ListenError(Exception):
    """The address can't be listened on.

    Args:
        reason: what the system said.
    """

    def __init__(self, reason: OSError | UnicodeError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class ProxyServer(uvicorn.Server):
    """Serves a proxy, and says so.

    Args:
        proxy: to be served.
        host: address to listen on.
        port: likewise; 0 picks a free one.
        drain_timeout: seconds that answers have after the signal.
        gateway: the gateway's address, for the log.
        hosts: names by which requests may reach it, beside those that no stranger can make point here (DNS rebinding).
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the options of the command
        self,
        proxy: Proxy,
        host: str,
        port: int,
        drain_timeout: float,
        gateway: str,
        hosts: frozenset[str] = frozenset(),
    ) -> None:
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",  # which uvicorn can't tell of a method
            host=host,
            port=port,
            http=partial(CallerProtocol, expect=proxy.expect),  # type: ignore[arg-type]  # it is only called
            log_config=None,
            log_level="critical",  # it would log every answer that breaks off as a fault of the application
            access_log=False,  # which would have keys that callers put into the query
            server_header=False,
            date_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            timeout_keep_alive=KEPT_FOR,
            timeout_graceful_shutdown=max(1, round(drain_timeout)),
        )
        super().__init__(config)
        self._proxy = proxy
        self._gateway = gateway
        self._hosts = hosts
        self._drain_timeout = drain_timeout
        self._ending = asyncio.Event()
        self._deadline = 0.0  # for answers that are on their way, in seconds of the event loop

    async def run_until_signal(self) -> None:
        """Serve until SIGTERM or SIGINT, then let answers end; a second signal ends them at once.

        Raises:
            ListenError: the address can't be listened on.
        """
        with self._heeding_signals():
            await self.serve()
        left = self._deadline - asyncio.get_running_loop().time()
        await self._proxy.aclose(0.0 if self.force_exit else max(0.0, left))
        log.info("proxy.stopped")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen.

        Raises:
            ListenError: that is not possible; uvicorn would end the process, and its log, which says why, is off.
        """
        try:
            await super().startup(sockets)
        except UnicodeError as error:
            raise ListenError(error) from None
        except SystemExit as ending:
            if isinstance(ending.__context__, OSError):
                raise ListenError(ending.__context__) from None
            raise
        if self.started:
            host, port, *_ = self.servers[0].sockets[0].getsockname()
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{port}"
            log.info("proxy.started", url=url, host=host, port=port, pid=os.getpid(), gateway=self._gateway)

    async def main_loop(self) -> None:
        """Wait for the signal: `should_exit` alone ends nothing.

        uvicorn's own looks for it ten times a second. What else it does there is off: the header Date, a limit of
        requests, a callback.
        """
        await self._ending.wait()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request under a name that is not known; the provider, which is told its own, could not."""
        if _is_known(tuple([value for name, value in scope["headers"] if name == b"host"]), self._hosts):
            await self._proxy(scope, receive, send)
        else:
            detail = "requests under this Host are not passed on: list its name in --allowed-hosts"
            await refuse(send, HTTPStatus.FORBIDDEN, detail)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `run_until_signal`: uvicorn would raise them again in the end."""
        yield

    @contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for signum in signals:
            loop.add_signal_handler(signum, self._end)
        try:
            yield
        finally:
            for signum in signals:
                loop.remove_signal_handler(signum)

    def _end(self) -> None:
        self._deadline = asyncio.get_running_loop().time() + self._drain_timeout
        self.force_exit = self.should_exit
        self.should_exit = True
        self._ending.set()
