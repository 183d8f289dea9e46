"""At what pace peers are sent home: a table of literal numbers."""

from __future__ import annotations

import pytest

from deltawire.gateway.server.draining import TICK, batches


@pytest.mark.parametrize(
    ("peers", "seconds", "sizes"),
    [
        (0, 30, []),
        (1, 30, [1]),
        (30, 30, [30]),
        (100, 30, [20] * 5),
        (5000, 30, [20] * 250),
        (5000, 0, [5000]),
        (5000, 1, [200] * 25),
        (7, 0.1, [7]),
    ],
)
def test_peers_leave_at_a_thousand_a_second_and_by_half_of_the_time(
    peers: int, seconds: float, sizes: list[int]
) -> None:
    planned = list(batches(range(peers), seconds))
    assert [len(batch) for _, batch in planned] == sizes
    assert [peer for _, batch in planned for peer in batch] == list(range(peers))
    assert [pause for pause, _ in planned] == [TICK] * (len(sizes) - 1) + [0.0] * bool(sizes)
