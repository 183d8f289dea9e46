"""Traces: a span of OpenTelemetry for each message, from `message_start` to `message_stop` (SPEC §9.2).

The span is a child of the one the producer names in `traceparent` (W3C Trace Context), so that what a reader waited
for stands beside what the model did. It has counts and names, never text. Needs the extra `deltawire[otel]`; where the
spans go is said by the `OTEL_…` variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import UNSET
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from deltawire.gateway.logs import get_logger
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codec import JSON
from deltawire.protocol.events import Digest, Event, EventType, MessageStart, MessageStop, Usage
from deltawire.protocol.framing import payload_start

MAX_OPEN: Final = 10_000
"""Messages followed at a time; the one begun first is given up, as its stream may be forgotten long since."""

USAGE_WITHIN: Final = 256
"""Events before a `message_stop` that are looked through for the last `usage`: providers send it at the end."""

FAILURES: Final = frozenset({"error", "incomplete", "producer_lost"})
"""Values of `stop_reason` that say that the answer is not whole."""

log = get_logger()


class MessageTracer:
    """Follows the messages of all streams of a hub.

    Args:
        tracer: makes the spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()
        self._open: dict[tuple[str, str], tuple[Span, int]] = {}  # (epoch, message id) → (span, its first seq)

    def began(self, stream: Stream, start: MessageStart, seq: int) -> None:
        """A message begins; a `traceparent` that is none is ignored."""
        try:
            self._begin(stream, start, seq)
        except Exception:  # a trace is not worth an event
            log.exception("trace.failed", stream=stream.id)

    def ended(self, stream: Stream, stop: MessageStop, seq: int) -> None:
        """A message ends, whoever ends it."""
        try:
            self._end(stream, stop, seq)
        except Exception:
            log.exception("trace.failed", stream=stream.id)

    def give_up(self) -> None:
        """End what is open: the gateway goes away."""
        while self._open:
            self._give_up_oldest()

    def _begin(self, stream: Stream, start: MessageStart, seq: int) -> None:
        carrier = {} if start.traceparent is UNSET else {"traceparent": start.traceparent}
        span = self._tracer.start_span(
            "message",
            context=self._propagator.extract(carrier),
            kind=SpanKind.CONSUMER,
            attributes=_known(stream, start),
        )
        key = (stream.epoch, start.message_id)
        if key in self._open:  # begun anew without an end
            self._open.pop(key)[0].end()
        self._open[key] = (span, seq)
        if len(self._open) > MAX_OPEN:
            self._give_up_oldest()

    def _end(self, stream: Stream, stop: MessageStop, seq: int) -> None:
        span, first = self._open.pop((stream.epoch, stop.message_id), (None, 0))
        if span is None:
            return
        span.set_attribute("gen_ai.response.finish_reasons", (stop.stop_reason,))
        span.set_attribute("deltawire.first", first)
        span.set_attribute("deltawire.seq", seq)
        span.set_attribute("deltawire.events", seq - first + 1)
        if isinstance(stop.digest, Digest):
            span.set_attribute("deltawire.characters", stop.digest.characters)
        usage = _last_usage(stream, first)
        if usage is not None:
            span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
        if stop.stop_reason in FAILURES:
            span.set_status(Status(StatusCode.ERROR, stop.stop_reason))
        span.end()

    def _give_up_oldest(self) -> None:
        span, _ = self._open.pop(next(iter(self._open)))
        span.set_status(Status(StatusCode.ERROR, "unfinished"))
        span.end()


def _known(stream: Stream, start: MessageStart) -> dict[str, str]:
    known = {"deltawire.stream": stream.id, "gen_ai.response.id": start.message_id}
    if start.model is not UNSET:
        known["gen_ai.request.model"] = start.model
    if start.provider is not UNSET:
        known["gen_ai.provider.name"] = start.provider
    return known


def _last_usage(stream: Stream, first: int) -> Usage | None:
    """The last `usage` of the message that began with a seq and ends with the next event, where it is held."""
    held = stream.log
    after = max(first - 1, held.floor - 1, held.head - USAGE_WITHIN)
    kinds = held.kinds(after, held.head)
    for at in range(len(kinds) - 1, -1, -1):
        if kinds[at].type is EventType.USAGE:
            [frame] = held.frames(after + at, after + at + 1)
            event = JSON.decode_to_consumer(frame[payload_start(frame) :])
            return event.data if isinstance(event, Event) and isinstance(event.data, Usage) else None
    return None


@contextmanager
def tracing() -> Iterator[MessageTracer]:
    """A tracer whose spans go to an OTLP collector over HTTP, as the `OTEL_…` variables say; the last on leaving."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - takes a while
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    resource = Resource.create({SERVICE_NAME: "deltawire"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = MessageTracer(provider.get_tracer("deltawire"))
    try:
        yield tracer
    finally:
        tracer.give_up()
        provider.shutdown()
