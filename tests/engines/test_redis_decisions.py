"""What the engine on a Redis server decides, without any server."""

from __future__ import annotations

import os
from pathlib import Path

import hiredis
import pytest

from deltawire.gateway.engines.engine import Done, EngineError
from deltawire.gateway.engines.redis.address import parse_address
from deltawire.gateway.engines.redis.health import Health
from deltawire.gateway.engines.redis.identity import Identity, is_certainly_gone, own_identity
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.stored import Owned, new_fields, parse_claim, parse_lineage, parse_page
from deltawire.gateway.engines.redis.work import Verdict, Work, answers, judge, seen_term
from deltawire.gateway.streams.cursor import Fork, LogState, Plan, plan_subscription
from deltawire.gateway.streams.pages import Wanted
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.messages import Gap
from deltawire.protocol.position import Position
from tests.engines.storing import commit, frames_of

KEYS = Keys("d")
NAMES = KEYS.of_stream("s")


def owned(head: int = 10, prior: bytes = b"6") -> Owned:
    return Owned(NAMES, b"7", prior, head, {})


@pytest.mark.parametrize(
    ("reply", "verdict", "head"),
    [
        (20, Verdict.IN, 20),
        (b"HEAD 20", Verdict.IN, 20),
        (b"HEAD 15", Verdict.AGAIN, 15),
        (b"HEAD 9", Verdict.REPAIR, 10),
        (b"HEAD 21", Verdict.LOST, 10),
        (b"MISSING", Verdict.REPAIR, 10),
        (b"FENCED 6 other", Verdict.REPAIR, 10),
        (b"FENCED 8 other", Verdict.LOST, 10),
        (b"FENCED  ", Verdict.LOST, 10),
        (hiredis.ReplyError("WRONGTYPE …"), Verdict.LOST, 10),
    ],
)
def test_a_reply_to_an_append_up_to_20(reply: int | bytes | Exception, verdict: Verdict, head: int) -> None:
    it = owned()
    assert judge(reply, it, 20) is verdict
    assert it.head == head


def test_a_new_stream_has_no_prior_term_that_another_could_show() -> None:
    assert judge(b"FENCED 6 other", owned(prior=b""), 20) is Verdict.LOST


def test_a_reply_names_the_term_that_the_server_shows() -> None:
    assert [seen_term(it) for it in (b"FENCED 6 other", b"MISSING", 3)] == [b"6", b"", b""]


def test_what_the_server_has_already_is_not_sent_again() -> None:
    work = Work("s", "e")
    work.add(commit(11, "a", "b"), (1, lambda _: None, 0), 0.0)
    work.add(commit(13, "c"), (2, lambda _: None, 1), 0.0)
    first, second, third = frames_of(11, "a", "b", "c")
    for head, missing in ((10, first + second + third), (12, third), (13, b"")):
        [command] = work.commands(KEYS, "node", owned(head), 0.0)
        assert command[3:] == (*NAMES, b"7", head, 13, 0, missing)


def test_commits_of_one_stream_are_told_in_order_whatever_others_wait_for() -> None:
    told: list[tuple[str, list[int]]] = []

    def done(name: str) -> Done:
        return lambda indexes: told.append((name, list(indexes)))

    one, other = done("one"), done("other")
    new, old = Work("new", "e"), Work("old", "e")
    old.add(commit(1, "a"), (1, one, 0), 0.0)
    new.add(commit(1, "a"), (2, other, 0), 0.0)
    old.add(commit(2, "b"), (2, other, 1), 0.0)
    for call, indexes in answers([new, old]):
        call(indexes)
    assert told == [("one", [0]), ("other", [0, 1])]


