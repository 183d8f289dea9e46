"""How a connection ends: the table, row by row."""

from __future__ import annotations

import pytest

from deltawire.gateway.server.connection.closing import Cause, Phase, after

ENDING = (Phase.CLOSING, Phase.DEAF, Phase.CLOSED)


@pytest.mark.parametrize("phase", Phase)
def test_a_connection_without_socket_is_closed_whatever_it_was(phase: Phase) -> None:
    assert after(phase, Cause.SOCKET_LOST) is Phase.CLOSED


@pytest.mark.parametrize("phase", ENDING)
@pytest.mark.parametrize("cause", Cause)
def test_no_way_leads_back(phase: Phase, cause: Cause) -> None:
    assert after(phase, cause).value >= phase.value


def test_a_peer_is_told_what_it_broke_before_nothing_of_it_is_parsed() -> None:
    with pytest.raises(KeyError):
        after(Phase.ACTIVE, Cause.LIMIT_BROKEN)
    assert after(after(Phase.ACTIVE, Cause.CLOSE), Cause.LIMIT_BROKEN) is Phase.DEAF
