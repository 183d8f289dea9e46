"""The supervisor: owns the listening sockets, and keeps a process in the place of each worker.

It accepts no connection and reads none: nothing that a peer sends can harm it. It has no event loop and no thread, so
that it can fork a worker at any time; a worker that died is replaced in a few milliseconds.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Final, NamedTuple, Protocol

from deltawire.gateway.config import Settings
from deltawire.gateway.logs import get_logger
from deltawire.gateway.workers.control import Word, tell
from deltawire.gateway.workers.division import divide
from deltawire.gateway.workers.links import Inbox, Links, discard
from deltawire.gateway.workers.roster import Place, State
from deltawire.gateway.workers.shared_limits import SharedLimits
from deltawire.gateway.workers.signals import SignalPipe, held_back
from deltawire.gateway.workers.worker import Seat

MARGIN: Final = 5.0
"""Seconds beyond `drain_timeout` after which a worker that has not left is killed."""

TICK: Final = 1.0
"""Longest wait, in seconds, until workers are looked at again."""

FROZEN: Final = 5.0
"""Seconds by which a wait may be late; if it is later, this process was stopped, and probably the workers with it."""

WRONG_SETTINGS: Final = 2
"""Exit status of a worker that can't start with these settings; it has said why."""

FAILED: Final = 1

TAKEN: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)
"""Signals that a supervisor acts on."""

log = get_logger()


class Manager(Protocol):
    """The service manager, as the supervisor reports to it.

    Attributes:
        watchdog: seconds within which it wants to hear from a service; 0 if it does not.
    """

    watchdog: float

    def tell(self, *assignments: str) -> None:
        """Send one message, such as `READY=1`."""


class Process(NamedTuple):
    """A process in the place of a worker.

    Attributes:
        pid: of the process.
        control: this side of the line to it.
    """

    pid: int
    control: socket.socket


