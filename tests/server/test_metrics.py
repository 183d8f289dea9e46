"""Each metric moves when its fact happens, and none of them grows with what peers say (SPEC §9.1)."""

from __future__ import annotations

import re
import time

import pytest
from websockets.exceptions import InvalidStatus

from deltawire.gateway.metrics.catalogue import METRICS
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import TextDelta
from tests.server.conftest import StartGateway
from tests.server.scraping import Scraper, scrape, series
from tests.server.stalling import say, stalled
from tests.support.peers import consumer, peer, producer, publish, text_delta
from tests.support.rawpeer import CLOSE, RawPeer, frame, raw_peer
from tests.support.waiting import eventually, turn

PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_max_fds"}
MESSAGE = (
    {"type": "message_start", "data": {"message_id": "m"}},
    text_delta("a"),
    text_delta("b"),
    {"type": "message_stop", "data": {"message_id": "m", "stop_reason": "end_turn"}},
)


@pytest.fixture
async def scraper(gateway: Gateway) -> Scraper:
    scraper = Scraper(gateway)
    await scraper.look()
    return scraper


async def test_what_is_exposed_is_the_catalogue_and_the_process(gateway: Gateway) -> None:
    found = {family.name for family in await scrape(gateway)}
    named = {metric.name.removesuffix("_total") for metric in METRICS}
    assert {name for name in found if name.startswith("deltawire_")} == named
    assert {name.removesuffix("_total") for name in PROCESS} <= found - named


async def test_kinds_labels_and_help_are_those_of_the_catalogue(gateway: Gateway) -> None:
    async with consumer(gateway) as reading:
        await reading.read_until("caught_up")
    with pytest.raises(InvalidStatus):
        async with peer(gateway, "demo/subscribe", subprotocol="foreign"):
            pass
    await eventually(lambda: gateway.hub.tally.closes)
    families = {family.name: family for family in await scrape(gateway)}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert {frozenset(sample.labels) - {"le"} for sample in family.samples} == {frozenset(metric.labels)}, metric


@pytest.mark.parametrize(("name", "kind"), [metric[:2] for metric in METRICS])
def test_names_follow_the_conventions(name: str, kind: str) -> None:
    assert re.fullmatch(r"deltawire(_[a-z]+)+", name)
    assert name.endswith("_total") is (kind == "counter")
    assert kind != "histogram" or name.endswith(("_seconds", "_events"))
    assert not re.search(r"_(ms|millis|kb|mb|count|sum|bucket)(_|$)", name)


async def test_peers_are_counted_by_role_while_they_are_there(gateway: Gateway, scraper: Scraper) -> None:
    async with consumer(gateway) as reading, producer(gateway):
        await reading.read_until("caught_up")
        assert await scraper.value("deltawire_connections", role="consumer") == 1
        assert await scraper.value("deltawire_connections", role="producer") == 1
        assert await scraper.value("deltawire_connections", role="handshake") == 1, "the scrape itself"
        assert await scraper.value("deltawire_consumers", state="live") == 1
    await eventually(lambda: not gateway._connections)
    assert await scraper.value("deltawire_connections", role="consumer") == 0
    assert await scraper.moved("deltawire_connections_opened_total", role="consumer") == 1
    assert await scraper.moved("deltawire_connections_opened_total", role="producer") == 1


async def test_streams_are_counted_open_and_closed(gateway: Gateway, scraper: Scraper) -> None:
    gateway.hub.create("one").close()
    gateway.hub.create("two")
    assert await scraper.moved("deltawire_streams", state="open") == 1
    assert await scraper.moved("deltawire_streams", state="closed") == 1
    assert await scraper.moved("deltawire_memory_bytes", kind="streams") > 0
    assert await scraper.value("deltawire_memory_limit_bytes") == gateway.settings.memory_limit


async def test_events_acks_deliveries_and_bytes_are_counted(gateway: Gateway, scraper: Scraper) -> None:
    async with consumer(gateway, "from=now") as one, consumer(gateway, "types=message_stop") as two:
        await one.read_until("caught_up")
        await two.read_until("caught_up")
        async with producer(gateway) as writing:
            await publish(writing, *MESSAGE, upto=4)
            read = await one.read_until("message_stop")
            await two.read_until("message_stop")
    await turn()
    assert await scraper.moved("deltawire_events_total") == 4
    assert await scraper.moved("deltawire_deliveries_total") == 4 + 1
    assert await scraper.moved("deltawire_delivered_bytes_total") > sum(len(message["type"]) for message in read)
    assert await scraper.moved("deltawire_received_bytes_total") > 100
    assert 1 <= await scraper.moved("deltawire_acks_total") <= 4
    assert await scraper.moved("deltawire_memory_bytes", kind="events") > 0


