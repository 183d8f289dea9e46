"""Logs: one line on standard error for each thing the gateway did.

The name of a log event is a dotted fact in the past tense (`consumer.closed`); its details are keys and values
(`code=4000`). Where there are several workers, a line of one of them has its number (`worker`). On a terminal, a line
is coloured text, elsewhere a JSON object. Records of the standard `logging` module (websockets, asyncio) are written
the same way, so that nothing else writes to standard error.

Nothing is logged per stream event; the content of events and tokens are never logged. Every line about a connection has
`connection` (a short id), `remote` and `stream`. If nobody reads the log, lines are lost; the next line that can be
written says how many (`lines_lost`).

| fact | level | keys, and what it means |
|---|---|---|
| `gateway.started` | info | `url`, `host`, `port`, `pid`; `workers` if there are several |
| `descriptors.limited` | info | `max_connections` that the file descriptors allow, fewer than `asked` |
| `gateway.reloaded` | info | certificates, keys and middleware were read again |
| `gateway.reload_failed` | error | `reason`; what was read before stays |
| `gateway.drain_started` | info | `signal` |
| `gateway.killed` | warning | a second `signal` arrived |
| `gateway.stopped` | info | |
| `gateway.restart_started` | info | SIGUSR2: workers are replaced, one after the other |
| `storage.distributed` | info | `streams` that were moved to other databases, as `workers` was another number before |
| `worker.started` | info | `worker`, `pid`, `restarts`: it took the place of one that died or left |
| `worker.died` | error | `worker`, `pid`, `how`, `restarts`: its connections are lost; another one takes its place |
| `worker.start_failed` | error | `worker`, `reason`: the system has nothing left for a process; it is tried again |
| `worker.stalled` | error | `worker`, `pid`: its event loop did not turn for 30 s, so it is killed |
| `loop.blocked` | warning | `seconds` for which the event loop served nobody |
| `drain.timed_out` | warning | `connections` that were dropped |
| `consumer.connected` | info | `policy`, `buffer`, `after`, `head`, `agent` |
| `consumer.ended` | info | `code`, `by` (`gateway` or `peer`), `why`, `events`, `bytes`, `seconds` |
| `producer.connected` | info | `producer`, `generation`, `agent` |
| `producer.ended` | info | `code`, `by`, `why`, `events`, `seconds` |
| `relay.ended` | info | `bytes` to a client and `received` from it, `code` if this gateway ended it, `why`, `seconds` |
| `follow.started` | info | `stream` of another gateway, `head`: consumers here are served from a copy of it |
| `follow.ended` | info | `stream`, `head`: nobody reads it here any more, or its gateway is gone |
| `follow.failed` | error | `stream`, the traceback: what came of it from another gateway can't be read |
| `node.lost` | warning | `url` of a gateway that can't be reached, `detail`: told once until it is there again |
| `node.unadvertised` | warning | there is no `advertise_url` (`detail`): no other gateway relays to this one |
| `upload.ended` | debug | as `producer.ended`: a request that published or signalled |
| `producer.lost` | info | `stream`, `producer`, `lease`: the producer left a message unfinished |
| `stream.closed` | info | `stream`, `reason`, `head` |
| `token.expired` | info | `subject`, `stream` |
| `jwks.fetch_failed` | warning | `url`, `why`; the known keys stay |
| `connection.shed` | warning | `held` bytes, `limit`: closed because the memory limit is reached |
| `handshakes.dropped` | warning | `dropped`, `max_handshakes`: too many sockets waited, and the oldest were dropped |
| `connection.failed` | error | an internal fault, with its traceback; the connection ends with 1011 |
| `channel.flush_failed` | error | likewise, in a `stream`: its consumers are closed |
| `commit.failed` | error | `stream`, the traceback; committed events of it may not have been delivered or acked |
| `admission.failed` | error | likewise, in a request: the answer is 500 |
| `middleware.failed` | error | `stream`, `stage`, `on_error`, `error` (its type): told once of a stage and stream |
| `middleware.refusal_limited` | warning | `streams`, `stage`: behind one that holds events back, it drops those |
| `page.failed` | error | likewise, with stored events of a `stream` that were read back |
| `storage.opened` | info | what was found where streams are stored (`engine_url`), and how many `streams` |
| `storage.unreplicated` | warning | the server of `engine_url` has fewer replicas than `engine_replicas` (`detail`) |
| `storage.unpersisted` | warning | the server of `engine_url` writes snapshots at most to its disk (`detail`) |
| `storage.eviction_enabled` | warning | the server of `engine_url` would evict events by now (`detail`) |
| `storage.epochs_renewed` | warning | after a crash, or on a backup (`detail`): readers begin open streams anew |
| `stream.lost` | warning | another gateway owns a `stream` now, or its store is gone (`detail`): its connections end |
| `storage.failed` | error | nothing can be stored any more (`detail`): producers are refused |
| `storage.recovered` | info | it can be again, after about so many `seconds` |
| `storage.read_failed` | error | stored events of a `stream` that can't be read (`detail`): readers get a gap |
| `storage.stream_skipped` | error | a `stream` on a server that is none of a gateway (`detail`): it is not served |
| `storage.read_refused` | warning | the server of `engine_url` refuses reads of a `stream` (`detail`): readers wait |
| `trace.failed` | error | likewise, in a span of a `stream`; its event is still appended |
| `tee.failed` | warning | `stream`, `why` no more of an answer is published |
| `tee.event_refused` | warning | `stream`, `why` |
| `tee.ended` | warning | `stream`; chunks `dropped` before readers had all of them; acked events the gateway `lost` |
| `proxy.started` | info | `url`, `host`, `port`, `pid`, `gateway` |
| `proxy.drain_timed_out` | warning | `requests` that were ended |
| `proxy.stopped` | info | |
| `upstream.failed` | warning | `path`, `stream` if any; `why` no answer or half of one; `status` the caller had, or 0 |
| `caller.stalled` | warning | `path`, `stream`; for `seconds` the caller took nothing of its answer |
| `upstream.proxy_ignored` | warning | `variable` of the environment names a proxy; the `host` is reached directly |
| `answer.decode_failed` | warning | `stream`, `why` the proxy can't read a body: its readers get no more of it |
| `exchange.failed` | error | likewise `path`, `stream`: a fault of the proxy, with its traceback; the request ends |
| `sweep.failed` | error | likewise, in a deadline of a `peer` |
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
    """A structlog logger.

    If a program that embeds the gateway has not configured structlog, only warnings are logged, on standard error:
    structlog's default would print everything on standard output, which belongs to the program.
    """
    return structlog.wrap_logger(None, wrapper_class=cast("Any", _bind))


def _bind(logger: WrappedLogger, processors: Iterable[Processor], context: dict[str, Any]) -> Any:
    """Bind a logger when it is used, by the configuration at that time."""
    if structlog.is_configured():
        return structlog.get_config()["wrapper_class"](logger, processors, context)
    return _WARNINGS_ONLY(structlog.PrintLogger(sys.stderr), processors, context)


LAST_LINES: Final = 1.0
"""Seconds to wait at exit until the thread that writes to a terminal has written the last lines; a terminal that is
read takes them at once."""

_WARNINGS_ONLY: Any = structlog.make_filtering_bound_logger(logging.WARNING)


class LogFile:
    """A descriptor to which lines are written without buffering.

    A gateway keeps serving if its log has no reader or no room. Writing to a full pipe or terminal would block the
    gateway and all its clients; lines for which there is no room are therefore lost and counted. `poll` is not reliable
    here: terminals report room and block nevertheless, and another program may fill a pipe first. Pipes and terminals
    are therefore opened again in non-blocking mode, which does not affect the shell's own descriptor.

    Args:
        fd: the descriptor.
    """

    def __init__(self, fd: int) -> None:
        self._is_terminal = os.isatty(fd)
        self._fd = _never_blocking(fd)
        self._room = poll()
        self._room.register(self._fd, POLLOUT)
        self._lost = 0
        self._told = 0  # how many of these the current line reports
        self._is_cut = False  # the last line was written only in part

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
        """Add the number of lost lines to the first line that has room; a structlog processor."""
        if self._lost and self._has_room():
            event_dict["lines_lost"] = self._told = self._lost
        return event_dict

    def _has_room(self) -> bool:
        """Whether a pipe accepts `PIPE_BUF` bytes now; files always do, and terminals often report it wrongly."""
        return bool(self._room.poll(0))

    def flush(self) -> None:
        """Do nothing: lines are not buffered."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._is_terminal


