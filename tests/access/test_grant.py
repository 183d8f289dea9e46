"""What a grant allows, against a matcher written from the specification alone (SPEC §11.2)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deltawire.gateway.access.grant import EVERYTHING, Action, Grant, Streams, parse_streams
from deltawire.gateway.server.http.target import parse_target
from deltawire.protocol.addresses import check_stream_id
from deltawire.protocol.messages import Policy

IDS = st.text("ab.:@_-", min_size=1, max_size=6)
ENTRIES = st.lists(st.one_of(IDS, IDS.map(lambda text: f"{text}*"), st.just("*")), max_size=4)
SEGMENTS = st.one_of(
    IDS,
    st.sampled_from(
        ["..", ".", "a%2Fb", "a%2fb", "%61b", "%2561", "ａb", "a\u0301", "A", "a*", "*", "%2A", "a b", "a+b"]
    ),
)


def reference(entries: list[str], stream_id: str) -> bool:
    """SPEC §11.2 word by word: an entry is an id, or the beginning of ids with `*` after."""
    for entry in entries:
        if entry[-1] == "*":
            if stream_id[: len(entry) - 1] == entry[:-1]:
                return True
        elif entry == stream_id:
            return True
    return False


@given(ENTRIES, SEGMENTS)
@example(["team-a*"], "team-a%2F..%2Fteam-b")
@example(["a"], "%61")
@example(["a*"], "ａ")
@example([], "a")
def test_a_path_is_decoded_once_and_matched_as_the_specification_says(entries: list[str], segment: str) -> None:
    stream_id = parse_target(f"/v1/streams/{segment}/subscribe").stream_id
    assert (stream_id in parse_streams(entries)) is reference(entries, stream_id)


@given(ENTRIES, st.text(min_size=1, max_size=6))
def test_what_is_no_stream_id_reaches_no_stream_whatever_matches(entries: list[str], text: str) -> None:
    try:
        check_stream_id(text)
    except ValueError:
        return  # refused before any look-up, also where `*` matches
    assert (text in parse_streams(entries)) is reference(entries, text)


@pytest.mark.parametrize("entry", ["", "**", "a*b", "*a", "a/b", "a b", "é", "a\n", "a%2Fb", "x" * 129, "a,b"])
def test_an_entry_that_names_no_stream_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="expected stream ids"):
        parse_streams([entry])


@pytest.mark.parametrize("action", Action)
def test_each_action_has_a_list_of_its_own(action: Action) -> None:
    grant = msgspec.convert({action.value: Streams(exact=frozenset({"demo"}))}, Grant)
    assert [other for other in Action if grant.may(other, "demo")] == [action]
    assert not any(grant.may(other, "demo2") for other in Action)
    assert EVERYTHING.may(action, "anything")


def test_policies_that_are_not_named_can_not_be_chosen() -> None:
    grant = Grant(policies=frozenset({Policy.COALESCE}))
    assert grant.may_choose(None)
    assert grant.may_choose(Policy.COALESCE)
    assert not grant.may_choose(Policy.BLOCK)
    assert all(Grant().may_choose(policy) for policy in Policy)


def test_a_stream_is_seen_by_its_readers_and_administrators() -> None:
    assert Grant(subscribe=parse_streams(["demo"])).may_see("demo")
    assert Grant(admin=parse_streams(["d*"])).may_see("demo")
    assert not Grant(publish=parse_streams(["*"]), signal=parse_streams(["*"])).may_see("demo")


@pytest.mark.parametrize(("entries", "is_operator"), [(["*"], True), (["a*", "*"], True), (["a*"], False), ([], False)])
def test_only_who_administers_all_is_an_operator(entries: list[str], is_operator: bool) -> None:  # noqa: FBT001 - a case
    assert Grant(admin=parse_streams(entries)).may_administer_all is is_operator
