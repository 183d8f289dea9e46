"""What `scripts/chaos.py` and `scripts/soak.py` are made of: the promises of SPEC over real sockets and processes.

Producers say what follows from their name and a number alone (`answers`), so that a restarted one says the same again
and every event of a stream tells where it came from. Consumers write down what they get before they ask for more
(`journal`), so that a killed one resumes from its own notes. What was acked, what the stream holds and what each
consumer noted are then compared event by event (`verdict`).

- `answers` — what a producer says
- `journal` — files that survive a SIGKILL
- `workers` — the producer and the consumer process
- `children` — processes that end with the one that started them
- `proxy` — a TCP proxy that does to connections what networks do
- `actors` — a producer or a consumer, through all its processes
- `faults` — random faults to their connections and processes
- `history` — everything a stream ever held, read over HTTP while it runs
- `verdict` — what was lost, doubled, misordered or altered
- `stuck` — consumers that stop reading and stay
- `survival` — kills of a gateway with a store, under the load of `numbered` events
- `watched` — a gateway that tells what its process takes
"""
