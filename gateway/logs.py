"""Logs: what the gateway did, one line each on standard error.

An event's name is a dotted fact in the past tense (`consumer.closed`), its circumstances are keys beside it
(`code=4000`). Off a terminal a line is a JSON object, on one it is coloured text. Records of the standard `logging`
module (websockets, asyncio) take the same way, so that nothing else ever writes to standard error.

Nothing is logged per event, and never what an event says, nor a token. Every line about a connection has `connection`
(a short id), `remote` and `stream`. Where nobody reads the log, lines are lost; the next one that is not says how many
(`lines_lost`).

| fact | level | what it says beside its name |
|---|---|---|
| `gateway.started` | info | `url`, `host`, `port`, `pid` |
| `descriptors.limited` | info | `max_connections` there are file descriptors for, fewer than were `asked` for |
| `gateway.reloaded` | info | certificates and keys were read again |
| `gateway.reload_failed` | error | `reason`; what was there before stays |
| `gateway.drain_started` | info | `signal` |
| `gateway.killed` | warning | a second `signal` came |
| `gateway.stopped` | info | |
| `loop.blocked` | warning | `seconds` for which nobody was served |
| `drain.timed_out` | warning | `connections` that were dropped |
| `consumer.connected` | info | `policy`, `buffer`, `after`, `head`, `agent` |
| `consumer.ended` | info | `code`, `by` (`gateway` or `peer`), `why`, `events`, `bytes`, `seconds` |
| `producer.connected` | info | `producer`, `generation`, `agent` |
| `producer.ended` | info | `code`, `by`, `why`, `events`, `seconds` |
| `producer.lost` | info | `stream`, `producer`, `lease`: it left a message unfinished |
| `stream.closed` | info | `stream`, `reason`, `head` |
| `token.expired` | info | `subject`, `stream` |
| `jwks.fetch_failed` | warning | `url`, `why`; the keys that are known stay |
| `connection.shed` | warning | `held` bytes, `limit`: the memory limit is reached, and it is ended |
| `handshakes.dropped` | warning | `dropped`, `max_handshakes`: so many sockets waited that the oldest went |
| `connection.failed` | error | a fault of the gateway, with its traceback; the connection ends with 1011 |
| `channel.flush_failed` | error | likewise, of a `stream`: its consumers end |
| `admission.failed` | error | likewise, of a request: it is answered 500 |
| `trace.failed` | error | likewise, of a span, on a `stream`; its event is appended |
| `sweep.failed` | error | likewise, of a deadline of a `peer` |
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from select import PIPE_BUF, POLLOUT, poll
from stat import S_ISFIFO
from threading import Thread
from traceback import format_exception
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from deltawire.gateway.config import Settings


def get_logger() -> Any:
    """A logger of structlog.

    Where a program that embeds the gateway has not configured structlog, it hears warnings only, on standard error:
    structlog by itself would print everything on standard output, which is the program's own.
    """
    return structlog.wrap_logger(None, wrapper_class=cast("Any", _bind))


def _bind(logger: WrappedLogger, processors: Iterable[Processor], context: dict[str, Any]) -> Any:
    """What a logger does when it is used, by the configuration there is then."""
    if structlog.is_configured():
        return structlog.get_config()["wrapper_class"](logger, processors, context)
    return _WARNINGS_ONLY(structlog.PrintLogger(sys.stderr), processors, context)


LAST_LINES: Final = 1.0
"""Seconds a process waits at its end for a terminal to take the last lines, where a thread writes them: a terminal that
is read takes them at once."""

_WARNINGS_ONLY: Any = structlog.make_filtering_bound_logger(logging.WARNING)


class LogFile:
    """A descriptor that takes lines, written at once.

    Its failures stop nobody: a gateway whose log has no reader or no room goes on serving. A pipe or a terminal that
    nobody empties would block whoever writes to it, and with it everybody served: lines there is no room for are lost,
    and counted. That there is room is not to be relied on: terminals say so and block all the same, and another program
    may take what a pipe had. So both are opened once more, not to block, which leaves the shell's own descriptor as it
    is.

    Args:
        fd: the descriptor.
    """

    def __init__(self, fd: int) -> None:
        self._is_terminal = os.isatty(fd)
        self._fd = _never_blocking(fd)
        self._room = poll()
        self._room.register(self._fd, POLLOUT)
        self._lost = 0
        self._told = 0  # of these, what the line that is being written says
        self._is_cut = False  # the last line was written in part

    def write(self, text: str) -> None:
        """Write a line, if there is room for it."""
        data = b"\n" * self._is_cut + text.encode(errors="backslashreplace")
        written = 0
        with suppress(OSError):
            while written < len(data) and self._has_room():
                written += os.write(self._fd, data[written : written + PIPE_BUF])
        if written < len(data):
            self._lost += 1
        else:
            self._lost -= self._told
        self._told = 0
        if written:
            self._is_cut = written < len(data)

    def tell_lost(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        """Have the first line there is room for say how many there was none for. A processor of structlog."""
        if self._lost and self._has_room():
            event_dict["lines_lost"] = self._told = self._lost
        return event_dict

    def _has_room(self) -> bool:
        """Whether a pipe takes `PIPE_BUF` bytes at once; files always do, and terminals often say so wrongly."""
        return bool(self._room.poll(0))

    def flush(self) -> None:
        """Nothing is kept."""

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self._is_terminal


def _never_blocking(fd: int) -> int:
    """A descriptor of the same terminal or pipe that never blocks; the one given where it is neither.

    Who runs as another user than the one logged in may not open the terminal: a thread writes to it then. A pipe that
    can't be opened stays as it is: what it says of its room holds as long as nobody else writes to it.
    """
    is_terminal = os.isatty(fd)
    names: list[str] = []
    with suppress(OSError):
        if is_terminal or S_ISFIFO(os.fstat(fd).st_mode):
            names.append(f"/proc/self/fd/{fd}")  # a container's terminal may have no other name in it
            names.append(os.ttyname(fd))
    for name in names:
        with suppress(OSError):
            return os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    return _relay_to(fd) if is_terminal else fd


def _relay_to(fd: int) -> int:
    """The writing end of a pipe that a thread empties into a descriptor that may block."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = Thread(target=_carry, args=(reader, os.dup(fd)), name="log", daemon=True)
    thread.start()
    atexit.register(_end_relay, writer, thread)
    return writer


