"""Metrics: what the gateway counts and measures for Prometheus, without Prometheus.

Counting must cost nothing to speak of: a count is a plain integer on an object its place touches anyway, added once a
loop turn and stream, never once an event or a delivery. Nothing here knows a library, a clock or a socket; what is
counted is put into words when somebody asks for it (`server.http.metrics`).

No label has a value that a peer chooses: a gateway has the same number of series with one stream as with ten thousand.

- `histogram` — how often a value fell where
- `tally` — the counts and histograms of a gateway
- `catalogue` — name, kind, labels and meaning of every metric
"""
