"""Nodes on one server, through crashes, pauses, cuts and losses drawn from a seed: every promise is kept.

The nodes are whole gateways. Virtual are time, the network, and the server's data; its functions are the real ones.
A seed that fails is played again, to the letter, by `SEED=… pytest tests/simulation`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from deltawire.gateway.engines.engine import Done
from deltawire.gateway.engines.redis.committer import Committer
from deltawire.gateway.engines.redis.engine import RedisEngine
from deltawire.gateway.engines.redis.keeping import SessionKeeper
from deltawire.gateway.engines.redis.library import SOURCE
from deltawire.gateway.streams.staging import Commit
from tests.simulation import functions
from tests.simulation.run import simulate
from tests.support.soaking import lasting

BATCHES = lasting(2, 40)
SEEDS = lasting(25, 50)
"""Of a batch."""

ROOT = Path(__file__).parents[2]


def first_seed() -> int:
    return int(os.environ.get("SEED", "0"))


def check(seed: int) -> None:
    run = simulate(seed)
    story = "\n".join(run.world.history)
    assert not run.book.violations, f"seed {seed}: {run.book.violations[0]}\n{story}\nseed {seed}"


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_nodes_keep_every_promise_whatever_happens_to_them(batch: int) -> None:
    begin = first_seed() + batch * SEEDS
    for seed in range(begin, begin + SEEDS):
        check(seed)


def digest(seed: int) -> str:
    return sha256("\n".join(simulate(seed).world.history).encode()).hexdigest()


@pytest.mark.parametrize("seed", [3, 30, 40])
def test_a_seed_tells_the_same_history_each_time_and_in_every_process(seed: int) -> None:
    own = digest(seed)
    assert digest(seed) == own
    program = f"from tests.simulation.test_simulation import digest; print(digest({seed}))"
    environment = {"PYTHONHASHSEED": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts' / 'package'}"}
    other = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert other.stdout.strip() == own


# Is anything found at all?

Fault = Callable[[pytest.MonkeyPatch], None]


def without(line: str, instead: str = "") -> functions.Functions:
    """The functions of the server with a fault."""
    assert SOURCE.count(line) == 1, line
    return functions.Functions(SOURCE.replace(line, instead))


def forget_the_term(patch: pytest.MonkeyPatch) -> None:
    """An append is taken of whoever sends it."""
    it = without(
        "  if known[1] and known[1] ~= args[1] then\n    return fenced(known[1], known[3])\n  elseif not (known[1] and",
        "  if not (known[1] and",
    )
    patch.setattr(functions, "functions", lambda: it)


def keep_the_epoch(patch: pytest.MonkeyPatch) -> None:
    """Seqs of what a server has lost are given again in the same epoch."""
    it = without("if known[4] ~= now and known[5] ~= '1' then", "if false then")
    patch.setattr(functions, "functions", lambda: it)


def ack_at_once(patch: pytest.MonkeyPatch) -> None:
    """Events are delivered and acked when they are handed to the engine."""
    commit = RedisEngine.commit

    def commit_and_tell(engine: RedisEngine, commits: Sequence[Commit], done: Done) -> None:
        commit(engine, commits, lambda _: None)
        done(range(len(commits)))

    patch.setattr(RedisEngine, "commit", commit_and_tell)


def never_verify(patch: pytest.MonkeyPatch) -> None:
    """What a server has lost is not appended again unless somebody writes."""

    async def verify(*_: object) -> None:
        pass

    patch.setattr(Committer, "_verify", verify)


def serve_on(patch: pytest.MonkeyPatch) -> None:
    """A node goes on to serve streams that others may have taken over."""
    patch.setattr(SessionKeeper, "is_in_doubt", lambda *_: False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "begin"),
    [(forget_the_term, 35), (keep_the_epoch, 0), (ack_at_once, 0), (never_verify, 3), (serve_on, 5)],
)
def test_a_fault_in_a_node_or_in_the_server_is_found(fault: Fault, begin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found soon if it begins at a seed that found it once; each seed is another history when the code changes."""
    fault(monkeypatch)
    assert any(simulate(seed).book.violations for seed in range(begin, begin + 80))
