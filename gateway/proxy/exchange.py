"""One request: to the upstream, and its answer back to the caller, byte by byte, and to a stream.

    caller ──request──► upstream
       ▲                   │ pieces
       └──── send ─────────┤
                           └──► Answer ──► gateway ──► readers

A caller who reads slowly holds up no readers: what the caller has yet to take waits, up to a limit. An exchange ends
early when the caller leaves, unless the caller has asked for the opposite, when a reader cancels, and when who is to
say or to take something does not for too long: then its task is cancelled, and knows why. A provider that falls silent
in the middle of its answer is as one that breaks off: readers are told at once, and the caller gets what came before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final

from deltawire.gateway.client import SourceStalled
from deltawire.gateway.logs import get_logger
from deltawire.gateway.proxy.answer import Answer
from deltawire.gateway.proxy.asgi import CALLER, Caller, Receive, Scope, Send, refuse, respond_problem
from deltawire.gateway.proxy.fields import (
    Fields,
    Named,
    Wishes,
    by_name,
    check_answer,
    coding_of,
    has_body,
    is_streamed,
    pass_to_caller,
    pass_to_upstream,
)
from deltawire.gateway.proxy.tally import Tally
from deltawire.gateway.proxy.targets import asks_model, path_of
from deltawire.gateway.proxy.upstream import Passed, Upstream, UpstreamFailed
from deltawire.gateway.proxy.waits import Late, Waits
from deltawire.gateway.tee import BUFFER
from deltawire.protocol.events import Error

CANCELLED: Final = 499
"""Status for a caller whose answer was cancelled before it began. No SDK tries such a request again."""

UNPASSABLE: Final = "the provider's answer is none that can be passed on"
FAULTY: Final = "the proxy failed at the answer"

log = get_logger()

MakeAnswer = Callable[[str, Callable[[], None]], Answer]


class Reason(Enum):
    """Why an exchange ends early."""

    LEFT = auto()
    CANCELLED = auto()
    STALLED = auto()
    UNSENT = auto()
    UNREAD = auto()


class CallerStalled(Exception):  # noqa: N818 - the name says what happened
    """A caller has taken nothing for too long.

    Args:
        seconds: without anything taken.

    Attributes:
        error: the event that tells readers.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.error: Final = Error(
            f"whoever asked for the answer has taken nothing of it for {seconds:g} s", "caller_stalled"
        )


