"""A caller who stays and reads slowly, or nothing, holds up no readers, and loses nothing for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from deltawire.gateway.proxy import Proxy
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Error
from tests.proxy.calls import Call
from tests.proxy.readers import read_message, reading, reason_of, said
from tests.proxy.upstream import ANSWER, HEAD, WORDS, Part, Upstream, calling, serving
from tests.support.waiting import DEADLINE, eventually

NAMED = (b"x-deltawire-stream", b"chat-7")
DETACHED = (b"x-deltawire-detach", b"1")
ASKED = b"POST /v1/messages HTTP/%b\r\nHost: h\r\nX-Deltawire-Stream: chat-7\r\nContent-Length: 0\r\n%b\r\n"

PINGS = (b": ping" + b" " * 8184 + b"\n\n") * 8
"""64 KiB that are no event, in few lines: reading lines takes longer than all else."""

CHUNKED = HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked")
LONG: list[Part] = [*ANSWER[:2], *[PINGS] * 160, *ANSWER[2:]]
"""Far more than socket buffers hold."""


@pytest.fixture(params=[1, 2, 3], ids=["head", "first", "second"])
def limit(request: pytest.FixtureRequest) -> int:
    """Messages that a caller takes."""
    return int(request.param)


async def test_readers_get_all_though_the_caller_takes_nothing(gateway: Gateway, limit: int) -> None:
    async with Upstream(*ANSWER) as upstream, reading(gateway) as reader:
        proxy = Proxy(upstream.url, gateway.url)
        call = Call(proxy, NAMED, limit=limit)
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == ("".join(WORDS), "stop")
        assert not call.task.done()
        call.task.cancel()
        await proxy.aclose(0)


async def test_so_do_those_of_a_stream_of_its_own_which_ends(gateway: Gateway, limit: int) -> None:
    async with Upstream(*ANSWER) as upstream:
        proxy = Proxy(upstream.url, gateway.url)
        call = Call(proxy, limit=limit)
        await eventually(lambda: call.sent, "the head")
        stream = dict(call.sent[0]["headers"])[b"x-deltawire-stream"].decode()
        async with reading(gateway, stream) as reader, asyncio.timeout(DEADLINE):
            assert len([item async for item in reader]) > len(WORDS)
        assert not call.task.done()
        call.task.cancel()
        await proxy.aclose(0)


async def test_they_are_told_at_once_of_a_provider_that_breaks_off(gateway: Gateway, limit: int) -> None:
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in ANSWER[1:3]]
    async with Upstream(CHUNKED, *chunks, breaks=True) as upstream, reading(gateway) as reader:
        proxy = Proxy(upstream.url, gateway.url)
        call = Call(proxy, NAMED, limit=limit)
        assert reason_of(await read_message(reader)) == "error"
        call.task.cancel()
        await proxy.aclose(0)


async def test_a_caller_who_reads_again_has_lost_nothing(gateway: Gateway) -> None:
    parts = [*ANSWER[:2], *[PINGS] * 40, *ANSWER[2:]]
    async with (
        Upstream(*parts) as upstream,
        serving(upstream.url, gateway.url) as served,
        reading(gateway) as reader,
        calling(served.url) as peer,
    ):
        await peer.send(ASKED % (b"1.0", b""))
        assert reason_of(await read_message(reader)) == "stop"
        await peer.read_head()
        assert await peer.read_rest() == b"".join(parts[1:])


async def test_what_waits_for_a_caller_is_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltawire.gateway.proxy.exchange.BUFFER", 4 * len(PINGS))
    async with Upstream(*LONG) as upstream, reading(gateway) as reader:
        proxy = Proxy(upstream.url, gateway.url)
        made: list[Any] = []
        make: Any = proxy._upstream._make_connection

        def note() -> Any:
            made.append(make())
            return made[-1]

        proxy._upstream._make_connection = note
        call = Call(proxy, NAMED, limit=2)
        await eventually(lambda: made, "a connection")
        (connection,) = made
        await eventually(lambda: connection._is_paused, "that the upstream waits")
        await eventually(lambda: gateway.hub.info("chat-7").producers, "that the answer is published")
        assert 4 * len(PINGS) < connection._unread <= 5 * len(PINGS)
        assert connection.heard() is None, "it is not the upstream that is silent"
        assert not upstream.was_left.is_set()
        assert await reader.signal("cancel") == 1, "which still ends it"
        assert reason_of(await read_message(reader)) == "cancelled"
        await call.task
        await proxy.aclose(0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little may wait for a caller."""
    monkeypatch.setattr("deltawire.gateway.proxy.exchange.BUFFER", len(PINGS))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_one_who_takes_nothing_for_too_long_is_cut_off_and_a_detached_answer_goes_on(
    gateway: Gateway, logs: list[Any], version: bytes
) -> None:
    async with (
        Upstream(*LONG) as upstream,
        serving(upstream.url, gateway.url, idle_timeout=0.3) as served,
        reading(gateway) as reader,
        calling(served.url) as peer,
    ):
        await peer.send(ASKED % (version, b"X-Deltawire-Detach: 1\r\n"))
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == ("".join(WORDS), "stop")
        assert served.counted("callers_stalled") == 1
        assert served.counted("callers_left") == 0
        rest = await peer.read_rest()
        assert PINGS in rest
        assert ANSWER[-1] not in rest
        await eventually(lambda: served.is_idle, "its end")
    assert [line["stream"] for line in logs if line["event"] == "caller.stalled"] == ["chat-7"]


