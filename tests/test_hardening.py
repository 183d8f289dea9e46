"""`make hardening` plays its attacks on a real gateway; and what it takes for an answer is one of SPEC's."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from collections.abc import AsyncIterator
from typing import cast

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.codes import CloseCode, ProblemCode
from scripts.hardening import answers, on_the_wire, storing
from scripts.hardening.__main__ import KINDS, Bench, Times
from scripts.hardening.attack import Attack, Target, attempt
from scripts.hardening.guarded import Guarded
from scripts.hardening.hostile import NoAnswerError
from scripts.hardening.judging import Found, judge
from scripts.hardening.neighbours import Group, Job, Neighbours, Seen
from tests.support.processes import ROOT
from tests.support.running import run_script
from tests.support.waiting import eventually

SPEC = (ROOT / "protocol" / "SPEC.md").read_text(encoding="utf-8")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
ATTACKS = [it for kind in KINDS.values() for it in kind]

PAGE = (ROOT / "tests" / "HARDENING.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    """The cells of every row of the page's tables."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "| tests |" not in line]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_row_names_tests_there_are(row: list[str]) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", row[2])
    assert named, "a row without a test"
    for file, name in named:
        functions = [it for it in ast.walk(ast.parse((ROOT / "tests" / file).read_text())) if isinstance(it, FUNCTIONS)]
        assert name in {function.name for function in functions}, f"{file} has no {name}"


def test_every_attack_is_in_a_row_and_every_row_names_attacks_there_are() -> None:
    named = {name.strip() for row in rows() for name in row[3].split(";")} - {"—"}
    assert named == {attack.name for attack in ATTACKS} | set(storing.NAMES)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="attackers come from many addresses of 127.0.0.0/8")
async def test_attacks_on_the_wire_are_answered_as_documented_and_neighbours_lose_nothing() -> None:
    output = await run_script("-m", "scripts.hardening", "--quick", "--apart", "--beside-others", "--only", "wire")
    names = [line[:46].rstrip() for line in output.splitlines()[2:-1]]
    played = [name for name in names if not name.startswith("  ") and not name.endswith(" (again)")]
    assert played == [attack.name for attack in on_the_wire.ATTACKS]


TIMED = Attack("all at once", on_the_wire.ATTACKS[0].play, frozenset({"403"}), is_timed=True)


@pytest.mark.parametrize(
    ("p99", "quiet", "is_slow"),
    [(10.0, 1.0, False), (10.1, 1.0, True), (39.9, 20.0, False), (40.1, 20.0, True)],
)
def test_neighbours_may_wait_twice_as_long_as_in_a_quiet_run_and_tiny_figures_say_nothing(
    p99: float, quiet: float, *, is_slow: bool
) -> None:
    found = judge(TIMED, {"403": 9}, Seen(p99_ms=p99), Seen(p99_ms=quiet))
    assert (found.wrong, bool(found.slow), found.is_doubtful) == ((), is_slow, is_slow)
    assert judge(TIMED._replace(is_timed=False), {"403": 9}, Seen(p99_ms=p99), Seen(p99_ms=quiet)) == Found()


@pytest.mark.parametrize(
    ("given", "seen", "is_wrong"),
    [
        ({"close 1011": 1}, Seen(), True),
        ({"401": 1}, Seen(), True),
        ({"403": 1}, Seen(lost=1), True),
        ({"403": 1}, Seen(newcomers=3, shut_out=1), False),
        ({"403": 1, f"{answers.LATE}no answer for 5 s": 1}, Seen(), False),
        ({"403": 1, answers.DROPPED: 8}, Seen(), False),
        ({"close 1011": 1, f"{answers.LATE}no answer for 5 s": 1}, Seen(newcomers=3, shut_out=1), True),
    ],
)
def test_what_a_busy_machine_does_too_is_played_again_and_nothing_else(
    given: dict[str, int], seen: Seen, *, is_wrong: bool
) -> None:
    found = judge(TIMED, given, seen, Seen())
    assert (bool(found.wrong), found.is_doubtful) == (is_wrong, not is_wrong)


async def test_a_row_that_failed_is_played_once_more_before_it_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    for shut_out, failures in (([1, 0], 0), ([1, 1], 1), ([0], 0)):
        bench = Bench(cast("Guarded", FakeGateway()), cast("Neighbours", FakeNeighbours(shut_out)), Times(0, 0, 0))
        await bench.play(Attack("knocking", _knock, frozenset({"403"}), is_repeated=False), cast("Target", None))
        assert len(bench.failures) == failures
        printed = capsys.readouterr().out
        assert ("knocking (again)" in printed) is (shut_out[0] == 1)
        assert ("newcomers did not get in: once more" in printed) is (shut_out[0] == 1)


@pytest.mark.parametrize(
    ("error", "answer"), [(NoAnswerError("no answer"), "late: no answer"), (TimeoutError("10 s"), "TimeoutError: 10 s")]
)
@pytest.mark.parametrize("is_in_a_group", [False, True])
async def test_an_attack_that_fails_says_so_after_the_answers_before(
    error: Exception, answer: str, *, is_in_a_group: bool
) -> None:
    async def play(_: Target) -> AsyncIterator[str]:
        yield "403"
        raise ExceptionGroup("of several peers", [error]) if is_in_a_group else error

    assert await attempt(play, cast("Target", None)) == ["403", answer]


async def test_neighbours_whose_producer_is_ended_say_so_and_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    async with Gateway(Settings(port=0)) as gateway:
        group = Group(Job(url=gateway.url, stream="demo", token=""))
        running = asyncio.create_task(group.run())
        await eventually(lambda: group.look().events, "that they publish")
        (publishing,) = [it for it in gateway._connections if it.target.publishes]
        publishing.close_with_problem(ProblemCode.OVERLOADED, "as an attack might do")
        await eventually(lambda: group.look().lost, "that they say so")
        await eventually(lambda: group.look().events, "that they go on")
        group.end()
        await running
    assert "a neighbour (the producer): 'received 4003" in capsys.readouterr().err


async def _knock(_: Target) -> AsyncIterator[str]:
    yield "403"


class FakeGateway:
    is_alive = True

    async def faults(self) -> int:
        return 0

    def complaints(self) -> list[str]:
        return []


class FakeNeighbours:
    """Neighbours that see in each second look how many of them were shut out."""

    def __init__(self, shut_out: list[int]) -> None:
        self._looks = iter([it for number in shut_out for it in (Seen(), Seen(newcomers=2, shut_out=number))])

    async def look(self) -> Seen:
        return next(self._looks)


def test_statuses_that_count_as_documented_are_those_of_the_specification() -> None:
    refusals = {int(status) for status in re.findall(r"^\| (\d{3}) \|", SPEC, re.MULTILINE)}
    assert {status for status in answers.STATUSES if status >= 400} == refusals | {409}


def test_a_fault_of_the_gateway_is_no_documented_answer() -> None:
    assert not answers.is_documented(answers.of_close(CloseCode.GATEWAY_FAULT))
    assert not answers.is_documented(answers.of_problem(ProblemCode.GATEWAY_FAULT))
    assert not answers.is_documented(answers.of_status(500))
    assert not answers.is_documented(answers.of_close(4999))
    assert answers.is_documented(answers.of_close(CloseCode.RATE_LIMITED))


def test_attacks_expect_documented_answers_alone_and_have_names_of_their_own() -> None:
    assert all(answers.is_documented(answer) for attack in ATTACKS for answer in attack.expected)
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
