"""`deltawire serve`: run a gateway until a signal ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import click
from msgspec import structs

from deltawire.gateway.cli.collector import calm
from deltawire.gateway.cli.ending import Failure, StartFailure, Status, cannot_listen, say
from deltawire.gateway.cli.loop import new_event_loop
from deltawire.gateway.cli.options import SettingsCommand, examples, settings_options
from deltawire.gateway.cli.systemd import Notifier, take_sockets
from deltawire.gateway.cli.unneeded import without
from deltawire.gateway.config import ConfigError, Settings, UnreachableError
from deltawire.gateway.configuring import make_settings, tell_unadvertised
from deltawire.gateway.logs import configure_logs, get_logger
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting.descriptors import connections_possible, raise_limit
from deltawire.gateway.server.accepting.listening import bind, find_addresses, format_url
from deltawire.gateway.streams.callbacks import MessageWatcher
from deltawire.gateway.workers import (
    TAKEN,
    Seat,
    SignalPipe,
    Supervisor,
    claim_storage,
    count_workers,
    reload_files,
    work,
)
from deltawire.protocol.addresses import PREFIX

log = get_logger()


@click.command(
    "serve",
    cls=SettingsCommand,
    epilog=examples(
        "deltawire serve",
        "deltawire serve --host 0.0.0.0 --port 9000",
        "DELTAWIRE_RETENTION_EVENTS=1000 deltawire serve --config deltawire.toml",
    ),
)
@settings_options
def command(**values: Any) -> int:
    """Run a gateway until SIGTERM or SIGINT (Ctrl-C), then drain it.

    Every option is also an environment variable and a key of the TOML file; the option takes precedence over the
    variable, the variable over the file. SIGHUP makes the gateway read certificates, keys and middleware again. With
    --workers, several processes share the streams, and SIGUSR2 replaces them one after the other. With --port 0, the
    first log line (`gateway.started`; JSON unless on a terminal) has the port.
    """
    try:
        settings = make_settings(values)
    except ConfigError as error:
        raise StartFailure(str(error)) from None
    configure_logs(settings)
    if settings.engine_url:
        with without("opentelemetry"), suppress(ImportError):  # redis has metrics: a tenth of a start
            import_module("deltawire.gateway.engines.redis.engine")  # later it is known; who lacks it is told then
    fitting = _fit(settings, raise_limit())
    workers = count_workers(settings)
    if workers > 1:
        return _supervise(fitting, settings, workers)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(fitting, asked=settings))
    return Status.DONE


def _fit(settings: Settings, limit: int | None) -> Settings:
    """Settings with max_connections reduced to the number that the file descriptors allow.

    Args:
        settings: the requested settings.
        limit: file descriptors this process may have; None if there is no limit.
    """
    if limit is None:
        return settings
    possible = connections_possible(limit, may_relay=bool(settings.engine_url))
    return structs.replace(settings, max_connections=min(settings.max_connections, possible))


async def _serve(settings: Settings, asked: Settings) -> None:
    """Listen, announce the address, wait for a signal, drain.

    Args:
        settings: the effective settings.
        asked: the requested settings.
    """
    notifier = Notifier(os.environ)
    async with AsyncExitStack() as stack:
        stopping = _await_signals(stack, notifier)
        with _explaining(settings):
            if (lock := claim_storage(settings, 1)) is not None:
                os.close(lock)  # the gateway takes it itself
            gateway = Gateway(settings, sockets=take_sockets(os.environ))
            await _open(stack, gateway)
        _reload_on_hangup(stack, stopping, gateway, notifier)
        stack.callback(notifier.close)
        notifier.keep_watchdog()
        notifier.tell("READY=1", f"STATUS=Listening on {gateway.url}")
        _announce(gateway.url, settings, asked)
        gateway.hub.announce_storage()
        await stopping
    log.info("gateway.stopped")


async def _open(stack: AsyncExitStack, gateway: Gateway) -> None:
    """Begin to serve; what that takes ends with the stack."""
    if gateway.settings.otel:
        gateway.hub.manager.watcher = _trace(stack)
    await stack.enter_async_context(gateway)
    calm(stack)


@contextmanager
def _explaining(settings: Settings) -> Iterator[None]:
    """Say in one line why a gateway can't start."""
    try:
        yield
    except UnreachableError as error:
        raise Failure(str(error)) from None
    except ConfigError as error:
        raise StartFailure(str(error)) from None
    except (OSError, UnicodeError) as error:
        raise StartFailure(cannot_listen(settings.host, settings.port, error)) from None