class Exchange:
    """One request and its answer.

    Args:
        upstream: where the request goes.
        make_answer: publishes an answer to the stream of this id, or to a new one where it is empty; calls back when a
            reader cancels.
        idle_timeout: seconds for which the upstream may send nothing, or the caller nothing of a body that it has yet
            to send, or take nothing of the answer; 0 means no limit.
        tally: counts what happens.
        scope: of the request.
        named: fields of its head, by name.
        receive: likewise.
        send: likewise.
        target: path and query for the upstream.
        wishes: what the caller asks of the proxy.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - a request, and what it is answered with
        self,
        upstream: Upstream,
        make_answer: MakeAnswer,
        idle_timeout: float,
        tally: Tally,
        scope: Scope,
        named: Named,
        receive: Receive,
        send: Send,
        target: bytes,
        wishes: Wishes,
    ) -> None:
        self._upstream = upstream
        self._make_answer = make_answer
        self._idle_timeout = idle_timeout
        self._tally = tally
        self._method = str(scope["method"])
        self._asks_model = asks_model(self._method, target)  # so that readers get whatever comes, if it names a stream
        self._may_stream = self._asks_model or self._method == "POST"  # so that they get it only if it is streamed
        self._fields: Fields = scope["headers"]
        self._named = named
        self._has_more = has_body(self._named)  # of the request's body
        self._receive = receive
        self._send = send
        self._target = target
        self._wishes = wishes
        self.answer: Answer | None = None
        self._prepared: Answer | None = None  # for one that may be streamed
        self._status = 0  # of the response, once its head is sent
        self._watching: asyncio.Task[None] | None = None  # whether the caller leaves, once it has said everything
        self._has_left = False
        self._is_complete = False  # the last of the response is about to be sent
        self._task: asyncio.Task[Any] | None = None  # has the conversation with the upstream
        self._reason: Reason | None = None  # why that ends early
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._waits = Waits(idle_timeout, self._now())
        self._passed: Passed | None = None  # what the upstream answers, once that has begun
        self._is_cutting_off = False  # its task is cancelled so that it goes on without the caller
        self._caller: Caller | None = (scope.get("state") or {}).get(CALLER)
        self._looking: asyncio.Handle | None = None  # whether anyone takes too long

    async def run(self) -> None:
        """Make the request, and pass on the answer; readers may get the rest of it later."""
        try:
            if self._wishes.stream and self._asks_model:
                self._follow()
            await self._converse_until_ended()
        except Exception as error:
            if self.answer is not None:
                self.answer.fail(UpstreamFailed(str(error), FAULTY))
            log.exception("exchange.failed", **self._logged)
        finally:
            if self._watching is not None:
                self._watching.cancel()
            if self._caller is not None and self._idle_timeout:
                self._caller.abort_untaken(self._idle_timeout, self._note_stalled)
            self._tally.requests.labels(str(self._status)).inc()

    @property
    def _logged(self) -> dict[str, str | None]:
        return {"path": path_of(self._target), "stream": None if self.answer is None else self.answer.stream}

    def leave(self) -> None:
        """The caller has left."""
        if self._has_left or self._is_complete:
            return
        self._has_left = True
        self._tally.left.inc()
        if not self._wishes.detaches:
            self._end(Reason.LEFT)

    def cancel(self) -> None:
        """A reader has cancelled the answer; the caller's breaks off."""
        self._end(Reason.CANCELLED)

    def _end(self, reason: Reason) -> None:
        """End the conversation with the upstream at once, even while a caller who does not read holds it up."""
        if self._reason is not None or self._is_complete:
            return
        self._reason = reason
        if self._task is asyncio.current_task():
            return  # which looks for the reason before it reads on
        if self._task is not None:
            self._task.cancel()

    def _look(self) -> None:
        """End what somebody takes too long for."""
        now = self._now()
        unsent = self._caller.unsent() if self._caller is not None and self._waits.is_telling else None
        match self._waits.look(now, self._heard(), unsent):
            case Late.BODY:
                self._end(Reason.UNSENT)
            case Late.ANSWER if self._passed is not None:
                self._passed.fail(SourceStalled(self._idle_timeout))  # the caller gets what came before
            case Late.ANSWER:
                self._end(Reason.STALLED)
            case Late.TAKING:
                self._cut_off()
            case None:
                pass
        self._look_at(self._waits.next_look(now, self._heard()))

    def _look_at(self, then: float) -> None:
        self._looking = self._loop.call_at(then, self._look)

    def _heard(self) -> float | None:
        """When the upstream sent something last, 0 before its answer; None if it is to send nothing now."""
        if self._is_complete:
            return None
        return 0.0 if self._passed is None else self._passed.heard()

    def _cut_off(self) -> None:
        """The caller takes nothing: the answer goes on without, if it is detached, or ends."""
        if self._reason is not None or self._task is None:
            return
        self._has_left = True
        self._note_stalled()
        if self._wishes.detaches:
            self._is_cutting_off = True
        else:
            self._reason = Reason.UNREAD
        self._task.cancel()
        if self._caller is not None:
            self._caller.abort()

    def _note_stalled(self) -> None:
        self._tally.stalled.inc()
        log.warning("caller.stalled", seconds=self._idle_timeout, **self._logged)

    def _start_watching(self) -> None:
        """The caller has said everything. What is not needed before the upstream's answer is done meanwhile."""
        if self._may_stream and self.answer is None:
            self._prepare()
        self._watching = asyncio.create_task(self._watch(), name="caller")

    def _prepare(self) -> Answer:
        if self._prepared is None:
            self._prepared = self._make_answer(self._wishes.stream, self.cancel)
        return self._prepared

    def _follow(self) -> None:
        """From now on, what comes goes to a stream."""
        self.answer = self._prepare()
        self.answer.start_soon()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.leave()

    async def _converse_until_ended(self) -> None:
        self._task = task = asyncio.current_task()
        assert task is not None
        if self._idle_timeout:
            first = self._now() + self._idle_timeout
            self._looking = self._loop.call_soon(self._look_at, first)  # once the request is sent: a timer takes time
        try:
            await self._converse()
        except asyncio.CancelledError:
            if self._reason is None or task.uncancel():
                raise
        except (UpstreamFailed, SourceStalled) as error:
            await self._tell_failed(error)
            return
        finally:
            self._task = None
            if self._looking is not None:
                self._looking.cancel()
        await self._tell_end()

    async def _tell_end(self) -> None:
        self._is_complete = True
        if self._reason is Reason.CANCELLED:
            self._tally.cancelled.inc()
        match self._reason:
            case Reason.STALLED:
                await self._tell_failed(SourceStalled(self._idle_timeout))
            case Reason.UNREAD if self.answer is not None:
                self.answer.fail(CallerStalled(self._idle_timeout))
            case Reason.CANCELLED if not self._status:
                await self._tell_cancelled()
            case Reason.UNSENT if not self._status:
                await self._tell_unsent()
            case _:
                pass  # a caller who has a part must not take it for the whole answer

    async def _converse(self) -> None:
        """Pass the request on, and its answer."""
        fields = pass_to_upstream(self._fields, self._named, may_stream=self._may_stream)
        if not self._has_more:
            self._start_watching()
        read_body = self._read_body if self._has_more else None
        async with self._upstream.pass_on(self._method, self._target, fields, read_body) as passed:
            self._passed = passed
            await self._begin(passed)
            while self._reason is None and (piece := await passed.read()):
                await self._tell({"type": "http.response.body", "body": piece, "more_body": True})
        if self._reason is None:
            self._is_complete = True
            await self._tell({"type": "http.response.body", "body": b""})

    async def _read_body(self) -> bytes:
        """The next piece of the request's body; empty at its end."""
        while self._has_more:
            self._waits.call(self._now())
            message = await self._receive()
            self._waits.hear(self._now())
            if message["type"] == "http.disconnect":
                self.leave()
                self._end(Reason.LEFT)  # even a detached one: an incomplete request must not be sent as a whole one
                raise asyncio.CancelledError
            self._has_more = message.get("more_body", False)
            if piece := message.get("body", b""):
                return bytes(piece)
        self._start_watching()
        return b""

    async def _begin(self, head: Passed) -> None:
        """Send the head of the answer, which says where the answer can be followed."""
        named = by_name(head.fields)
        try:
            check_answer(head.status, named)
        except ValueError as error:
            raise UpstreamFailed(str(error), UNPASSABLE) from None
        fields = pass_to_caller(head.status, head.fields, named)
        if self.answer is None and self._may_stream and is_streamed(head.status, named, self._target):
            self._follow()
        if self.answer is not None:
            fields += self.answer.fields
            self.answer.begin(coding_of(named))
            head.follow(self.answer.take, self.answer.end, BUFFER)
        self._status = head.status
        await self._tell({"type": "http.response.start", "status": head.status, "headers": fields})

    async def _tell(self, message: dict[str, Any]) -> None:
        """Send the caller a part of the answer, if the caller is still there."""
        if self._has_left:
            return
        self._waits.tell(self._now())
        try:
            await self._send(message)
        except OSError:  # some servers raise it for a caller who has left
            self.leave()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._is_cutting_off or task is None or task.uncancel():
                raise
            self._is_cutting_off = False
        self._waits.told()

    async def _tell_cancelled(self) -> None:
        self._status = CANCELLED
        detail = "a reader of the stream cancelled the answer"
        if not self._has_left:
            await respond_problem(self._send, CANCELLED, "Cancelled", detail, x_should_retry="false")

    async def _tell_unsent(self) -> None:
        self._status = HTTPStatus.REQUEST_TIMEOUT.value
        detail = f"nothing of the request's body has come for {self._idle_timeout:g} s (idle_timeout)"
        await refuse(self._send, HTTPStatus.REQUEST_TIMEOUT, detail)

    async def _tell_failed(self, error: UpstreamFailed | SourceStalled) -> None:
        """Tell readers and the caller that the upstream failed; a body that has begun just breaks off."""
        self._tally.failed.inc()
        log.warning("upstream.failed", why=str(error), status=self._status, **self._logged)
        if self.answer is not None:
            self.answer.fail(error)
        self._is_complete = True
        if self._status or self._has_left:
            return
        is_late = isinstance(error, SourceStalled)
        status = HTTPStatus.GATEWAY_TIMEOUT if is_late else HTTPStatus.BAD_GATEWAY
        self._status = status.value
        await refuse(self._send, status, f"the upstream did not answer: {error}")
