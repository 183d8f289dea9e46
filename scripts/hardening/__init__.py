"""Attacks on a gateway that runs, one after another, while a healthy group of neighbours is watched.

The gateway is a process as an operator starts it, with authentication and lower limits. The neighbours are another
process: a producer and consumers of every policy, whose events carry when they were due. For each attack a line says
what the attempts were answered, how long the neighbours waited for their events beside a quiet run, whether they lost
any, and whether newcomers got in meanwhile. Those that read much, and all at once, which comes last, are judged by how
long neighbours waited, too. What may be the doing of a busy machine is played once more, in a line of its own, before
it counts as a failure.

    python -m scripts.hardening [--quick] [--only frames,floods]

- `neighbours` — the healthy group, and what it saw
- `guarded` — the gateway's process, its log and its faults
- `tokens` — tokens, good and forged
- `hostile` — a connection that does what it likes; `frames` — what it sends
- `answers` — how attempts end, and which ends are documented
- `attack` — what an attack is; `judging` — what must not have come of it
- `at_the_door`, `on_the_wire`, `in_masses`, `reading_much`, `standing_still` — the attacks
- `together` — all at once
- `proofs` — bounds that always hold; `generated`, `measured`
- `classes` — a stream of a more urgent class beside a flood of others
- `storing` — faults of a store: `ailments` while a gateway runs, with `failing`, and what it begins with, `spoiled`
"""