def _supervise(settings: Settings, asked: Settings, workers: int) -> int:
    """Listen, and have several processes serve; arguments as for `_serve`."""
    signals = SignalPipe(TAKEN)
    notifier = Notifier(os.environ)
    _heed_environment_alone()
    with _explaining(settings):
        given = take_sockets(os.environ)
        addresses = asyncio.run(find_addresses(settings, given))
        sockets = given or bind(addresses, settings.port)
        host, port, *_ = sockets[0].getsockname()
        url = format_url(str(host) if given else settings.host, port, has_tls=bool(settings.tls_cert))

        def announce() -> None:
            notifier.tell("READY=1", f"STATUS=Listening on {url}")
            _announce(url, settings, asked, workers=workers)

        claim_storage(settings, workers)  # the lock is held to the end, by each of the processes
        supervisor = Supervisor(settings, workers, sockets, signals, partial(_work, settings), notifier, announce)
    status = supervisor.run()
    log.info("gateway.stopped")
    return status


def _work(whole: Settings, seat: Seat) -> int:
    """Serve as one of several workers, in a process of its own; return the exit status.

    Args:
        whole: the settings of all of them.
        seat: of this one.
    """
    configure_logs(seat.settings, worker=seat.worker)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(work(seat, partial(_open_as_worker, whole)))
    except (ConfigError, Failure, StartFailure) as failure:
        say(f"error: {failure}")
        return Status.FAILED if isinstance(failure, Failure) else Status.MISUSED
    return Status.DONE


async def _open_as_worker(whole: Settings, stack: AsyncExitStack, gateway: Gateway) -> None:
    with _explaining(whole):
        await _open(stack, gateway)


def _trace(stack: AsyncExitStack) -> MessageWatcher:
    """Start tracing; the last spans are sent when the stack closes."""
    try:
        from deltawire.gateway.tracing import tracing  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise StartFailure("setting `otel` needs the extra: pip install 'deltawire[otel]'") from None
    return stack.enter_context(tracing())


def _await_signals(stack: AsyncExitStack, notifier: Notifier) -> asyncio.Future[None]:
    """A future that the first SIGTERM or SIGINT completes; a second signal ends the process at once.

    Args:
        stack: removes the handlers when it closes.
        notifier: told of the first signal.
    """
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[None] = loop.create_future()

    def on_signal(signum: signal.Signals) -> None:
        if stopping.done():
            log.warning("gateway.killed", signal=signum.name)
            os._exit(128 + signum)  # the operator no longer wants to wait for the drain
        log.info("gateway.drain_started", signal=signum.name)
        notifier.tell("STOPPING=1", "STATUS=Draining")
        stopping.set_result(None)

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, on_signal, signum)
        stack.callback(loop.remove_signal_handler, signum)
    return stopping


def _reload_on_hangup(
    stack: AsyncExitStack, stopping: asyncio.Future[None], gateway: Gateway, notifier: Notifier
) -> None:
    """Make SIGHUP read files again. If the terminal hung up, SIGHUP ends the gateway, like any other program."""
    had_terminal = os.isatty(0)

    def on_hangup() -> None:
        if had_terminal and not os.isatty(0):
            if not stopping.done():
                stopping.set_result(None)
            return
        notifier.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        reload_files(gateway)
        notifier.tell("READY=1")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    stack.callback(loop.remove_signal_handler, signal.SIGHUP)


def _announce(url: str, settings: Settings, asked: Settings, **processes: int) -> None:
    """Announce where the gateway listens: in the log for programs, in words on a terminal.

    Args:
        url: where it listens.
        settings: the effective settings.
        asked: the requested settings.
        processes: the number of workers, if there are several.
    """
    parts = urlsplit(url)
    log.info("gateway.started", url=url, host=parts.hostname, port=parts.port, pid=os.getpid(), **processes)
    if settings != asked:
        log.info("descriptors.limited", max_connections=settings.max_connections, asked=asked.max_connections)
    if warning := tell_unadvertised(settings):
        log.warning("node.unadvertised", detail=warning)
    if sys.stdout.isatty():
        click.echo(f"Listening on {url}; to follow the stream `demo`:\n")
        click.echo(f"    wscat -c {url}{PREFIX}/demo/subscribe\n")


def _heed_environment_alone() -> None:
    """Have this process, and those it forks, use the proxies that the environment names, and no others.

    Where it names none, Python asks macOS for whichever library wants to know. A process that was forked crashes there.
    """
    if not getproxies_environment():
        os.environ["no_proxy"] = "*"
