"""Every fact that is logged has a name of one form, and stands in the table of `deltawire.gateway.logs`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltawire.gateway import logs

ROOT = Path(__file__).parent.parent
METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
LEVELS = {"exception": "error"}
IRREGULAR = {"lost"}
"""Past participles that do not end in `ed`."""


def facts(source: str) -> Iterator[tuple[str | None, str]]:
    """The name and level of every fact logged in a source; None for a name that is not written out."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in METHODS:
            continue
        logger = ast.unparse(node.func.value)
        if not re.search(r"(^|[._])log(ger)?$", logger):
            continue
        first = node.args[0] if node.args else None
        name = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
        yield name, LEVELS.get(node.func.attr, node.func.attr)


@pytest.fixture(scope="module")
def logged() -> set[tuple[str, str]]:
    """The names and levels of all facts that the gateway's code logs."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "gateway").rglob("*.py"))
    return {(str(name), level) for source in sources for name, level in facts(source)}


TABLE = re.findall(r"^\| `([a-z_.]+)` \| (\w+) \|", logs.__doc__ or "", re.MULTILINE)


def is_fact(name: str | None) -> bool:
    """Whether a name is a dotted fact in the past tense."""
    if name is None or not re.fullmatch(r"[a-z]+\.[a-z]+(_[a-z]+)*", name):
        return False
    return any(word.endswith("ed") or word in IRREGULAR for word in name.partition(".")[2].split("_"))


def test_facts_are_found(logged: set[tuple[str, str]]) -> None:
    assert {("gateway.started", "info"), ("connection.failed", "error")} <= logged


def test_a_fact_is_a_dotted_name_in_the_past_tense(logged: set[tuple[str, str]]) -> None:
    assert [name for name, _ in sorted(logged) if not is_fact(name)] == []


def test_the_table_of_facts_is_that_of_the_code(logged: set[tuple[str, str]]) -> None:
    assert sorted(TABLE) == sorted(logged)


@pytest.mark.parametrize(
    "source", ['log.info("Starting up")', "log.info(f'{role}.ended')", 'self.log.error("x.fails")']
)
def test_what_is_no_fact_is_found(source: str) -> None:
    [(name, _)] = facts(source)
    assert not is_fact(name)