class Supervisor:
    """The supervisor of one gateway.

    Args:
        settings: of the whole gateway.
        workers: how many there are; at least 2.
        sockets: bound, to listen on.
        signals: taken since before any of this was made.
        work: serves as a worker in a process that was forked, until it is told to leave; returns the exit status.
        manager: hears of readiness, reload and the end.
        announce: called once every worker serves.

    Raises:
        ConfigError: a limit is too small to be divided, or a setting is not possible with several workers.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what `serve` has
        self,
        settings: Settings,
        workers: int,
        sockets: Sequence[socket.socket],
        signals: SignalPipe,
        work: Callable[[Seat], int],
        manager: Manager,
        announce: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._divided = [divide(settings, worker, workers) for worker in range(workers)]
        self._sockets = sockets
        self._signals = signals
        self._work = work
        self._manager = manager
        self._announce = announce
        self._limits = SharedLimits(settings, workers)
        self._key = token_hex(16)
        self._inboxes = [Inbox.make() for _ in range(workers)]
        self._places = [Place(worker) for worker in range(workers)]
        self._processes: dict[int, Process] = {}  # by worker
        self._selector = selectors.PollSelector()  # holds no descriptor that a child would share
        self._reloading: set[int] = set()  # workers that have not said yet that they have reloaded
        self._restarting: list[Place] = []  # places whose processes are to be replaced, one after the other
        self._is_announced = False
        self._stop_by: float | None = None  # monotonic seconds when to kill what is left; None while it serves
        self._status = 0
        self._had_terminal = os.isatty(0)
        self._watchdog_at = 0.0

    def run(self) -> int:
        """Supervise until a signal ends the gateway; return the exit status."""
        self._selector.register(self._signals.reader, selectors.EVENT_READ, self._on_signals)
        gc.freeze()  # a worker that collects garbage would copy every page of these objects
        while self._stop_by is None or self._processes:
            now = time.monotonic()
            self._start_due(now)
            self._kill_late(now)
            self._report(now)
            wait = self._wait(now)
            for key, _ in self._selector.select(wait):
                key.data()
            if time.monotonic() - now > wait + FROZEN:
                for place in self._places:
                    place.beat(time.monotonic())
        for inbox in self._inboxes:
            discard(inbox)
        return self._status

    def _wait(self, now: float) -> float:
        due = [place.due_at - now for place in self._places if place.state is State.ABSENT]
        return max(0.0, min([TICK, *due])) if self._stop_by is None and self._is_announced else TICK

    def _report(self, now: float) -> None:
        """Tell the service manager that this process runs; workers are watched here."""
        if self._manager.watchdog and now >= self._watchdog_at:
            self._watchdog_at = now + min(self._manager.watchdog / 2, TICK)
            self._manager.tell("WATCHDOG=1")

    # Workers

    def _start_due(self, now: float) -> None:
        """Start what is due. The first worker goes first: if the settings are wrong, one says so, and not all."""
        first = self._places[0]
        for place in self._places:
            if self._stop_by is None and place.is_due(now) and (place is first or first.state is not State.STARTING):
                try:
                    self._start(place)
                except OSError as error:  # there is no memory for it, or no descriptor
                    if not self._is_announced:
                        raise
                    place.died(now)
                    log.error("worker.start_failed", worker=place.worker, reason=error.strerror)  # noqa: TRY400 - the reason is enough

    def _start(self, place: Place) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        with held_back():
            pid = os.fork()
            if not pid:
                self._become(place, ours, theirs)
        theirs.close()
        place.started()
        self._processes[place.worker] = Process(pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._on_words(place, ours))

    def _become(self, place: Place, ours: socket.socket, theirs: socket.socket) -> None:
        """In the new process: be a worker, and nothing of the supervisor any more; never return."""
        status = FAILED
        try:
            self._signals.ignore_in_child()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            ours.close()
            for process in self._processes.values():
                process.control.close()
            for worker, inbox in enumerate(self._inboxes):
                if worker != place.worker:
                    inbox.reader.close()
            seat = Seat(
                place.worker,
                len(self._places),
                place.restarts,
                self._divided[place.worker],
                self._sockets,
                theirs,
                Links(place.worker, self._inboxes),
                self._key,
                self._limits.limits_of(place.worker),
            )
            status = self._work(seat)
        except BaseException:  # noqa: BLE001 - whatever it is, it must not reach the code of the supervisor
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(status)

    def _on_words(self, place: Place, control: socket.socket) -> None:
        if control.fileno() < 0:
            return  # its process was reaped in this very turn
        try:
            words = control.recv(4096)
        except OSError:
            words = b""
        if not words:  # it has closed its end: its death is told by a signal
            self._selector.unregister(control)
        now = time.monotonic()
        for word in set(words):
            if word == Word.BEAT:
                place.beat(now)
            elif word == Word.READY:
                self._on_ready(place, now)
            elif word == Word.RELOADED:
                self._on_reloaded(place.worker)

    def _on_ready(self, place: Place, now: float) -> None:
        place.is_ready(now)
        if self._is_announced:
            log.info(
                "worker.started", worker=place.worker, pid=self._processes[place.worker].pid, restarts=place.restarts
            )
            self._restart_next()
        elif all(it.state is State.READY for it in self._places):
            self._is_announced = True
            self._announce()

    def _reap(self) -> None:
        for place in self._places:
            process = self._processes.get(place.worker)
            if process is None:
                continue
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                self._on_end(place, process, os.waitstatus_to_exitcode(status))

    def _on_end(self, place: Place, process: Process, status: int) -> None:
        del self._processes[place.worker]
        if process.control in self._selector.get_map():
            self._selector.unregister(process.control)
        process.control.close()
        self._limits.forget(place.worker)
        self._on_reloaded(place.worker)
        now = time.monotonic()
        if self._stop_by is not None or place.state is State.LEAVING:
            place.left(now)
            return
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        if not self._is_announced:
            if status != WRONG_SETTINGS:
                log.error("worker.died", worker=place.worker, pid=process.pid, how=how)
            self._status = WRONG_SETTINGS if status == WRONG_SETTINGS else FAILED
            self._stop(now)
            return
        place.died(now)
        log.error("worker.died", worker=place.worker, pid=process.pid, how=how, restarts=place.restarts)

    def _kill_late(self, now: float) -> None:
        """Kill workers that hang, or don't leave in time."""
        for place in self._places:
            process = self._processes.get(place.worker)
            if process is None:
                continue
            if self._stop_by is not None and now >= self._stop_by:
                os.kill(process.pid, signal.SIGKILL)
            elif self._stop_by is None and place.is_hung(now):
                log.error("worker.stalled", worker=place.worker, pid=process.pid)
                os.kill(process.pid, signal.SIGKILL)
                place.given_up()

    # Signals

    def _on_signals(self) -> None:
        for it in self._signals.take():
            if it is signal.SIGCHLD:
                self._reap()
            elif it is signal.SIGHUP:
                self._on_hangup()
            elif it is signal.SIGUSR2:
                self._restart_all()
            else:
                self._on_ending(it)

    def _on_ending(self, it: signal.Signals) -> None:
        """Drain; at the second signal, end at once, as the operator no longer wants to wait."""
        if self._stop_by is not None:
            log.warning("gateway.killed", signal=it.name)
            for process in self._processes.values():
                os.kill(process.pid, signal.SIGKILL)
            os._exit(128 + it)
        log.info("gateway.drain_started", signal=it.name)
        self._stop(time.monotonic())

    def _stop(self, now: float) -> None:
        self._manager.tell("STOPPING=1", "STATUS=Draining")
        self._stop_by = now + self._settings.drain_timeout + MARGIN
        for process in self._processes.values():
            tell(process.control, Word.DRAIN)

    def _on_hangup(self) -> None:
        """Reload; if the terminal hung up, end, like any other program."""
        if self._had_terminal and not os.isatty(0):
            if self._stop_by is None:
                self._stop(time.monotonic())
            return
        self._manager.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        for worker, process in self._processes.items():
            self._reloading.add(worker)
            tell(process.control, Word.RELOAD)
        self._tell_reloaded()

    def _on_reloaded(self, worker: int) -> None:
        if worker in self._reloading:
            self._reloading.remove(worker)
            self._tell_reloaded()

    def _tell_reloaded(self) -> None:
        if not self._reloading:
            self._manager.tell("READY=1")

    def _restart_all(self) -> None:
        """Replace every worker by a new one, one after the other: each drains first."""
        if self._is_announced and self._stop_by is None and not self._restarting:
            log.info("gateway.restart_started")
            self._restarting = list(self._places)
            self._restart_next()

    def _restart_next(self) -> None:
        if any(place.state is not State.READY for place in self._places):
            return  # one at a time; it goes on when that one serves
        if self._restarting:
            place = self._restarting.pop(0)
            place.leaves()
            tell(self._processes[place.worker].control, Word.LEAVE)
