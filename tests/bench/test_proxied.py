"""`python -m scripts.bench.proxied` measures what it says."""

from __future__ import annotations

import os
import re

import pytest

from scripts.bench.first_token import answering_at_once, time_first_tokens
from tests.support.running import run_script


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core is the proxy's, another one the load generator's")
async def test_it_prints_the_time_to_a_first_token_and_loses_no_answer() -> None:
    pytest.importorskip("uvicorn", reason="the extra deltawire[proxy]")
    output = await run_script(
        *("-m", "scripts.bench.proxied", "--rounds", "3"),
        *("--answers", "2", "--rate", "10", "--seconds", "0.5", "--held", "10"),
    )
    later = [float(ms) for ms in re.findall(r"through the proxy: p50 [\d.]+ ms, \+ (-?[\d.]+) ms", output)]
    assert len(later) == 2
    assert all(ms < 1000 for ms in later)
    assert "10 of 10 read" in output
    assert ", 0 chunks dropped" in output
    assert re.search(r"after 10 tokens, 200 read", output)


@pytest.mark.parametrize("keep", [True, False])
def test_rounds_ask_each_port_once_and_the_provider_differs_from_itself_by_nothing(*, keep: bool) -> None:
    with answering_at_once() as port:
        times = time_first_tokens({"alone": port, "again": port}, 3, keep=keep)
    assert times["alone"].later == 0
    assert times["again"].p50 > 0
