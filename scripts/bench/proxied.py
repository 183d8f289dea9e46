"""`python -m scripts.bench.proxied`: what `deltawire proxy` adds to a first token, and takes of a core."""

from __future__ import annotations

import re
import signal
import socket
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from os import kill
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread

import click

from scripts.bench.__main__ import console, prepare
from scripts.bench.answers import HEAD, LAST, TOKEN, Answers, ask
from scripts.bench.peer import ROOT
from scripts.bench.process import LOAD_CORE, SERVER_CORE, Server, free_port, serving
from scripts.bench.schedule import evenly

PUBLISHING = 1.0
"""Seconds in which the proxy connects to the gateway, once for each answer, before tokens come."""

PAUSE = 0.015
"""Seconds between two requests: the proxy tells readers meanwhile."""

ASKED = 200
"""Answers of which each first token is timed, by turns with and without the proxy."""

HELD = 1000
"""Tokens of each answer that come while the gateway is stopped."""


class Proxied:
    """A gateway and a proxy in front of a provider, which is in this process.

    Args:
        stack: ends them.
        upstream: port of the provider.
    """

    def __init__(self, stack: ExitStack, upstream: int) -> None:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="deltawire-bench-")))
        self._gateway_port = free_port()
        self.gateway = self._start(stack, folder, LOAD_CORE, self._gateway_port, "serve")
        addresses = ("--upstream", f"http://127.0.0.1:{upstream}", "--gateway", f"ws://127.0.0.1:{self._gateway_port}")
        self.proxy = self._start(stack, folder, SERVER_CORE, free_port(), "proxy", *addresses)

    @staticmethod
    def _start(stack: ExitStack, folder: Path, core: int, port: int, *words: str) -> Server:
        command = [sys.executable, "-m", "deltawire", *words, "--port", str(port)]
        environment = {"PYTHONPATH": str(ROOT / "scripts" / "package")}
        return stack.enter_context(serving(command, environment, port, folder / words[0], folder, core=core))

    def dropped(self) -> float:
        """Chunks of ended answers of which readers did not get everything."""
        return _metric(self.proxy.port, "/deltawire/metrics", "deltawire_proxy_dropped_chunks_total")

    def events(self) -> float:
        """Events that the gateway has."""
        return _metric(self._gateway_port, "/metrics", "deltawire_events_total")


def _metric(port: int, path: str, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
        found = re.search(rf"^{name} (\S+)$", response.read().decode(), re.MULTILINE)
    if found is None:
        raise LookupError(name)
    return float(found.group(1))


def time_first_tokens(port: int, proxied: int) -> tuple[float, float]:
    """The median milliseconds to the first token from the provider at a port, and through the proxy at another."""
    times: dict[int, list[float]] = {port: [], proxied: []}
    with (
        socket.create_connection(("127.0.0.1", port)) as direct,
        socket.create_connection(("127.0.0.1", proxied)) as other,
    ):
        for _ in range(ASKED):
            for sock, where in ((direct, port), (other, proxied)):
                began = time.perf_counter()
                sock.sendall(ask(where))
                data = b""
                while b"data: " not in data:
                    data += sock.recv(65536)
                times[where].append((time.perf_counter() - began) * 1000)
                while not data.endswith(LAST):
                    data += sock.recv(65536)
                time.sleep(PAUSE)
    return median(times[port]), median(times[proxied])


def answer_at_once(listener: socket.socket, connections: int) -> None:
    """A provider that answers each request with one token; ends when its connections do."""

    def serve(sock: socket.socket) -> None:
        with sock, suppress(ConnectionError):
            while sock.recv(65536):
                sock.sendall(HEAD + TOKEN.fill(0) + LAST)

    for _ in range(connections):
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Thread(target=serve, args=(sock,), daemon=True).start()


def measure_first_token() -> None:
    """Print the time to the first token."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        Thread(target=answer_at_once, args=(listener, 1 + ASKED), daemon=True).start()
        direct, through = time_first_tokens(port, Proxied(stack, port).proxy.port)
    console.print(f"first token, p50: {direct:.2f} ms, {through:.2f} ms through the proxy: + {through - direct:.2f} ms")


def begin(stack: ExitStack, number: int) -> tuple[Answers, Proxied]:
    """As many answers through a proxy, begun and about to be published."""
    answers = Answers()
    stack.callback(answers.close)
    proxied = Proxied(stack, answers.port)
    answers.call(proxied.proxy.port, number)
    time.sleep(PUBLISHING)
    return answers, proxied


def measure_answers(number: int, rate: float, seconds: float) -> None:
    """Print what answers take that are streamed at once."""
    with ExitStack() as stack:
        answers, proxied = begin(stack, number)
        schedule = evenly(number, rate, seconds)
        cpu, began = proxied.proxy.cpu(), time.monotonic()
        answers.play(schedule)
        took, spent = time.monotonic() - began, proxied.proxy.cpu() - cpu
        time.sleep(PUBLISHING)
        total, latencies = len(schedule.times), answers.latencies
        console.print(
            f"{number} answers at {rate:g} tokens/s: {answers.tokens} of {total} read in {took:.1f} s of {seconds:g}, "
            f"{spent / 1000 / total:.0f} µs each, {spent / 1e9 / took:.0%} of a core; "
            f"latency p50 {latencies.percentile(0.5):.1f}, p99 {latencies.percentile(0.99):.1f} ms; "
            f"{proxied.events():.0f} events in the gateway, {proxied.dropped():.0f} chunks dropped"
        )


def measure_memory(number: int) -> None:
    """Print what an answer holds while the gateway is stopped."""
    with ExitStack() as stack:
        answers, proxied = begin(stack, number)
        before = proxied.proxy.memory()
        kill(proxied.gateway.pid, signal.SIGSTOP)
        stack.callback(kill, proxied.gateway.pid, signal.SIGCONT)
        answers.play(evenly(number, 8000 / number, HELD * number / 8000))
        held = (proxied.proxy.memory() - before) / number / 1024
        console.print(f"gateway stopped: {held:.0f} KiB an answer after {HELD} tokens, {answers.tokens} read")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--answers", "number", type=click.IntRange(1), default=200, show_default=True, help="Answers at once.")
@click.option("--rate", type=float, default=80.0, show_default=True, help="Tokens of each a second.")
@click.option("--seconds", type=float, default=4.0, show_default=True, help="For how long.")
def main(number: int, rate: float, seconds: float) -> None:
    """Measure `deltawire proxy` on a core of its own; provider, callers and gateway share the other one."""
    prepare()
    measure_first_token()
    measure_answers(number, rate, seconds)
    measure_memory(20)


if __name__ == "__main__":
    main()
