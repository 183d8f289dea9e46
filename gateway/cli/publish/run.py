"""One run of `deltawire publish`: its input, its output, and the reasons to end early."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager

from msgspec import UNSET

from deltawire.gateway.cli.alongside import run_alongside
from deltawire.gateway.cli.encoding import NotUtf8Error, Utf8Source
from deltawire.gateway.cli.ending import Status, say
from deltawire.gateway.cli.publish.child import Child, run_child
from deltawire.gateway.cli.publish.pace import Pace
from deltawire.gateway.cli.publish.sources import CANCELLED, FAILED, open_source
from deltawire.gateway.cli.stdio import Input
from deltawire.gateway.client import EventRefused, Publisher, SourceStalled, iterate_with_idle_timeout
from deltawire.gateway.client.upstream import STALLED, with_error
from deltawire.protocol.events import DELTA_TYPES, Data, Error, Event, MessageStop

CHUNK = 8192
"""Maximum bytes of one read and so of one `text_delta`: fits 64 KiB even if JSON escapes it to six times its size."""


class PublishRun:
    """Publishes one input; counts events published, refused and lost; ends early when readers cancel.

    Args:
        publisher: where events go; already connected.
        form: the format of the input, as `--format` names it.
        pace: the schedule of deltas.
        inline_thinking: whether `<think>…</think>` within the text of a provider's body is thinking.
        until_alone: seconds without a consumer after which the input is cancelled; None means never.
        idle_timeout: seconds without a byte of input after which reading stops; 0 means never.
    """

    def __init__(  # noqa: PLR0913 - the options of a run
        self,
        publisher: Publisher,
        form: str,
        pace: Pace,
        *,
        until_alone: float | None,
        idle_timeout: float,
        inline_thinking: bool = False,
    ) -> None:
        self.sent = 0
        self.refused = 0
        self.lost = 0
        self._publisher = publisher
        source = open_source(form, refuse=self.refuse, warn=say, inline_thinking=inline_thinking)
        self._source = Utf8Source(source)
        self._pace = pace
        self._until_alone = until_alone
        self._idle_timeout = idle_timeout
        self._is_after_stop = False  # the last event was a `message_stop`
        self._cancelled = asyncio.Event()

    async def publish_stdin(self) -> Status:
        """Publish standard input; stop reading it when cancelled.

        Raises:
            ClientError: publishing is no longer possible.
        """
        if sys.stdin.isatty():
            say("reading from the keyboard; Ctrl-D on an empty line ends the input")
        stdin = Input(sys.stdin.fileno(), CHUNK)

        async def stop() -> None:
            stdin.stop()

        async with self._heeding(stop):
            try:
                await self._read(stdin, self._cancelled.is_set)
                await self._end()
            except (SourceStalled, NotUtf8Error) as fault:
                await self._break_off(fault)
                return Status.FAILED
        return Status.DONE

    async def publish_output(self, command: Sequence[str]) -> int:
        """Publish the output of a command; stop the command when cancelled.

        Args:
            command: the program and its arguments.

        Returns:
            Its exit status, or `Status.FAILED` if its output could not be read to the end.

        Raises:
            Failure: the command can't be run.
            ClientError: publishing is no longer possible.
        """
        async with run_child(command, CHUNK) as child, self._heeding(child.stop), run_alongside(child.end_output()):
            with self._taking_interrupts(child):
                try:
                    await self._read(child.output, lambda: self._cancelled.is_set() or child.has_ended)
                    if child.output.is_cut and not self._cancelled.is_set():
                        say("the command has ended; programs that it started hold its output open and are ignored")
                    status = await child.wait()  # before the message ends: Ctrl-C may reach the child before us
                    await self._end(status)
                except (SourceStalled, NotUtf8Error) as fault:  # readers need not wait for the command's end
                    await self._break_off(fault)
                    return Status.FAILED
        return status

    def refuse(self, reason: str) -> None:
        """Count invalid input and report the reason."""
        self.refused += 1
        say(f"error: {reason}")

    def look_for_losses(self) -> None:
        """Count and report acknowledged events that the gateway has lost since the last call."""
        if (more := self._publisher.lost - self.lost) > 0:
            self.lost += more
            say(
                f"error: the gateway lost the stream, with {more} event{'' if more == 1 else 's'} that it had "
                f"acknowledged; what comes now begins epoch {self._publisher.epoch}"
            )

    # Reasons to end early

    def _heeding(self, stop: Callable[[], Awaitable[None]]) -> AbstractAsyncContextManager[None]:
        """A block in which signals and the absence of readers are acted on.

        Args:
            stop: ends the input.
        """
        jobs = [self._publisher.wait_ended(), self._heed_signals(), self._stop_when_cancelled(stop)]
        if self._until_alone is not None:
            jobs.append(self._heed_absence(self._until_alone))
        return run_alongside(*jobs)

    async def _heed_signals(self) -> None:
        async for received in self._publisher.signals():
            if received.name == "cancel":
                self._cancel("cancelled by a reader")
            else:
                say(f"a reader sent the signal '{received.name}', which is ignored")

    async def _heed_absence(self, seconds: float) -> None:
        await self._publisher.wait_alone(seconds)
        self._cancel("nobody follows the stream any longer: cancelled")

    async def _stop_when_cancelled(self, stop: Callable[[], Awaitable[None]]) -> None:
        await self._cancelled.wait()
        await stop()

    def _cancel(self, reason: str) -> None:
        if not self._cancelled.is_set():
            self._cancelled.set()
            say(reason)

    @contextmanager
    def _taking_interrupts(self, child: Child) -> Iterator[None]:
        """Treat SIGINT (Ctrl-C) and SIGTERM as a cancel, so that the message ends properly; exit on a second one."""

        def on_signal(signum: signal.Signals) -> None:
            if self._cancelled.is_set():
                child.kill()
                os._exit(128 + signum)  # the user no longer wants to wait
            self._cancel(f"cancelled by {signum.name}")

        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, on_signal, signum)
        try:
            yield
        finally:
            for signum in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(signum)

    # Output

    async def _read(self, source: Input, is_ending: Callable[[], bool]) -> None:
        """Publish an input until it ends.

        Args:
            source: the input.
            is_ending: whether the input is about to end, and may be silent until then.

        Raises:
            SourceStalled: the input was silent for too long.
            NotUtf8Error: the input is in another encoding.
        """
        while True:
            try:
                async for chunk in iterate_with_idle_timeout(source.chunks(), self._idle_timeout):
                    await self._send_all(self._source.feed(chunk))
            except SourceStalled:
                if not (is_ending() or source.is_ready):  # data is ready: this process was stopped and continues
                    raise
            else:
                return

    async def _break_off(self, fault: SourceStalled | NotUtf8Error) -> None:
        """Report why reading stops, end the unfinished messages for readers, and wait for the acks.

        If the source was silent, readers get an `error` event even if no answer has begun. They get none if the answer
        is complete: then only the input did not end.
        """
        if isinstance(fault, SourceStalled):
            say(f"error: {fault} (--idle-timeout)")
            error, rest = fault.error, list(self._source.cut_short(STALLED))
            is_whole = STALLED not in reasons if (reasons := _stop_reasons(rest)) else self._is_after_stop
        else:
            say(f"error: {fault}")
            error, rest = Error(str(fault), "invalid_input", retryable=False), list(self._source.cut_short(FAILED))
            is_whole = not rest
        await self._send_all(rest if is_whole else with_error(error, rest))
        await self._flush()

    async def _end(self, status: int = 0) -> None:
        """Publish the rest at the end of the input, and wait for the acks.

        Args:
            status: exit status of the command; if it failed, readers get an `error` event.
        """
        if (
            self._cancelled.is_set() or status == 128 + signal.SIGINT
        ):  # Ctrl-C may end the command before we learn of it
            await self._send_all(self._source.cut_short(CANCELLED))
        elif status:
            error = Error(error=f"the command ended with status {status}", code="command_failed")
            await self._send_all(with_error(error, self._source.cut_short(FAILED)))
        else:
            await self._send_all(self._source.finish())
        await self._flush()

    async def _send_all(self, items: Iterable[Data | Event]) -> None:
        for item in items:
            data = item.data if isinstance(item, Event) else item
            if data.type in DELTA_TYPES:
                await self._pace.wait_due(self._cancelled)
            await self._send(item)
            self._is_after_stop = isinstance(data, MessageStop)

    async def _send(self, item: Data | Event) -> None:
        """Send one event; go on if this or an earlier event is refused."""
        while True:
            try:
                await self._publisher.send(item)
                self.look_for_losses()
            except EventRefused as error:
                if self._publisher.is_judged_at_once or error.problem.producer_seq is UNSET:
                    self.refuse(f"{self._source.place}{error}")
                    return
                self.refuse(str(error))
                self.sent -= 1  # an earlier event, already counted; this one is not sent yet
            else:
                self.sent += 1
                return

    async def _flush(self) -> None:
        """Wait for the last acks, and report refusals meanwhile."""
        while True:
            try:
                return await self._publisher.flush()
            except EventRefused as error:
                self.refuse(str(error))
                self.sent -= 1


def _stop_reasons(items: Iterable[Data | Event]) -> list[str]:
    data = (item.data if isinstance(item, Event) else item for item in items)
    return [it.stop_reason for it in data if isinstance(it, MessageStop)]
