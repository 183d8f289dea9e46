"""When free memory is returned to the system."""

from __future__ import annotations

from functools import partial

import pytest

from deltawire.gateway.server import allocator
from deltawire.gateway.server.allocator import GROWN, UNEXPLAINED, FreeMemory, resident_bytes

LIMIT = 1600
MUCH = int(LIMIT * UNEXPLAINED)
MORE = int(LIMIT * GROWN)


def test_it_is_returned_once_nobody_is_there_and_again_when_less_is_kept() -> None:
    memory = FreeMemory(0)
    asked = partial(memory.is_due, 0, limit=LIMIT, is_used=False)
    assert [asked(counted) for counted in (50, 50, 60, 40, 40)] == [True, False, False, True, False]
    assert not memory.is_due(0, 40, LIMIT, is_used=True)
    assert asked(40), "somebody was there in between"


def test_it_is_returned_while_used_when_the_process_takes_much_more_than_is_counted() -> None:
    memory = FreeMemory(1000)
    asked = partial(memory.is_due, limit=LIMIT, is_used=True)
    assert not asked(1000 + MUCH, 0)
    assert not asked(1000 + 2 * MUCH, MUCH), "counted bytes explain it"
    assert asked(1001 + MUCH, 0)


def test_it_is_not_returned_again_until_the_process_has_grown_again() -> None:
    memory = FreeMemory(0)
    asked = partial(memory.is_due, counted=0, limit=LIMIT, is_used=True)
    taken = 2 * MUCH
    assert asked(taken)
    memory.returned(taken)
    assert not asked(taken + MORE), "as much as was left: nothing could be returned"
    assert not asked(taken - MORE)
    assert asked(taken + 1), "it had been less"


def test_what_the_process_takes_is_known_on_linux_and_elsewhere_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if allocator._STATM.exists():
        assert resident_bytes() > 10 * 1024 * 1024
    monkeypatch.setattr(allocator, "_STATM", tmp_path_factory.mktemp("proc") / "statm")
    assert resident_bytes() == 0
