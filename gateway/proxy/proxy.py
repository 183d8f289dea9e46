"""`Proxy`: an application of ASGI that passes requests on, and streamed answers to a gateway as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from secrets import token_hex
from ssl import SSLContext
from typing import Any, Final

from deltawire.gateway.client import Publisher, TokenProvider
from deltawire.gateway.logs import get_logger
from deltawire.gateway.proxy.answer import Answer
from deltawire.gateway.proxy.asgi import JSON_TYPE, Receive, Scope, Send, refuse, respond
from deltawire.gateway.proxy.exchange import Exchange
from deltawire.gateway.proxy.fields import by_name, check_framing, read_wishes
from deltawire.gateway.proxy.tally import CONTENT_TYPE, Tally
from deltawire.gateway.proxy.targets import read_target
from deltawire.gateway.proxy.upstream import Upstream
from deltawire.protocol.addresses import MAX_STREAM_ID, check_stream_id

OWN: Final = b"/deltawire/"
"""Beginning of the paths that are answered here; all others are the upstream's."""

IDLE_TIMEOUT: Final = 600.0
"""Seconds for which an upstream, or a caller in the middle of a body, may send nothing, and a caller of an answer may
take nothing: as long as SDKs wait."""

MAX_REQUESTS: Final = 1000
"""Requests at a time: 0.1 GB where each holds a piece, far more than one process passes on."""

WINDOW: Final = 128
"""Unacked events of an answer: two acks' worth, so that the gateway acks meanwhile. One may have 64 KiB."""

DRAIN_TIMEOUT: Final = 30.0
"""Seconds that answers have at the end."""

UNIQUE: Final = 16
"""Random bytes in the id of a stream that nobody named, which has two digits for each: nobody guesses it."""

NO_WEBSOCKETS: Final = "no WebSockets are passed on"

log = get_logger()