def _never_blocking(fd: int) -> int:
    """A descriptor of the same terminal or pipe that never blocks; `fd` itself if it is neither.

    A process of a different user than the one logged in may not open the terminal: then a thread writes to it. A pipe
    that can't be opened is used as it is: its poll result is reliable as long as no other program writes to it.
    """
    is_terminal = os.isatty(fd)
    names: list[str] = []
    with suppress(OSError):
        if is_terminal or S_ISFIFO(os.fstat(fd).st_mode):
            names.append(f"/proc/self/fd/{fd}")  # the only name that a terminal may have inside a container
            names.append(os.ttyname(fd))
    for name in names:
        with suppress(OSError):
            return os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    return _relay_to(fd) if is_terminal else fd


def _relay_to(fd: int) -> int:
    """The write end of a pipe; a thread copies from it to a descriptor that may block."""
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
    """Give the last lines some time to be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, writer, inheritable=False)  # ends the pipe, and discards later log lines
    os.close(null)
    thread.join(LAST_LINES)


def configure_logs(settings: Settings, fd: int = 2, worker: int | None = None) -> None:
    """Send all logs of the process to one descriptor in one format; the last call wins.

    Args:
        settings: `log_level` is the lowest severity to write, `log_format` the format of a line.
        fd: the descriptor to write to; `auto` checks whether it is a terminal.
        worker: the number of this process, which every line says; None if there is only one.
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
    if worker is not None:
        shared.insert(0, _naming(worker))
    rendering = _console(stream) if on_terminal else _json_lines()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging(level, [*shared, _name_foreign], rendering, stream)


def _naming(worker: int) -> Processor:
    def name(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        return {"worker": worker, **event_dict}

    return name


def _json_lines() -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        _put_name_first,
        structlog.processors.JSONRenderer(),
    ]


def _console(stream: TextIO) -> list[Processor]:
    # repr() of every value keeps control characters in a peer's text away from the terminal.
    return [
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty() and not os.environ.get("NO_COLOR"),
            repr_native_str=True,
            timestamp_key="timestamp",
            exception_formatter=_indent_traceback,
        )
    ]


def _indent_traceback(sio: TextIO, exc_info: ExcInfo) -> None:
    """Print a traceback, indented and escaped: a peer's text in it can neither fake a line nor control a terminal."""
    for line in "".join(format_exception(*exc_info)).rstrip("\n").split("\n"):
        shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)
        print(f"\n    {shown}", end="", file=sio)


def _put_name_first(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Begin every line with the same keys, for people who read JSON."""
    head = {key: event_dict.pop(key) for key in ("timestamp", "level", "event")}
    return {**head, **event_dict}


def _name_foreign(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Give a record of a library a name in our form; its message becomes a value."""
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
    # Libraries log every connection at `info`; the gateway's own log events cover that.
    root.setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))
