"""`make hardening` plays its attacks on a real gateway; and what it takes for an answer is one of SPEC's."""

from __future__ import annotations

import ast
import re
import sys

import pytest

from protocol.codes import CloseCode, ProblemCode
from scripts.hardening import answers, at_the_door, in_masses, on_the_wire, standing_still
from tests.cli.processes import ROOT
from tests.running import run_script

SPEC = (ROOT / "protocol" / "SPEC.md").read_text(encoding="utf-8")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
ATTACKS = [*at_the_door.ATTACKS, *on_the_wire.ATTACKS, *in_masses.ATTACKS, *standing_still.ATTACKS]

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
    assert named == {attack.name for attack in ATTACKS}


@pytest.mark.skipif(sys.platform != "linux", reason="attackers come from many addresses of 127.0.0.0/8")
async def test_attacks_on_the_wire_are_answered_as_documented_and_neighbours_lose_nothing() -> None:
    output = await run_script("-m", "scripts.hardening", "--quick", "--apart", "--only", "wire")
    lines = output.splitlines()
    assert [line[:46].strip() for line in lines[2:-1]] == [attack.name for attack in on_the_wire.ATTACKS]


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