async def test_a_replay_is_counted_as_folded(gateway: Gateway, scraper: Scraper) -> None:
    say(gateway.hub.create("demo"), 10)
    async with consumer(gateway) as late:
        await late.read_until("caught_up")
    assert await scraper.moved("deltawire_events_total") == 10
    assert await scraper.moved("deltawire_deliveries_total") == 10
    assert await scraper.moved("deltawire_folded_total") == 10


async def test_the_delays_of_a_message_are_measured(gateway: Gateway, scraper: Scraper) -> None:
    async with consumer(gateway) as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        for seq, event in enumerate(MESSAGE, 1):
            await publish(writing, event, upto=seq)
    assert await scraper.moved("deltawire_write_delay_seconds_count") == 4
    assert await scraper.moved("deltawire_write_delay_seconds_sum") > 0
    assert await scraper.moved("deltawire_first_token_seconds_count") == 1
    assert await scraper.moved("deltawire_first_token_seconds_sum") > 0
    assert await scraper.moved("deltawire_inter_token_seconds_count") == 1
    assert await scraper.moved("deltawire_inter_token_seconds_bucket", le="+Inf") == 1


async def test_delays_without_a_reader_are_not_measured(gateway: Gateway, scraper: Scraper) -> None:
    async with producer(gateway) as writing:
        await publish(writing, *MESSAGE, upto=4)
    assert await scraper.moved("deltawire_events_total") == 4
    for name in ("write_delay", "first_token", "inter_token"):
        assert await scraper.moved(f"deltawire_{name}_seconds_count") == 0


async def test_between_messages_there_is_no_delay_between_tokens(gateway: Gateway, scraper: Scraper) -> None:
    async with consumer(gateway) as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        await publish(writing, *MESSAGE, upto=4)
        await publish(writing, text_delta("alone"), upto=5)
        await publish(writing, *MESSAGE, upto=9)
    assert await scraper.moved("deltawire_first_token_seconds_count") == 2
    assert await scraper.moved("deltawire_inter_token_seconds_count") == 2


