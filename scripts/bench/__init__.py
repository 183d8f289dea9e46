"""The benchmark: this gateway beside other systems, in one run on one machine.

The server has one core, the load generator the other. Consumers are raw sockets; producers send by a schedule fixed
before, and stamp each event with the time it was due, so that a stall shows as latency however long the load generator
had to wait for it. Systems take turns in rounds, each in a fresh process; figures are medians, and only ratios of
figures of one run mean anything.

    python -m scripts.bench --help
    python -m scripts.bench.scale --help
    python -m scripts.bench.proxied --help
    python -m scripts.bench.workers --help
    python -m scripts.bench.nodes --help

With `--engine memory,off,interval,always` the gateway takes part once for each, beside systems that store too. Stores,
and the file that tells how fast the disk syncs, are in `TMPDIR`.

Whether the load generator is the bottleneck can be seen in every table: `load %` is its share of its core. Where it is
full it reads larger pieces, not fewer bytes, so that no server has to wait for it; it then adds up to a round through
its sockets, two milliseconds for 500, to latencies. What it can follow the floor shows in C, which does nothing but
`send()`: its core is full, too. `disturbed %` is time in which either side was ready and something else had its
core (a server of several threads disturbs itself): figures of a disturbed run say nothing.

From the bottom up:

- `wire` — frames of a client, stamps in payloads
- `effort` — how long, how many
- `schedule` — when which producer sends
- `figures` — percentiles, medians, spreads
- `load` — the loop that sends and counts, with `sender` and `reads`
- `handshake` — opening thousands of connections, `blocking` — one
- `process` — a server on a core of its own
- `peer` — a system to measure, `deltawire` — this one, `peers` — others, `servers` — those that are written here
- `fan` — scenarios A to E, J, L and M, `memory` — F, `joining` — G, `stalled` — H, `inprocess` — I, `storm` — K,
  `stores` — N, and the disk, `stages` — R
- `scenarios` — what each letter means
- `targets` — what is to be reached, and whether it was
- `compare` — two revisions of the gateway
- `report` — tables and JSON
- `answers` — a provider and its callers, `proxied` — the command that measures `deltawire proxy` between them
- `workers` — the command that measures two workers beside one, `nodes` — that of two nodes
- `curves` — what grows, `plots`, `scale` — the command that draws it
"""
