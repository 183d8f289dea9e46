"""Every problem code and close code of SPEC §8 comes over a real socket in a test of this folder.

A test says with `@pytest.mark.hears(ProblemCode.…, CloseCode.…)` which codes it brings about, and fails unless a client
of it gets them (`conftest`). So it does not matter which tests run, nor in which process.
"""

from __future__ import annotations

import ast
from pathlib import Path

from deltawire.protocol.codes import CloseCode, ProblemCode

CODES = {"ProblemCode": ProblemCode, "CloseCode": CloseCode}
UNHEARD: set[ProblemCode | CloseCode] = set()
"""Codes no test brings about yet, to be named here until one does."""


def promised(source: str) -> set[ProblemCode | CloseCode]:
    """The codes that tests say they bring about."""
    calls = [it for it in ast.walk(ast.parse(source)) if isinstance(it, ast.Call)]
    names = [
        ast.unparse(argument).split(".")
        for call in calls
        if ast.unparse(call.func) == "pytest.mark.hears"
        for argument in call.args
    ]
    return {CODES[kind][name] for kind, name in names}


def test_every_code_is_heard_in_a_test() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    heard = set[ProblemCode | CloseCode]().union(*map(promised, sources))
    assert {*ProblemCode, *CloseCode} - heard == UNHEARD


def test_a_promise_is_found_on_a_test_and_on_one_of_its_cases() -> None:
    source = "@pytest.mark.hears(ProblemCode.IDLE, CloseCode.IDLE)\ndef test_it(): ..."
    assert promised(source) == {ProblemCode.IDLE, CloseCode.IDLE}
    assert promised("pytest.param(1, marks=pytest.mark.hears(CloseCode.IDLE))") == {CloseCode.IDLE}