async def test_a_loop_that_was_held_up_shows(start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = await start_gateway(send_timeout=0.04)
    scraper = Scraper(gateway)
    await scraper.look()
    monkeypatch.setattr(
        "deltawire.gateway.hub.deadlines.monotonic", lambda: time.monotonic() + 0.3
    )  # in which nothing ran
    await eventually(lambda: gateway.hub.tally.loop_lag.sum >= 0.2)
    assert await scraper.moved("deltawire_loop_lag_seconds_sum") >= 0.2
    low = await scraper.moved("deltawire_loop_lag_seconds_bucket", le="0.1")
    assert await scraper.moved("deltawire_loop_lag_seconds_bucket", le="+Inf") > low


async def test_problems_and_closes_are_counted_by_code(gateway: Gateway, scraper: Scraper) -> None:
    async with consumer(gateway, "buffer=0") as refused:
        await refused.read_all()
    async with producer(gateway) as writing:
        await writing.say("not an event")
        assert (await writing.read_until("problem"))[-1]["code"] == "invalid_event"
    await eventually(lambda: not gateway._connections)
    assert await scraper.moved("deltawire_problems_total", code="bad_request") == 1
    assert await scraper.moved("deltawire_problems_total", code="invalid_event") == 1
    assert await scraper.moved("deltawire_closes_total", code="4502", by="gateway") == 1
    assert await scraper.moved("deltawire_closes_total", code="1000", by="peer") == 1


async def test_a_peer_that_vanishes_or_closes_without_a_code_is_counted(gateway: Gateway, scraper: Scraper) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as vanishing:
        await vanishing.read_until("caught_up")
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as leaving:
        await leaving.read_until("caught_up")
        await leaving.send(frame(CLOSE))
        await leaving.read_ending()
    await eventually(lambda: not gateway._connections)
    assert await scraper.moved("deltawire_closes_total", code="1006", by="peer") == 1
    assert await scraper.moved("deltawire_closes_total", code="1005", by="peer") == 1


async def test_refused_handshakes_are_counted_by_status(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus):
        async with peer(gateway, "demo/subscribe", subprotocol="foreign"):
            pass
    for request in (
        b"GET /v1/streams/demo/subscribe HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"GET /v1/streams/demo/subscribe HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n\r\n",
        b"GET /" + b"x" * 100_000,
        b"GET /nowhere HTTP/1.1\r\nHost: gateway\r\n\r\n",
    ):
        it = await RawPeer.connect(gateway.port)
        await it.send(request)
        await it.read_rest()
        it.close()
    refused = {labels: value for (name, labels), value in (await series(gateway)).items() if "_refused_" in name}
    assert {dict(labels)["status"]: value for labels, value in refused.items()} == {"400": 1, "426": 2, "414": 1}


async def test_signals_are_counted(gateway: Gateway, scraper: Scraper) -> None:
    async with consumer(gateway) as reading, producer(gateway):
        await reading.say({"type": "signal", "name": "cancel"})
        await reading.read_until("signal_result")
    assert await scraper.moved("deltawire_signals_total") == 1


async def test_lag_drops_and_gaps_show(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    scraper = Scraper(gateway)
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=drop_oldest&buffer=10") as slow:
        await scraper.look()
        head = say(stream, 100)
        assert await scraper.value("deltawire_consumers", state="stalled") == 1
        assert await scraper.value("deltawire_consumer_lag_events_max") == head - slow.cursor
        assert await scraper.value("deltawire_memory_bytes", kind="write_buffers") > 0
        await slow.raw.read_until("text_delta", seq=head)
        await eventually(lambda: gateway.hub.manager.ledger.dropped)
    assert await scraper.moved("deltawire_gaps_total", reason="dropped") == 1
    assert await scraper.moved("deltawire_dropped_total") == head - 10 - slow.cursor
    assert await scraper.moved("deltawire_deliveries_total") == 10


async def test_gaps_are_counted_by_reason(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(retention_events=5)
    scraper = Scraper(gateway)
    await scraper.look()
    say(gateway.hub.create("demo"), 10)
    for query in ("policy=block", "after=3&epoch=other"):
        async with consumer(gateway, query) as reading:
            await reading.read_until("caught_up")
    assert await scraper.moved("deltawire_gaps_total", reason="evicted") == 1
    assert await scraper.moved("deltawire_gaps_total", reason="epoch_changed") == 1


async def test_faults_are_counted(gateway: Gateway, scraper: Scraper, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken on purpose")

    async with producer(gateway) as writing:
        assert writing.connection.subprotocol is None
        for it in gateway._connections:
            monkeypatch.setattr(type(it.peer), "receive", fail)
        await writing.say(text_delta("a"))
        await writing.read_all()
    assert await scraper.moved("deltawire_faults_total") == 1
    assert await scraper.moved("deltawire_problems_total", code="gateway_fault") == 1
    assert await scraper.moved("deltawire_closes_total", code="1011", by="gateway") == 1


async def test_the_build_is_named(gateway: Gateway) -> None:
    [(labels, value)] = [
        (labels, value) for (name, labels), value in (await series(gateway)).items() if "_info" in name
    ]
    assert (value, dict(labels)["loop"]) == (1, "uvloop")
    assert {name for name, _ in labels} == {"version", "python", "websockets", "loop"}


async def test_the_number_of_series_does_not_depend_on_what_peers_say(gateway: Gateway) -> None:
    """The memory of a Prometheus server is its series: an id, a code or a name a peer chose must not make one."""
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as it:
        await it.send(frame(CLOSE, (4999).to_bytes(2)))
        await it.read_ending()
    await eventually(lambda: not gateway._connections)
    before = set(await series(gateway))
    for number in range(10_000):
        gateway.hub.create(f"s{number}@{number}.-:_").send_nowait(TextDelta("x"))
    for code in range(3000, 3020):
        async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as it:
            await it.send(frame(CLOSE, code.to_bytes(2) + b'"} 1\n\x1b'))
            await it.read_ending()
    for path in ("%22%7D%0A/subscribe", "demo%22%7D%0A/publish", "demo/subscribe?types=%22%7D%0A"):
        async with peer(gateway, path) as hostile:
            await hostile.read_all()
    async with producer(gateway, "producer=p1:2@3.-_") as writing:
        await publish(writing, *MESSAGE, upto=4)
    await eventually(lambda: not gateway._connections)
    expected = {("deltawire_closes_total", frozenset({("code", "4502"), ("by", "gateway")}))}
    expected.add(("deltawire_closes_total", frozenset({("code", "1000"), ("by", "peer")})))
    assert set(await series(gateway)) - before == expected
    assert await Scraper(gateway).value("deltawire_closes_total", code="other", by="peer") == 21