def _carry(reader: int, fd: int) -> None:
    with open(reader, "rb", buffering=0) as source, open(fd, "wb", buffering=0) as sink, suppress(OSError):
        while data := source.read(PIPE_BUF):
            while data:
                data = data[sink.write(data) or 0 :]


def _end_relay(writer: int, thread: Thread) -> None:
    """Leave the last lines some time to be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, writer, inheritable=False)  # which ends the pipe, and takes what is still logged
    os.close(null)
    thread.join(LAST_LINES)


def configure_logs(settings: Settings, fd: int = 2) -> None:
    """Send the process's logs to one place in one form; the last call stands.

    Args:
        settings: `log_level` is the least severity written, `log_format` the form of a line.
        fd: the descriptor lines go to, standard error; `auto` looks whether it is a terminal.
    """
    file = LogFile(fd)
    stream = cast("TextIO", file)
    on_terminal = settings.log_format == "console" or (settings.log_format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        file.tell_lost,
    ]
    rendering = _console(stream) if on_terminal else _json_lines()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging(level, [*shared, _name_foreign], rendering, stream)


def _json_lines() -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        _put_name_first,
        structlog.processors.JSONRenderer(),
    ]


def _console(stream: TextIO) -> list[Processor]:
    # repr() of every value keeps control characters of a peer's words away from the terminal.
    return [
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty() and not os.environ.get("NO_COLOR"),
            repr_native_str=True,
            timestamp_key="timestamp",
            exception_formatter=_indent_traceback,
        )
    ]


def _indent_traceback(sio: TextIO, exc_info: ExcInfo) -> None:
    """A traceback under its line, indented: a word of a peer in it neither looks like a line nor drives a terminal."""
    for line in "".join(format_exception(*exc_info)).rstrip("\n").split("\n"):
        shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)
        print(f"\n    {shown}", end="", file=sio)


def _put_name_first(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Begin every line alike, for the person who reads JSON."""
    head = {key: event_dict.pop(key) for key in ("timestamp", "level", "event")}
    return {**head, **event_dict}


def _name_foreign(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Give a record of a library a name of our form; what it said becomes a value."""
    record: logging.LogRecord = event_dict["_record"]
    event_dict["message"] = event_dict["event"]
    event_dict["event"] = f"{record.name}.logged"
    return event_dict


def _adopt_standard_logging(level: int, before: list[Processor], rendering: list[Processor], stream: TextIO) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries tell of every connection at `info`, which here the gateway's own events do.
    root.setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))