@pytest.mark.parametrize(
    ("epoch", "seq", "plan"),
    [
        ("E1", 90, Plan(90, 90, None, recovered=True)),
        ("E1", 95, Plan(95, 95, None, recovered=True)),
        ("E1", 100, Plan(95, 95, Gap(first=96, seq=100, reason="epoch_changed"), recovered=False)),
        ("E0", 30, Plan(30, 30, None, recovered=True)),
        ("E0", 41, Plan(40, 40, Gap(first=41, seq=41, reason="epoch_changed"), recovered=False)),
        ("E2", 96, Plan(96, 96, None, recovered=True)),
        ("other", 50, Plan(0, 0, Gap(first=1, seq=0, reason="epoch_changed"), recovered=False)),
    ],
)
def test_where_a_reader_of_an_earlier_epoch_goes_on(epoch: str, seq: int, plan: Plan) -> None:
    log = LogState("E2", 97, lambda after: after, parse_lineage("E1:95 E0:40"))
    assert plan_subscription(SubscribeRequest(position=Position(epoch, seq)), log) == plan


def test_a_later_epoch_that_lost_more_than_its_predecessor_bounds_both() -> None:
    log = LogState("E2", 50, lambda after: after, [Fork("E1", 40), Fork("E0", 60)])
    plan = plan_subscription(SubscribeRequest(position=Position("E0", 55)), log)
    assert plan.gap == Gap(first=41, seq=55, reason="epoch_changed")


def test_a_claim_is_parsed_with_its_history_and_its_producers_oldest_first() -> None:
    fields: dict[bytes, bytes] = {
        name.encode(): value if isinstance(value, bytes) else value.encode()
        for name, value in new_fields(StreamSettings(buffer=7), 5.0).items()
    }
    fields |= {b"term": b"9", b"epoch": b"e", b"head": b"8", b"floor": b"4", b"lineage": b"a:b:3"}
    fields |= {b"p:young": b"1:2:8", b"p:old": b"0:1:5"}
    pairs = [part for field in fields.items() for part in field]
    it, stream = parse_claim("s", NAMES, pairs, [[5, 3, 300, 6000], [8, 3, 300, 7000]], b"6")
    assert (it.term, it.prior, it.head) == (b"9", b"6", 8)
    assert (stream.settings.buffer, stream.lineage) == (7, [Fork("a:b", 3)])
    assert (stream.state.history.floor, stream.state.history.last) == (4, 8)
    assert [producer.id for producer in stream.state.producers] == ["old", "young"]


def test_a_page_is_cut_out_of_its_entries_and_what_is_missing_or_corrupt_is_told() -> None:
    entries = [[3, 3, b"".join(frames_of(1, "a", "b", "c"))], [4, 1, b"".join(frames_of(4, "d"))]]
    assert parse_page(entries, Wanted(2, 3)) == (3, frames_of(2, "b", "c"), "")
    assert parse_page(entries, Wanted(2, 4, size=1)) == (2, frames_of(2, "b"), "")
    assert parse_page(entries[1:], Wanted(2, 9)) == (3, (), "events 2 to 3: missing")
    assert parse_page([], Wanted(2, 9)) == (9, (), "events 2 to 9: missing")
    assert parse_page([[3, 3, b"\x81"]], Wanted(2, 9)) == (3, (), "events 2 to 3: corrupt")
    assert parse_page([[3, 1, frames_of(4, "d")[0]]], Wanted(3, 9)) == (3, (), "events 3 to 3: corrupt")


def test_a_server_fails_when_it_has_not_answered_for_the_timeout_and_at_once_when_it_refuses() -> None:
    health = Health("h:1", 5.0)
    assert health.failure(0.0) is None
    health.asking_since = 10.0
    assert health.failure(14.9) is None
    assert health.failure(15.0) == "h:1 has not answered for 5 s (engine_timeout)"
    health.failed("", 10.0)
    assert health.failure(15.0) == "h:1 has not answered for 5 s (engine_timeout)"
    health.failed("connection refused", 10.0)
    assert health.failure(16.0) == "h:1 could not be used for 6 s (engine_timeout): connection refused"
    health.failed("OOM", 16.0, is_told=True)
    assert health.failure(16.0) == "h:1: OOM"
    health.answered()
    assert health.failure(99.0) is None