class Proxy:
    """Passes requests on; an application of ASGI, to be served by itself or mounted in another.

        app.mount("/llm", Proxy("https://api.openai.com"))

    The answer's bytes, status code and headers pass unchanged, but for fields about one connection and those that say
    where it can be followed. The gateway being slow, full or away never holds the caller up: readers lose the rest.

    Args:
        upstream: the URL that requests are passed on to, `https://HOST[:PORT][/PATH]`.
        gateway: the gateway's address, `ws://HOST:PORT`.
        readers: where readers reach the gateway; by default the same.
        token: a token for the gateway, or a function that returns one, as for `Publisher`.
        tls: the TLS context for a `wss` gateway; None trusts the system's CAs.
        stream_prefix: beginning of the ids of streams that no caller names, at most 96 characters; a token that may
            publish to `PREFIX*` suffices for those. By default they begin with nothing that a token could name.
        idle_timeout: seconds for which the upstream may send nothing (then 504), or a caller nothing of a body that it
            has begun (then 408), or take nothing of its answer (then it is cut off); 0 means no limit.
        max_requests: requests at a time; then 503. As many answers that have ended may wait for the gateway; if there
            are more, readers of the oldest lose the rest.

    Raises:
        ValueError: an argument is wrong; the message says which, and what is expected.
        ImportError: the extra `deltawire[proxy]` is not installed.
    """

    def __init__(  # noqa: PLR0913 - the options of a proxy
        self,
        upstream: str,
        gateway: str = "ws://127.0.0.1:8765",
        *,
        readers: str | None = None,
        token: TokenProvider | None = None,
        tls: SSLContext | None = None,
        stream_prefix: str = "",
        idle_timeout: float = IDLE_TIMEOUT,
        max_requests: int = MAX_REQUESTS,
    ) -> None:
        try:
            self._upstream = Upstream(upstream)
        except ValueError as error:
            raise ValueError(f"upstream: {error}") from None
        try:
            check_stream_id(stream_prefix + token_hex(UNIQUE))
        except ValueError:
            expected = f"at most {MAX_STREAM_ID - 2 * UNIQUE} characters of A-Z a-z 0-9 . _ : @ -"
            raise ValueError(f"stream_prefix: expected {expected}, got {stream_prefix!r}") from None
        self._gateway = gateway
        self._readers = (readers or gateway).rstrip("/")
        self._token = token
        self._tls = tls
        self._stream_prefix = stream_prefix
        self._idle_timeout = idle_timeout
        self._max_requests = max_requests
        self._exchanges: set[asyncio.Task[Any]] = set()  # tasks that have one
        self._endings: dict[asyncio.Task[None], None] = {}  # tasks that tell readers of the end of one, oldest first
        self._is_leaving = False
        self.tally = Tally()
        self.tally.running.set_function(lambda: len(self._exchanges))
        self.tally.endings.set_function(lambda: len(self._endings))
        self._publisher("x")  # its arguments are wrong now or never

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or the beginning and the end of the program."""
        match scope["type"]:
            case "http":
                await self._answer(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case _:
                await send({"type": "websocket.close", "code": 1000, "reason": NO_WEBSOCKETS})

    def expect(self, target: bytes) -> None:
        """Connect to the upstream for a request that comes next, if it would be passed on.

        A server may say so as soon as it knows what is asked for: until this has the request, it is connected.
        """
        if (
            self._upstream.needs_connection
            and target.startswith(b"/")
            and not (target.startswith(OWN) or self._is_full)
        ):
            self._upstream.connect_soon()

    @property
    def _is_full(self) -> bool:
        return self._is_leaving or len(self._exchanges) >= self._max_requests

    async def aclose(self, timeout: float = DRAIN_TIMEOUT) -> None:
        """Wait for the answers that are on their way, for a time, and end the rest."""
        self._is_leaving = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while (running := [*self._exchanges, *self._endings]) and (left := deadline - loop.time()) > 0:
            await asyncio.wait(running, timeout=left)
        if self._exchanges:
            log.warning("proxy.drain_timed_out", requests=len(self._exchanges))
        for task in running:
            task.cancel("the proxy has ended")
        while running := [*self._exchanges, *self._endings]:  # until readers know
            await asyncio.wait(running)
        await self._upstream.aclose()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "CONNECT":
            await refuse(send, HTTPStatus.NOT_IMPLEMENTED, "the proxy opens no tunnels: ask for a path of the upstream")
            return
        named = by_name(scope["headers"])
        if named.get(b"upgrade", b"").lower() == b"websocket":
            await refuse(send, HTTPStatus.NOT_IMPLEMENTED, f"{NO_WEBSOCKETS}: connect to the upstream itself")
            return
        try:
            target = read_target(scope)
            check_framing(named)
            wishes = read_wishes(named)
        except ValueError as error:
            await refuse(send, HTTPStatus.BAD_REQUEST, str(error))
            return
        if target.startswith(OWN):
            await self._answer_itself(target.partition(b"?")[0].removeprefix(OWN), send)
            return
        if self._is_full:
            full = f"max_requests ({self._max_requests}) is reached: try again later"
            why = "the proxy is shutting down" if self._is_leaving else full
            await refuse(send, HTTPStatus.SERVICE_UNAVAILABLE, why, retry_after="1")
            return
        exchange = Exchange(
            self._upstream,
            self._make_answer,
            self._idle_timeout,
            self.tally,
            scope,
            named,
            receive,
            send,
            target,
            wishes,
        )
        running = self._run(exchange)
        try:
            if wishes.detaches:
                await asyncio.shield(asyncio.create_task(running, name="exchange"))
            else:
                await running  # in the server's task: one of its own would begin a turn of the event loop later
        except asyncio.CancelledError:
            exchange.leave()  # some servers end the application when a caller leaves
            raise

    async def _run(self, exchange: Exchange) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._exchanges.add(task)
        try:
            await exchange.run()
        finally:
            self._exchanges.discard(task)
            if exchange.answer is not None:  # what readers have yet to get holds no caller up
                self._start_ending(exchange.answer)

    def _start_ending(self, answer: Answer) -> None:
        ending = asyncio.create_task(self._end(answer), name="end of an answer")
        self._endings[ending] = None
        ending.add_done_callback(self._endings.pop)
        if len(self._endings) > self._max_requests:
            oldest = next(task for task in self._endings if not task.cancelling())
            oldest.cancel(f"more than {self._max_requests} ended answers wait for the gateway (max_requests)")

    async def _end(self, answer: Answer) -> None:
        self.tally.answers.inc()
        try:
            await answer.finish()
        finally:
            self.tally.dropped.inc(answer.dropped)
            self.tally.lost.inc(answer.lost)

    async def _answer_itself(self, name: bytes, send: Send) -> None:
        match name:
            case b"livez":
                await respond(send, HTTPStatus.OK, b'{"status":"ok"}\n', JSON_TYPE)
            case b"readyz" if self._is_leaving:
                await refuse(send, HTTPStatus.SERVICE_UNAVAILABLE, "the proxy is shutting down")
            case b"readyz":
                await respond(send, HTTPStatus.OK, b'{"status":"ok"}\n', JSON_TYPE)
            case b"metrics":
                await respond(send, HTTPStatus.OK, self.tally.render(), CONTENT_TYPE)
            case _:
                detail = "the proxy has /deltawire/livez, /deltawire/readyz and /deltawire/metrics"
                await refuse(send, HTTPStatus.NOT_FOUND, detail)

    def _make_answer(self, stream: str, on_cancel: Callable[[], None]) -> Answer:
        """What publishes an answer; to a stream of its own, which ends with it, unless one is named."""
        body = token_hex(UNIQUE)
        named = stream or self._stream_prefix + body
        make_publisher = partial(self._publisher, named)
        return Answer(named, make_publisher, self._readers, body, close=not stream, on_cancel=on_cancel)

    def _publisher(self, stream: str) -> Publisher:
        return Publisher(self._gateway, stream, window=WINDOW, token=self._token, tls=self._tls)
