"""The rate of what consumers say: on literal times, then over a socket."""

from __future__ import annotations

from gateway.server.rate import TokenBucket
from tests.server.conftest import StartGateway
from tests.server.peers import consumer, producer


def test_a_burst_is_taken_then_one_for_each_token_that_came() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.4), bucket.take(100.5), bucket.take(100.6)] == [False, True, False]


def test_a_long_rest_brings_no_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0, now=0.0)
    assert [bucket.take(1_000.0) for _ in range(4)] == [True, True, True, False]


async def test_a_consumer_that_says_too_much_is_told_so_and_its_producers_are_spared(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(signal_rate=1.0)
    async with producer(gateway) as writing, consumer(gateway) as reading:
        await reading.read_until("caught_up")
        await reading.say(*[{"type": "signal", "name": "cancel"}] * 5)
        answers = await reading.read_all()
        assert [answer["type"] for answer in answers] == ["signal_result", "signal_result", "problem"]
        assert answers[-1]["code"] == "rate_limited"
        assert "signal_rate" in answers[-1]["message"]
        assert reading.code == 4002
        async with consumer(gateway) as other:
            await other.read_until("caught_up")
            await other.say({"type": "signal", "name": "last"})
            heard = [it["name"] for it in await writing.read_until("signal", name="last") if it["type"] == "signal"]
            assert heard == ["cancel", "cancel", "last"]