@pytest.mark.usefixtures("small")
async def test_without_that_the_upstream_is_aborted_and_readers_are_told_why(gateway: Gateway) -> None:
    async with (
        Upstream(*LONG) as upstream,
        serving(upstream.url, gateway.url, idle_timeout=0.3) as served,
        reading(gateway) as reader,
        calling(served.url) as peer,
    ):
        await peer.send(ASKED % (b"1.1", b""))
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == (WORDS[0], "error")
        told = "whoever asked for the answer has taken nothing of it for 0.3 s"
        assert Error(told, "caller_stalled") in events
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()
        await eventually(lambda: served.is_idle, "its end")
        assert served.counted("callers_stalled") == 1
        assert ANSWER[-1] not in await peer.read_rest()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("detached", [False, True])
async def test_a_server_that_can_not_cut_off_holds_up_no_readers_either(gateway: Gateway, *, detached: bool) -> None:
    async with Upstream(*LONG) as upstream, reading(gateway) as reader:
        proxy = Proxy(upstream.url, gateway.url, idle_timeout=0.2)
        call = Call(proxy, NAMED, *([DETACHED] if detached else []), limit=2)
        await eventually(
            lambda: "callers_stalled_total 1.0" in proxy.tally.render().decode(), "that the caller is cut off"
        )
        events = await read_message(reader)
        assert reason_of(events) == ("stop" if detached else "error")
        async with asyncio.timeout(DEADLINE):
            await call.task
        assert len(call.sent) == 2, "nothing more is sent, and no end"
        await proxy.aclose(0)


class Reading:
    """The connection of a caller who has taken a little between any two looks."""

    def __init__(self) -> None:
        self._unsent = 1 << 30

    def unsent(self) -> int:
        self._unsent -= 1
        return self._unsent

    def abort(self) -> None:
        pytest.fail("it is cut off")

    def abort_untaken(self, seconds: float, tell: Callable[[], None]) -> None:
        pass


async def test_readers_are_told_of_a_silent_provider_while_the_caller_still_takes_what_came(gateway: Gateway) -> None:
    async with Upstream(*ANSWER[:3], stays=True) as upstream, reading(gateway) as reader:
        proxy = Proxy(upstream.url, gateway.url, idle_timeout=0.2)
        call = Call(proxy, NAMED, limit=2, caller=Reading())
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == ("".join(WORDS[:2]), "stalled")
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()
        assert len(call.sent) == 2
        call.goes_on.set()
        await call.task
        assert call.body == b"".join(ANSWER[1:3]), "the caller gets all that came, and no end"
        await proxy.aclose(0)


