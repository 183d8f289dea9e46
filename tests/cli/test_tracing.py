"""A message is a span below that of its producer; without tracing OpenTelemetry is not even imported (SPEC §9.2)."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deltawire.gateway import tracing as tracing_module
from deltawire.gateway.config import Settings
from deltawire.gateway.hub import Hub
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.tracing import MessageTracer
from deltawire.protocol.events import MessageStart, MessageStop, TextDelta, Usage
from tests.support.processes import Start, wait_logged
from tests.support.rawpeer import raw_peer, text
from tests.support.waiting import eventually

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
CANARY = "what the answer says"


class Traced:
    """A hub whose messages become spans that are kept here."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = MessageTracer(provider.get_tracer("test"))
        hub.manager.watcher = self.tracer

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        [span] = self.spans
        return span


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    async with Hub(Settings(lease=0.04)) as hub:
        yield Traced(hub)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_message_is_a_span_with_counts_and_no_text(traced: Traced) -> None:
    stream = traced.hub.create("demo")
    stream.send_nowait(TextDelta("before"))
    stream.send_nowait(MessageStart("m", model="large", provider="anthropic", traceparent=TRACEPARENT))
    stream.send_nowait(Usage(9, 1, 10))
    stream.send_nowait(TextDelta(CANARY))
    stream.send_nowait(Usage(9, 4, 13))
    assert not traced.spans
    stream.send_nowait(MessageStop("m", "end_turn"))
    assert attributes(traced.span) == {
        "deltawire.stream": "demo",
        "deltawire.first": 2,
        "deltawire.seq": 6,
        "deltawire.events": 5,
        "deltawire.characters": len(CANARY),
        "gen_ai.response.id": "m",
        "gen_ai.request.model": "large",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 4,
    }
    assert CANARY not in traced.span.to_json()
    assert traced.span.status.is_unset


async def test_the_span_is_below_the_one_of_the_producer(traced: Traced) -> None:
    stream = traced.hub.create("demo")
    stream.send_nowait(MessageStart("m", traceparent=TRACEPARENT))
    stream.send_nowait(MessageStop("m", "end_turn"))
    parent = traced.span.parent
    assert parent is not None
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (TRACE, PARENT)
    assert traced.span.context.trace_id == parent.trace_id


@pytest.mark.parametrize(
    "traceparent", ["", "00", "no\r\nthing", TRACEPARENT[:-1], "00-" + "0" * 32 + f"-{PARENT}-01", "é" * 10_000, None]
)
async def test_a_traceparent_that_is_none_is_ignored(traced: Traced, traceparent: str | None) -> None:
    stream = traced.hub.create("demo")
    stream.send_nowait(MessageStart("m") if traceparent is None else MessageStart("m", traceparent=traceparent))
    stream.send_nowait(MessageStop("m", "end_turn"))
    assert traced.span.parent is None


async def test_usage_of_the_message_before_is_not_taken_for_its_own(traced: Traced) -> None:
    stream = traced.hub.create("demo")
    for event in (MessageStart("a"), Usage(1, 2, 3), MessageStop("a", "end_turn"), MessageStart("b")):
        stream.send_nowait(event)
    stream.send_nowait(MessageStop("b", "end_turn"))
    assert ["gen_ai.usage.input_tokens" in attributes(span) for span in traced.spans] == [True, False]


async def test_a_message_whose_producer_was_lost_is_an_error(traced: Traced) -> None:
    stream = traced.hub.create("demo")
    channel = traced.hub.dispatcher.channel(stream._stream)
    traced.hub.dispatcher.publish(channel, MessageStart("m"), writer=Writer("p", 0))
    traced.hub.dispatcher.lease(channel, Writer("p", 0))
    await eventually(lambda: traced.spans)
    assert not traced.span.status.is_ok
    assert traced.span.status.description == "producer_lost"


async def test_messages_that_never_end_are_given_up(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_module, "MAX_OPEN", 3)
    for number in range(5):
        traced.hub.create(f"s{number}").send_nowait(MessageStart("same id"))
    assert [attributes(it)["deltawire.stream"] for it in traced.spans] == ["s0", "s1"]
    traced.hub.get("s4").send_nowait(MessageStart("same id"))
    assert len(traced.spans) == 3
    traced.tracer.give_up()
    assert [it.status.description for it in traced.spans[3:]] == ["unfinished"] * 3
    traced.hub.get("s4").send_nowait(MessageStop("same id", "end_turn"))
    assert len(traced.spans) == 6


async def test_a_fault_in_tracing_costs_no_event(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced.tracer, "_tracer", None)
    monkeypatch.setattr(traced.tracer, "_open", None)
    stream = traced.hub.create("demo")
    assert stream.send_nowait(MessageStart("m")) == 1
    assert stream.send_nowait(MessageStop("m", "end_turn")) == 2


async def test_a_gateway_whose_collector_is_away_serves_and_ends_cleanly(start: Start) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    process = await start("serve", "--port", "0", "--otel", env=env)
    started = await wait_logged(process, "gateway.started")
    async with raw_peer(int(started["port"]), "/v1/streams/demo/publish") as writing:
        await writing.read_until("ready")
        await writing.send(text({"type": "message_start", "data": {"message_id": "m", "traceparent": TRACEPARENT}}))
        await writing.send(text({"type": "message_stop", "data": {"message_id": "m", "stop_reason": "end_turn"}}))
        await writing.read_until("ack", seq=2)
    process.send_signal(signal.SIGTERM)
    _, errors = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in errors
