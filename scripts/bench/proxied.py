"""`python -m scripts.bench.proxied`: what `deltawire proxy` adds to a first token, and takes of a core."""

from __future__ import annotations

import re
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from os import kill
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from scripts.bench.__main__ import console, prepare
from scripts.bench.answers import Answers
from scripts.bench.first_token import answering_at_once, time_first_tokens
from scripts.bench.peer import ROOT
from scripts.bench.process import LOAD_CORE, SERVER_CORE, Server, free_port, serving, starting
from scripts.bench.schedule import evenly

TIMEOUT = 30.0
"""Seconds that the proxy has to connect to the gateway, once for each answer, and to publish what is left."""


class Proxied:
    """A gateway and a proxy in front of a provider, which is in this process.

    Args:
        stack: ends them.
        upstream: port of the provider.
    """

    def __init__(self, stack: ExitStack, upstream: int) -> None:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="deltawire-bench-")))
        self._gateway_port = free_port()
        gateway = self._start(stack, folder, LOAD_CORE, self._gateway_port, "serve")
        addresses = ("--upstream", f"http://127.0.0.1:{upstream}", "--gateway", f"ws://127.0.0.1:{self._gateway_port}")
        proxy = self._start(stack, folder, SERVER_CORE, free_port(), "proxy", *addresses)
        self.gateway, self.proxy = gateway(), proxy()
        for server in (self.gateway, self.proxy):
            stack.callback(kill, server.pid, signal.SIGTERM)  # the second one, when each is waited for, ends it at once

    @staticmethod
    def _start(stack: ExitStack, folder: Path, core: int, port: int, *words: str) -> Callable[[], Server]:
        command = [sys.executable, "-m", "deltawire", *words, "--port", str(port)]
        environment = {"PYTHONPATH": str(ROOT / "scripts" / "package")}
        return stack.enter_context(starting(command, environment, port, folder / words[0], folder, core=core))

    def wait_publishing(self, number: int) -> None:
        """Wait until so many answers are published."""
        _wait_until(lambda: _metric(self._gateway_port, "/metrics", 'deltawire_connections{role="producer"}') == number)

    def wait_ended(self) -> None:
        """Wait until readers could have all answers."""
        _wait_until(lambda: self._counts("requests") == self._counts("ending_answers") == 0)

    def dropped(self) -> float:
        """Chunks of ended answers of which readers did not get everything."""
        return self._counts("dropped_chunks_total")

    def _counts(self, name: str) -> float:
        return _metric(self.proxy.port, "/deltawire/metrics", f"deltawire_proxy_{name}")

    def events(self) -> float:
        """Events that the gateway has."""
        return _metric(self._gateway_port, "/metrics", "deltawire_events_total")


def _wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.02)


def _metric(port: int, path: str, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
        found = re.search(rf"^{re.escape(name)} (\S+)$", response.read().decode(), re.MULTILINE)
    if found is None:
        raise LookupError(name)
    return float(found.group(1))


def measure_first_token(rounds: int) -> None:
    """Print the time to the first token, alone and through what stands in front."""
    with ExitStack() as stack:
        port = stack.enter_context(answering_at_once())
        log = Path(stack.enter_context(TemporaryDirectory(prefix="deltawire-bench-"))) / "relay"
        relay, command = free_port(), [sys.executable, "-m", "scripts.bench.servers.relay"]
        stack.enter_context(serving([*command, str(port), str(relay)], {}, relay, log, ROOT))
        proxied = Proxied(stack, port).proxy.port
        ports = {"alone": port, "through a relay of bytes": relay, "through the proxy": proxied}
        for keep, how in ((True, "kept connections"), (False, "new connections")):
            for name, times in time_first_tokens(ports, rounds, keep=keep).items():
                console.print(f"first token, {how}, {name}: p50 {times.p50:.2f} ms, + {times.later:.2f} ms")


def begin(stack: ExitStack, number: int) -> tuple[Answers, Proxied]:
    """As many answers through a proxy, begun and about to be published."""
    answers = Answers()
    stack.callback(answers.close)
    proxied = Proxied(stack, answers.port)
    answers.call(proxied.proxy.port, number)
    proxied.wait_publishing(number)
    return answers, proxied


def measure_answers(number: int, rate: float, seconds: float) -> None:
    """Print what answers take that are streamed at once."""
    with ExitStack() as stack:
        answers, proxied = begin(stack, number)
        schedule = evenly(number, rate, seconds)
        cpu, began = proxied.proxy.cpu(), time.monotonic()
        answers.play(schedule)
        took, spent = time.monotonic() - began, proxied.proxy.cpu() - cpu
        proxied.wait_ended()
        total, latencies = len(schedule.times), answers.latencies
        console.print(
            f"{number} answers at {rate:g} tokens/s: {answers.tokens} of {total} read in {took:.1f} s of {seconds:g}, "
            f"{spent / 1000 / total:.0f} µs each, {spent / 1e9 / took:.0%} of a core; "
            f"latency p50 {latencies.percentile(0.5):.1f}, p99 {latencies.percentile(0.99):.1f} ms; "
            f"{proxied.events():.0f} events in the gateway, {proxied.dropped():.0f} chunks dropped"
        )


def measure_memory(number: int, tokens: int) -> None:
    """Print what an answer holds while the gateway is stopped."""
    with ExitStack() as stack:
        answers, proxied = begin(stack, number)
        before = proxied.proxy.memory()
        kill(proxied.gateway.pid, signal.SIGSTOP)
        stack.callback(kill, proxied.gateway.pid, signal.SIGCONT)
        answers.play(evenly(number, 8000 / number, tokens * number / 8000))
        held = (proxied.proxy.memory() - before) / number / 1024
        console.print(f"gateway stopped: {held:.0f} KiB an answer after {tokens} tokens, {answers.tokens} read")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--answers", "number", type=click.IntRange(1), default=200, show_default=True, help="Answers at once.")
@click.option("--rate", type=float, default=80.0, show_default=True, help="Tokens of each a second.")
@click.option("--seconds", type=float, default=4.0, show_default=True, help="For how long.")
@click.option(
    "--rounds",
    type=click.IntRange(2),
    default=200,
    show_default=True,
    help="First tokens of each kind, by turns.",
)
@click.option(
    "--held", type=click.IntRange(1), default=1000, show_default=True, help="Tokens while the gateway is stopped."
)
def main(number: int, rate: float, seconds: float, rounds: int, held: int) -> None:
    """Measure `deltawire proxy` on a core of its own; provider, callers and gateway share the other one."""
    prepare()
    measure_first_token(rounds)
    measure_answers(number, rate, seconds)
    measure_memory(20, held)


if __name__ == "__main__":
    main()
