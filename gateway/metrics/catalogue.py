"""Every metric: its name, kind, labels and meaning.

Names follow Prometheus' conventions: the prefix of the program, base units (seconds, bytes), `_total` for what only
grows. SPEC §9.1 has the same table.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One metric.

    Attributes:
        name: as in queries, but for the suffixes of a histogram.
        kind: of Prometheus.
        help: what it counts or measures.
        labels: names of its labels; each has a fixed set of values.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


METRICS = (
    # Peers
    Metric("deltawire_connections", "gauge", "Connections open now", ("role",)),
    Metric("deltawire_connections_opened_total", "counter", "Connections opened", ("role",)),
    Metric("deltawire_consumers", "gauge", "Consumers now, by how far they are", ("state",)),
    Metric("deltawire_consumer_lag_events_max", "gauge", "Events the consumer furthest behind the head is behind"),
    Metric(
        "deltawire_handshakes_refused_total", "counter", "Connections to streams refused, by HTTP status", ("status",)
    ),
    Metric("deltawire_closes_total", "counter", "Connections ended, by close code and by who closed", ("code", "by")),
    Metric("deltawire_problems_total", "counter", "Problem messages sent", ("code",)),
    Metric("deltawire_faults_total", "counter", "Faults of the gateway itself, each in the log with its traceback"),
    # Streams of other gateways
    Metric("deltawire_relayed_bytes_total", "counter", "Bytes relayed between clients and other gateways", ("to",)),
    Metric("deltawire_relay_failures_total", "counter", "Connections that could not be relayed, as a gateway was away"),
    Metric("deltawire_mirrors", "gauge", "Streams of other gateways that are followed for consumers here"),
    # Streams
    Metric("deltawire_streams", "gauge", "Streams held now", ("state",)),
    Metric("deltawire_events_total", "counter", "Events appended"),
    Metric("deltawire_received_bytes_total", "counter", "Bytes received from peers, framing included"),
    Metric("deltawire_acks_total", "counter", "Ack messages sent; one may cover many events"),
    Metric("deltawire_signals_total", "counter", "Signals passed on to producers"),
    Metric("deltawire_middleware_dropped_total", "counter", "Events of producers of which middleware left nothing"),
    Metric("deltawire_middleware_failures_total", "counter", "Events on which a stage of middleware failed"),
    # Deliveries
    Metric("deltawire_deliveries_total", "counter", "Events handed to consumers, once for each; folded ones included"),
    Metric("deltawire_delivered_bytes_total", "counter", "Bytes of events handed to consumers, framing included"),
    Metric("deltawire_folded_total", "counter", "Deliveries that travelled inside a folded frame"),
    Metric("deltawire_dropped_total", "counter", "Events a policy skipped for a consumer, once for each"),
    Metric("deltawire_urgent_total", "counter", "Copies of urgent events sent ahead to consumers that are behind"),
    Metric("deltawire_gaps_total", "counter", "Gap messages sent", ("reason",)),
    # Delays
    Metric(
        "deltawire_write_delay_seconds",
        "histogram",
        "From taking an event to writing it to the last consumer that keeps up; at most one loop turn too "
        "much; of one stream in eight where there are over 64",
    ),
    Metric("deltawire_first_token_seconds", "histogram", "From message_start to the write of the first delta after it"),
    Metric(
        "deltawire_inter_token_seconds",
        "histogram",
        "Between writes of successive events inside a message; as the write delay, of one stream in eight where there "
        "are many",
    ),
    Metric(
        "deltawire_loop_lag_seconds", "histogram", "How late the event loop runs what is due; several times a second"
    ),
    # Storage
    Metric("deltawire_commits_total", "counter", "Transactions of the store"),
    Metric("deltawire_commit_failures_total", "counter", "Transactions that failed; each is tried again"),
    Metric("deltawire_commit_events", "histogram", "Events in a transaction of the store"),
    Metric("deltawire_commit_seconds", "histogram", "From the end of the turn in which events came to their commit"),
    Metric("deltawire_committed_bytes_total", "counter", "Bytes of events committed, framing included"),
    Metric("deltawire_stored_bytes", "gauge", "Bytes of the files of the store"),
    Metric("deltawire_storage_failing", "gauge", "1 while nothing can be stored, otherwise 0"),
    # The process
    Metric("deltawire_memory_bytes", "gauge", "Memory by what it is for", ("kind",)),
    Metric("deltawire_memory_limit_bytes", "gauge", "Setting memory_limit, under which the kind streams is held"),
    Metric("deltawire_worker_restarts_total", "counter", "Processes that died and were replaced by this one"),
    Metric("deltawire_build_info", "gauge", "1; what runs", ("version", "python", "websockets", "loop")),
)
