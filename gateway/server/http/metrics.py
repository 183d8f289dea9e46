"""The response of `/metrics`: the counts of a gateway in Prometheus' text format (SPEC §9.1).

Nothing is kept here. Each request reads and formats the counts, which takes a few milliseconds with thousands of
connections.
"""

from __future__ import annotations

import asyncio
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from math import isinf
from typing import TypeAlias, get_args

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from websockets.version import version as websockets_version

from deltawire import __version__
from deltawire.gateway.hub import Hub
from deltawire.gateway.metrics import catalogue
from deltawire.gateway.metrics.histogram import Histogram
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.consumer import CONSUMER_STATES, Consumer
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.messages import GapReason

Reading: TypeAlias = float | Histogram | Mapping[str, float] | Mapping[tuple[str, ...], float]
"""The value of a metric: a number, a histogram, or numbers by the values of its labels."""

ROLES = ("consumer", "producer", "relay", "handshake")


class Exposition:
    """The metrics of one gateway, with a registry of their own.

    Args:
        hub: its streams.
        connections: of the gateway, including those without a request.
        waiting: sockets whose request is not complete, including refused ones, which are no connections.
    """

    def __init__(self, hub: Hub, connections: Collection[GatewayConnection], waiting: Iterable[object]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_GatewayCollector(hub, connections, waiting))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """Return all metrics, in text format 0.0.4."""
        return generate_latest(self._registry)


class _GatewayCollector(Collector):
    def __init__(self, hub: Hub, connections: Collection[GatewayConnection], waiting: Iterable[object]) -> None:
        self._hub = hub
        self._connections = connections
        self._waiting = waiting

    def describe(self) -> Iterator[Metric]:
        """Describe nothing: a registry calls this before a loop is running."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the catalogue."""
        readings = (
            self._read_peers()
            | self._read_streams()
            | self._read_delays()
            | self._read_storage()
            | self._read_process()
        )
        for metric in catalogue.METRICS:
            yield _family(metric, readings[metric.name])

    def _read_peers(self) -> dict[str, Reading]:
        tally = self._hub.tally
        roles, states = Counter(dict.fromkeys(ROLES, 0)), Counter(dict.fromkeys(CONSUMER_STATES, 0))
        furthest = 0
        for connection in tuple(self._connections):
            roles[connection.record.role or "handshake"] += 1
            if isinstance(connection.peer, Consumer):
                states[connection.peer.state] += not connection.is_follow
                furthest = max(furthest, connection.peer.lag)
        roles["handshake"] += sum(it not in self._connections for it in self._waiting)
        return {
            "deltawire_connections": roles,
            "deltawire_connections_opened_total": {role: tally.connections[role] for role in ROLES[:3]},
            "deltawire_consumers": states,
            "deltawire_consumer_lag_events_max": furthest,
            "deltawire_handshakes_refused_total": tally.refused,
            "deltawire_closes_total": tally.closes,
            "deltawire_problems_total": {code.value: tally.problems[code] for code in ProblemCode},
            "deltawire_faults_total": tally.faults,
            "deltawire_received_bytes_total": tally.received_bytes,
            "deltawire_acks_total": tally.acks,
            "deltawire_relayed_bytes_total": tally.relayed_bytes,
            "deltawire_relay_failures_total": tally.relay_failures,
            "deltawire_signals_total": tally.signals,
            "deltawire_middleware_dropped_total": tally.middleware_dropped,
            "deltawire_middleware_failures_total": tally.middleware_failures,
        }

    def _read_streams(self) -> dict[str, Reading]:
        manager = self._hub.manager
        ledger = self._hub.dispatcher.record_deliveries()
        closed = sum(stream.is_closed for stream in manager.list())
        return {
            "deltawire_mirrors": manager.mirrors,
            "deltawire_streams": {"open": manager.count() - closed, "closed": closed},
            "deltawire_events_total": manager.appended,
            "deltawire_deliveries_total": ledger.delivered,
            "deltawire_delivered_bytes_total": ledger.delivered_bytes,
            "deltawire_folded_total": ledger.folded,
            "deltawire_dropped_total": ledger.dropped,
            "deltawire_urgent_total": ledger.urgent,
            "deltawire_gaps_total": {reason: ledger.gaps[reason] for reason in get_args(GapReason)},
        }

    def _read_delays(self) -> dict[str, Reading]:
        tally = self._hub.tally
        return {
            "deltawire_write_delay_seconds": tally.write_delay,
            "deltawire_first_token_seconds": tally.first_token,
            "deltawire_inter_token_seconds": tally.inter_token,
            "deltawire_loop_lag_seconds": tally.loop_lag,
        }

    def _read_storage(self) -> dict[str, Reading]:
        tally, storage = self._hub.tally, self._hub.storage_metrics()
        return {
            "deltawire_commits_total": storage.commits,
            "deltawire_commit_failures_total": storage.failures,
            "deltawire_commit_events": storage.events,
            "deltawire_commit_seconds": tally.commit_seconds,
            "deltawire_committed_bytes_total": tally.committed_bytes,
            "deltawire_stored_bytes": storage.stored_bytes,
            "deltawire_storage_failing": int(self._hub.storage_failure is not None),
        }

    def _read_process(self) -> dict[str, Reading]:
        manager = self._hub.manager
        transports = [it.transport for it in self._connections if not it.transport.is_closing()]
        return {
            "deltawire_memory_bytes": {
                "events": manager.ledger.bytes,
                "streams": manager.bytes - manager.elsewhere,
                "write_buffers": sum(transport.get_write_buffer_size() for transport in transports),
            },
            "deltawire_memory_limit_bytes": manager.memory_limit,
            "deltawire_worker_restarts_total": self._hub.tally.worker_restarts,
            "deltawire_build_info": {_build(): 1},
        }


def _build() -> tuple[str, ...]:
    """The versions that run: deltawire, Python, websockets; and the event loop."""
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    return __version__, platform.python_version(), websockets_version, loop


_FAMILIES: dict[str, Callable[..., CounterMetricFamily | GaugeMetricFamily]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
}


def _family(metric: catalogue.Metric, reading: Reading) -> Metric:
    if isinstance(reading, Histogram):
        buckets = [("+Inf" if isinf(bound) else str(bound), count) for bound, count in reading.cumulative()]
        return HistogramMetricFamily(metric.name, metric.help, buckets=buckets, sum_value=reading.sum)
    family = _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)
    by_labels = reading if isinstance(reading, Mapping) else {(): reading}
    for labels, value in tuple(by_labels.items()):
        family.add_metric((labels,) if isinstance(labels, str) else labels, value)
    return family
