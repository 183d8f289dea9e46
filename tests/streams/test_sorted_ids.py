"""Stream ids in order: what somebody may see of them, a page at a time."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.streams.sorted_ids import SortedIds

ids = st.text("ab.", min_size=1, max_size=4)


def names_of(*names: str) -> SortedIds:
    it = SortedIds()
    for name in names:
        it.add(name)
    return it


@pytest.mark.parametrize(
    ("exact", "prefixes", "after", "expected"),
    [
        ((), (), "", []),
        ((), ("",), "", ["a", "ab", "abc", "b", "ba"]),
        ((), ("",), "ab", ["abc", "b", "ba"]),
        ((), ("",), "aa", ["ab", "abc", "b", "ba"]),
        ((), ("ab", "a", "abc"), "", ["a", "ab", "abc"]),
        ((), ("b", "ab"), "ab", ["abc", "b", "ba"]),
        (("ba", "a", "zz"), (), "", ["a", "ba"]),
        (("ba", "abc"), ("ab",), "", ["ab", "abc", "ba"]),
        (("ba", "a"), (), "a", ["ba"]),
    ],
)
def test_what_matches_comes_in_order_once(
    exact: tuple[str, ...], prefixes: tuple[str, ...], after: str, expected: list[str]
) -> None:
    assert list(names_of("b", "abc", "a", "ba", "ab").matching(exact, prefixes, after)) == expected


@given(st.sets(ids), st.sets(ids), st.sets(ids), st.sets(ids | st.just("")), ids, st.integers(1, 3))
def test_pages_are_what_a_walk_over_all_of_them_finds(  # noqa: PLR0917 - drawn
    there: set[str], gone: set[str], exact: set[str], prefixes: set[str], after: str, limit: int
) -> None:
    names = names_of(*(there | gone))
    for name in gone:
        names.remove(name)
    found: list[str] = []
    while page := list(islice(names.matching(exact, prefixes, found[-1] if found else after), limit)):
        found += page
    wanted = {name for name in there - gone if name in exact or name.startswith(tuple(prefixes))}
    assert found == sorted(name for name in wanted if name > after)