def test_a_server_that_has_refused_something_fails_until_everything_was_answered() -> None:
    health = Health("h:1", 5.0)
    health.failed("NOREPLICAS", 10.0, is_told=True)
    health.failed("", 10.1)
    assert health.failure(10.2) == "h:1: NOREPLICAS"
    health.failed("connection refused", 10.2)
    assert health.failure(10.3) == "h:1: connection refused"
    health.answered()
    health.failed("connection refused", 11.0)
    assert health.failure(11.1) is None


def test_a_process_is_gone_for_certain_only_if_it_was_on_this_machine() -> None:
    me = own_identity("", "")
    assert not is_certainly_gone(me)
    assert is_certainly_gone(Identity("", me.place, os.getpid(), me.started + 1))
    assert is_certainly_gone(Identity("", me.place, 2**30, 1))
    assert not is_certainly_gone(Identity("", "elsewhere", 2**30, 1))
    assert not is_certainly_gone(Identity())


def test_a_process_of_another_user_that_can_t_be_seen_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    unseen = Identity("", own_identity("", "").place, 2**30, 1)
    assert is_certainly_gone(unseen)
    monkeypatch.setattr(os, "kill", _refuse)  # as for a process that /proc hides
    assert not is_certainly_gone(unseen)


def _refuse(_pid: int, _signal: int) -> None:
    raise PermissionError


def test_an_address_shows_no_secret() -> None:
    address = parse_address("rediss://us%40er:p%3Aw@[::1]/3")
    assert (address.login, address.database) == (("us@er", "p:w"), 3)
    assert (str(address), address.tls is None) == ("[::1]:6379", False)
    for url in ("redis://user:secret@", "redis://user:secret@host:port", "redis://user:secret@host/x?y=z"):
        with pytest.raises(EngineError) as error:
            parse_address(url)
        assert "secret" not in str(error.value)


def test_an_address_may_name_sentinels_and_a_primary() -> None:
    address = parse_address("redis+sentinel://gate:p%2Fw@one,[::1]:5000/main/3?sentinel_password=s%26w")
    assert (address.hosts, address.primary, address.database) == ((("one", 26379), ("::1", 5000)), "main", 3)
    assert (address.login, address.sentinel_login) == (("gate", "p/w"), ("", "s&w"))
    assert str(address) == "main (sentinels one:26379,[::1]:5000)"
    assert parse_address("rediss+sentinel://one/main").database == 0


@pytest.mark.parametrize(
    "url",
    [
        "redis://one,two/0",
        "redis://one/0/1",
        "redis://one/main",
        "redis+sentinel://one",
        "redis+sentinel://one/",
        "redis+sentinel://one/main/x",
        "redis+sentinel://one,/main",
        "redis+cluster://one/0",
        "unix://one/0",
        "redis://one?ssl_ca_certs=file",
        "redis://one?sentinel_password=secret",
        "redis://one#part",
        "redis://one?option",
        "redis://secret:1234?abc@one:1",
        "redis://secret:1234?abc=d@one:1",
        "redis://secret:1234#abc@one:1",
        "redis+sentinel://user:12/secret@one/main",
        "redis://:secret@[::1",
        "redis://user:[secret@one",
        "redis://user:sec]ret[@one",
    ],
)
def test_an_address_that_is_none_is_told_what_one_is(url: str) -> None:
    with pytest.raises(EngineError, match=r"expected redis://.* a password have to be percent-encoded") as error:
        parse_address(url)
    assert "secret" not in str(error.value)


def test_a_port_that_is_a_part_of_a_password_is_told_without_it() -> None:
    with pytest.raises(EngineError, match=r"port is no number.* a password have to be percent-encoded") as error:
        parse_address("redis://user:secret/abc@one:1")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_a_certificate_that_is_not_there_is_told(option: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"{option}.* can't be used: No such file"):
        parse_address(f"rediss://host?{option}={tmp_path}/none")