async def test_one_who_does_not_take_the_end_is_cut_off_too_and_readers_have_the_whole_answer(gateway: Gateway) -> None:
    async with Upstream(HEAD, b"".join(ANSWER[1:])) as upstream, reading(gateway) as reader:
        proxy = Proxy(upstream.url, gateway.url, idle_timeout=0.2)
        call = Call(proxy, NAMED, limit=3)
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == ("".join(WORDS), "stop")
        async with asyncio.timeout(DEADLINE):
            await call.task
        assert "callers_stalled_total 1.0" in proxy.tally.render().decode()
        await proxy.aclose(0)


@pytest.fixture
def unpaused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of an answer fits into transports, as the last 64 KiB always do."""
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415 - an optional extra

    from deltawire.gateway.proxy.callers import CallerProtocol  # noqa: PLC0415 - likewise

    for protocol in (CallerProtocol, H11Protocol):
        monkeypatch.setattr(protocol, "pause_writing", lambda _: None)


@pytest.mark.usefixtures("unpaused")
@pytest.mark.parametrize(
    ("version", "field"),
    [(b"1.0", b""), (b"1.1", b""), (b"1.1", b"Connection: close\r\n")],
    ids=["1.0", "kept", "closed"],
)
async def test_one_who_does_not_take_what_is_left_of_an_ended_answer_is_cut_off(
    gateway: Gateway, version: bytes, field: bytes
) -> None:
    async with (
        Upstream(*LONG) as upstream,
        serving(upstream.url, gateway.url, idle_timeout=0.3) as served,
        calling(served.url) as peer,
    ):
        await peer.send(ASKED % (version, field))
        await eventually(lambda: served.counted("callers_stalled") == 1, "that the caller is cut off")
        assert served.counted("answers") == 1
        assert ANSWER[-1] not in await peer.read_rest()


@pytest.mark.parametrize(("unsent", "is_cut_off"), [([3, 2, 1], False), ([3, 2, 2, 1], True)])
async def test_one_who_goes_on_taking_it_gets_it_all(
    monkeypatch: pytest.MonkeyPatch, *, unsent: list[int], is_cut_off: bool
) -> None:
    from deltawire.gateway.proxy.callers import CallerConnection  # noqa: PLC0415 - an optional extra

    class Holding(asyncio.Transport):
        def get_write_buffer_size(self) -> int:
            return len(left)

        def abort(self) -> None:
            done.append("aborted")
            left.clear()

    left, done = list(unsent), list[str]()
    monkeypatch.setattr(CallerConnection, "unsent", lambda _: left.pop(0))
    CallerConnection(Holding()).abort_untaken(0.001, lambda: done.append("told"))
    await eventually(lambda: not left, "the end")
    assert done == (["told", "aborted"] if is_cut_off else [])


async def test_what_a_caller_has_yet_to_take_is_known_while_it_reads() -> None:
    """A transport alone says nothing until a third of the system's buffer is free."""
    from deltawire.gateway.proxy.callers import CallerConnection  # noqa: PLC0415 - an optional extra

    waiting: list[asyncio.Transport] = []

    class Sender(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(bytes(1 << 24))
            waiting.append(transport)

    server = await asyncio.get_running_loop().create_server(Sender, "127.0.0.1", 0)
    async with server, calling(f"http://x:{server.sockets[0].getsockname()[1]}") as peer:
        await eventually(lambda: waiting, "the connection")
        caller = CallerConnection(waiting[0])
        before = caller.unsent()
        assert before > 0
        while caller.unsent() == before:
            assert await peer.read_some()
        assert caller.unsent() < before
        caller.abort()
        assert caller.unsent() == 0
