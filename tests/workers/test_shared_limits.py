"""Limits that hold over all workers."""

from __future__ import annotations

import itertools
import os

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server.accepting.limits import Limits
from deltawire.gateway.workers.shared_limits import SharedLimits

A_WHILE = 1000.0


def shared(workers: int = 2, **settings: float) -> tuple[SharedLimits, list[Limits]]:
    whole = SharedLimits(Settings(**{"max_connections": 10, **settings}), workers)  # type: ignore[arg-type]
    return whole, [whole.limits_of(worker) for worker in range(workers)]


def test_connections_of_all_workers_count_together() -> None:
    _, limits = shared(max_connections=5)
    answers = [it.come(object()) for it in itertools.islice(itertools.cycle(limits), 7)]
    assert [answer is None for answer in answers] == [True] * 5 + [False] * 2
    assert "max_connections" in str(answers[-1])
    assert [it.connections for it in limits] == [3, 2]


def test_a_place_that_is_given_back_is_free_in_every_worker() -> None:
    _, (first, second) = shared(max_connections=1)
    holder = object()
    assert first.come(holder) is None
    assert second.come("other") is not None
    first.leave(holder)
    first.leave(holder)
    assert second.come("other") is None
    assert first.is_unused
    assert not second.is_unused


@pytest.mark.parametrize("kind", ["address", "token"])
def test_an_address_and_a_token_count_in_all_workers_together(kind: str) -> None:
    _, limits = shared(3, max_connections_per_address=4, max_connections_per_token=4)

    def take(it: Limits, name: str) -> bool:
        taken = it.identify(object(), name, A_WHILE) if kind == "address" else it.authenticate(object(), name)
        return taken is None

    assert [take(it, "192.0.2.1") for it in itertools.islice(itertools.cycle(limits), 6)] == [True] * 4 + [False] * 2
    assert take(limits[0], "192.0.2.2"), "another one is not affected"


def test_what_a_dead_worker_held_is_free_again() -> None:
    whole, (first, second) = shared(max_connections=2, max_connections_per_address=2)
    for holder in range(2):
        assert first.come(holder) is None
        assert first.identify(holder, "192.0.2.1", A_WHILE) is None
    assert second.come("late") is not None
    whole.forget(0)
    assert second.come("late") is None
    assert second.identify("late", "192.0.2.1", A_WHILE) is None
    assert whole.limits_of(0).connections == 0


def test_a_rate_holds_over_all_workers() -> None:
    _, limits = shared(connection_rate=1.0, connection_burst=3)
    turns = itertools.cycle(limits)
    assert [next(turns).identify(object(), "192.0.2.1", A_WHILE) is None for _ in range(5)] == [True] * 3 + [False] * 2
    refusal = limits[0].identify(object(), "192.0.2.1", A_WHILE)
    assert refusal is not None
    assert refusal.retry_after == 1
    assert limits[1].identify(object(), "192.0.2.1", A_WHILE + 1) is None


def test_a_connection_that_was_handed_over_is_counted_but_not_rated_again() -> None:
    _, (first, second) = shared(connection_rate=1.0, connection_burst=1, max_connections_per_address=1)
    assert first.identify("there", "192.0.2.1", A_WHILE) is None
    first.leave("there")
    assert second.settle("here", "192.0.2.1") is None
    assert first.settle("another", "192.0.2.1") is not None


def test_a_connection_that_another_node_relays_is_neither_counted_nor_rated_for_that_node() -> None:
    _, (first, second) = shared(connection_rate=1.0, connection_burst=2, max_connections_per_address=2)
    for number in range(10):
        assert first.identify(number, "192.0.2.1", A_WHILE) is None
        first.take_back(number, "192.0.2.1", A_WHILE)
    assert second.identify("one", "192.0.2.1", A_WHILE) is None
    assert second.identify("two", "192.0.2.1", A_WHILE) is None
    second.take_back("two", "192.0.2.1", A_WHILE)
    assert first.identify("three", "192.0.2.1", A_WHILE) is None
    assert first.identify("four", "192.0.2.1", A_WHILE) is not None


def test_many_addresses_are_told_apart() -> None:
    _, (first, second) = shared(max_connections=2000, max_connections_per_address=1, connection_rate=0.0)
    addresses = [f"192.0.{number // 250}.{number % 250}" for number in range(2000)]
    refused = sum(
        it.identify(object(), name, A_WHILE) is not None
        for it, name in zip(itertools.cycle((first, second)), addresses, strict=False)
    )
    assert refused <= 20, "one in four hundred is expected at the very most"
    again = sum(second.identify(object(), name, A_WHILE) is None for name in addresses)
    assert again == 0, "but no limit is exceeded"


def test_forked_processes_share_the_counts() -> None:
    whole, limits = shared(max_connections=1)
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, b"x" if limits[1].come(object()) is None else b"-")
        os._exit(0)
    assert os.read(reader, 1) == b"x"
    os.wait()
    assert limits[0].come(object()) is not None
    whole.forget(1)
    assert limits[0].come(object()) is None
    os.close(reader)
    os.close(writer)
