"""Slow consumers: the table of decisions."""

from __future__ import annotations

import pytest

from deltawire.gateway.streams.policy import SEND, Decision, Lag, PolicyAction, decide
from deltawire.protocol.messages import Policy

FITS = 10**9


def lag(  # a consumer with a buffer of 10 that took everything up to 100
    head: int,
    *,
    judged: int = 100,
    waiting: int = 0,
    fits_newest: int = 0,
    fits_oldest: int = FITS,
) -> Lag:
    return Lag(
        cursor=100,
        head=head,
        judged=judged,
        waiting=waiting,
        buffer=10,
        fits_newest=fits_newest,
        fits_oldest=fits_oldest,
    )


def skip(first: int, last: int) -> Decision:
    return Decision(PolicyAction.SKIP, first, last)


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("head", [100, 101, 110])
def test_within_the_limits_every_policy_sends(policy: Policy, head: int) -> None:
    assert decide(policy, lag(head)) == SEND


@pytest.mark.parametrize(
    ("policy", "decision"),
    [
        (Policy.COALESCE, Decision(PolicyAction.FOLD)),
        (Policy.BLOCK, SEND),
        (Policy.DISCONNECT, Decision(PolicyAction.DISCONNECT)),
        (Policy.DROP_NEWEST, skip(111, 111)),
        (Policy.DROP_OLDEST, skip(101, 101)),
    ],
)
def test_one_event_over_the_limit_makes_the_policy_act(policy: Policy, decision: Decision) -> None:
    assert decide(policy, lag(111)) == decision


@pytest.mark.parametrize(
    ("policy", "decision"),
    [
        (Policy.COALESCE, Decision(PolicyAction.FOLD)),
        (Policy.BLOCK, SEND),
        (Policy.DISCONNECT, Decision(PolicyAction.DISCONNECT)),
        (Policy.DROP_NEWEST, skip(104, 105)),
        (Policy.DROP_OLDEST, skip(101, 102)),
    ],
)
def test_over_the_byte_limit_the_policy_acts_though_the_events_are_few(policy: Policy, decision: Decision) -> None:
    assert decide(policy, lag(105, fits_oldest=103, fits_newest=103)) == decision


@pytest.mark.parametrize(
    ("case", "decision"),
    [
        (lag(150), skip(111, 150)),  # a buffer full is kept
        (lag(150, judged=110, waiting=10), skip(111, 150)),  # it was full before
        (lag(150, judged=140, waiting=4), skip(147, 150)),  # six of the new ones fit
        (lag(150, judged=140, waiting=10), skip(141, 150)),  # none of them fits
        (lag(150, judged=140, waiting=25), skip(141, 150)),  # more waited from the replay: none is taken back
        (lag(150, judged=145, waiting=5), SEND),  # all of them fit
        (lag(150, fits_oldest=104), skip(105, 150)),  # the bytes fill the buffer first
        (lag(150, judged=140, waiting=4, fits_oldest=142), skip(143, 150)),
        (lag(150, judged=140, waiting=4, fits_oldest=120), skip(141, 150)),  # the bytes are spent on what waits
    ],
)
def test_drop_newest_skips_what_came_while_the_buffer_was_full(case: Lag, decision: Decision) -> None:
    assert decide(Policy.DROP_NEWEST, case) == decision


@pytest.mark.parametrize(
    ("case", "decision"),
    [
        (lag(150), skip(101, 140)),
        (lag(150, judged=140, waiting=4), skip(101, 140)),  # what was judged before does not matter
        (lag(150, fits_newest=146), skip(101, 145)),  # the bytes fill the buffer first
        (lag(150, fits_newest=120), skip(101, 140)),
        (lag(105, fits_newest=105, fits_oldest=101), skip(101, 104)),
    ],
)
def test_drop_oldest_skips_the_oldest_it_did_not_get(case: Lag, decision: Decision) -> None:
    assert decide(Policy.DROP_OLDEST, case) == decision


def test_drop_oldest_with_nothing_to_skip_sends() -> None:
    assert decide(Policy.DROP_OLDEST, lag(105, fits_newest=0, fits_oldest=101)) == SEND
