"""Several processes that serve as one gateway: `deltawire serve --workers N`.

    listening sockets, shared                 supervisor: owns them, forks, watches and replaces workers
       │            │            │
    worker 0     worker 1     worker 2        each a gateway with streams of its own
       └────────────┴────────────┘
          sockets handed over, questions

A stream lives in exactly one worker, which its id decides (`shards`): no event crosses processes, and inside a worker
nothing is different from a gateway of one process. Any worker accepts any connection. It reads the first line of the
request and, if the stream is another worker's, hands over the socket with the bytes read. With TLS it keeps the socket,
as a session can't be handed over, and relays.

Invariants:
1. Every connection to a stream reaches the one worker that the stream lives in, from whatever worker accepted it.
2. A worker that dies takes only its own streams and connections with it, and comes back; what is handed to it meanwhile
   waits in its inbox.
3. Limits on connections hold over all workers, and are never exceeded. Those on memory, streams and incomplete
   handshakes are divided, so that their sum holds.
4. A list, the metrics and readiness speak for all workers, or say that one does not answer.
5. Only the supervisor obeys signals; workers end when it says so, or when it is gone.
6. On a server of `engine_url` each worker owns its streams itself. Other gateways relay to any of them: all have one
   address and one key there.

- `supervisor` — the process that owns the sockets and keeps workers running; `roster` — when to start or kill one
- `control` — what supervisor and worker tell each other; `signals` — signals without an event loop
- `worker` — one worker, from start to drain
- `shards` — which worker a stream lives in
- `links` — sockets and questions between workers; `siblings` — what a worker does with them
- `relaying` — connections with TLS to streams of other workers, by `server.relaying`
- `gathering` — responses made of those of all workers
- `division` — limits that are divided; `shared_limits` — limits counted over all workers
- `storage` — where each worker stores its streams
"""

from deltawire.gateway.workers.division import count_workers, divide
from deltawire.gateway.workers.signals import SignalPipe
from deltawire.gateway.workers.storage import claim_storage
from deltawire.gateway.workers.supervisor import TAKEN, Supervisor
from deltawire.gateway.workers.worker import Seat, reload_files, work

__all__ = [
    "TAKEN",
    "Seat",
    "SignalPipe",
    "Supervisor",
    "claim_storage",
    "count_workers",
    "divide",
    "reload_files",
    "work",
]
