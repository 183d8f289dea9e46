"""A Redis Cluster of real servers: its masters, and a replica of each where a test asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from deltawire.gateway.engines.redis.topology import SLOTS, TAGS, bucket_of, slot_of
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import eventually

MASTERS = 3

PAUSE = 0.02
"""Seconds between two looks at servers that take seconds to agree: each look asks them all."""


class RedisCluster:
    """Its servers.

    Args:
        masters: each with a third of the slots.
        replicas: of each of them, in the same order; may be empty.
        buses: the port of each server for the others.
    """

    def __init__(self, masters: Sequence[RedisServer], replicas: Sequence[RedisServer], buses: Sequence[int]) -> None:
        self.masters = list(masters)
        self.replicas = list(replicas)
        self._buses = buses
        self._moved: dict[int, RedisServer] = {}  # by slot

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{it.port}' for it in self.masters)}"

    async def build(self) -> None:
        """Make one cluster of servers that know nothing of each other."""
        servers = (*self.masters, *self.replicas)
        for number, master in enumerate(self.masters):
            first, last = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
            assert master.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last)) == b"+OK\r\n"
            assert master.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1)) == b"+OK\r\n"
        for it, bus in zip(servers[1:], self._buses[1:], strict=True):
            assert self.masters[0].command("CLUSTER", "MEET", "127.0.0.1", str(it.port), str(bus)) == b"+OK\r\n"
        known = f"cluster_known_nodes:{len(servers)}\r\n".encode()
        await eventually(lambda: all(known in it.command("CLUSTER", "INFO") for it in servers), pause=PAUSE)
        for master, replica in zip(self.masters, self.replicas, strict=False):
            await eventually(partial(_replicates, replica, id_of(master)), pause=PAUSE)
        await eventually(lambda: all(is_linked(it) for it in self.replicas), pause=PAUSE)
        await eventually(
            lambda: all(b"cluster_state:ok" in it.command("CLUSTER", "INFO") for it in servers), pause=PAUSE
        )

    def server_of(self, stream: str) -> RedisServer:
        """The master that has a stream, as long as no replica has taken over."""
        slot = slot_of(TAGS[bucket_of(stream)])
        return self._moved.get(slot) or self.masters[slot * MASTERS // SLOTS]

    def move(self, stream: str, to: RedisServer) -> SlotMove:
        """Prepare to move the slot of a stream."""
        slot = slot_of(TAGS[bucket_of(stream)])
        move = SlotMove(slot, self.server_of(stream), to, self.masters)
        self._moved[slot] = to
        return move

    def is_settled(self) -> bool:
        """Whether all masters agree who has what since when: slots moved sooner may be lost to an older claim."""
        views = {frozenset(map(_known, it.command("CLUSTER", "NODES").split(b"\n")[1:])) for it in self.masters}
        return len(views) == 1

    async def wait_promoted(self, number: int) -> None:
        """Wait until a replica has taken over, and all servers know of it; it is the master from then on."""
        self.masters[number] = replica = self.replicas[number]
        await eventually(lambda: b"role:master" in replica.command("INFO", "replication"), pause=PAUSE)
        await eventually(self.is_settled, pause=PAUSE)

    def cut_off(self, number: int) -> None:
        """Let a replica get nothing more of what its master has."""
        replica = self.replicas[number]
        for name, value in (("masteruser", "nobody"), ("masterauth", "wrong")):
            assert replica.command("CONFIG", "SET", name, value) == b"+OK\r\n"
        self.masters[number].command("CLIENT", "KILL", "TYPE", "replica")


class SlotMove:
    """A slot on its way from one master to another, as `redis-cli --cluster reshard` does it."""

    def __init__(self, slot: int, source: RedisServer, target: RedisServer, masters: Sequence[RedisServer]) -> None:
        self._slot = str(slot)
        self._source = source
        self._target = target
        self._masters = masters

    def begin(self) -> None:
        """From now on, keys that are gone are asked for at the target."""
        self._set(self._target, "IMPORTING", id_of(self._source))
        self._set(self._source, "MIGRATING", id_of(self._target))

    def carry(self, count: int = 1000) -> int:
        """Move some keys; returns how many."""
        reply = self._source.command("CLUSTER", "GETKEYSINSLOT", self._slot, str(count))
        keys = [it.decode() for it in reply.split(b"\r\n")[2::2]]
        for key in keys:
            target = ("127.0.0.1", str(self._target.port), key, "0", "5000")
            reply = self._source.command("MIGRATE", *target)
            assert reply == b"+OK\r\n", reply
        return len(keys)

    def carry_one_by_one(self) -> None:
        """Move all keys."""
        while self.carry(1):
            pass

    def end(self) -> None:
        """Have the target own the slot."""
        for it in (self._target, self._source, *(it for it in self._masters if it not in {self._target, self._source})):
            self._set(it, "NODE", id_of(self._target))

    def _set(self, server: RedisServer, *parts: str) -> None:
        assert server.command("CLUSTER", "SETSLOT", self._slot, *parts) == b"+OK\r\n"


def _known(line: bytes) -> tuple[bytes, ...]:
    """What a line of `CLUSTER NODES` says that all servers should agree on: name, epoch of its claims, slots."""
    name, _, _, _, _, _, epoch, _, *slots = [*line.split(), *[b""] * 8]
    return name, epoch, *(it for it in slots if it and not it.startswith(b"["))


def id_of(server: RedisServer) -> str:
    """The name of a server in its cluster."""
    return server.command("CLUSTER", "MYID").split(b"\r\n")[1].decode()


def is_linked(replica: RedisServer) -> bool:
    """Whether a replica gets what its master has."""
    return b"master_link_status:up" in replica.command("INFO", "replication")


def _replicates(replica: RedisServer, name: str) -> bool:
    """Have a server replicate another one, if it knows that by now; whether it does."""
    return replica.command("CLUSTER", "REPLICATE", name) == b"+OK\r\n"


@asynccontextmanager
async def redis_cluster(folder: Path, *, has_replicas: bool = False) -> AsyncIterator[RedisCluster]:
    """A cluster that runs until the block ends."""
    with ExitStack() as stack:
        servers, buses = [], []
        for number in range(2 * MASTERS if has_replicas else MASTERS):
            buses.append(free_port())
            options = {
                "cluster-enabled": "yes",
                "cluster-port": str(buses[-1]),
                "cluster-node-timeout": "1500",
                "cluster-replica-validity-factor": "0",
                "repl-diskless-sync-delay": "0",
            }
            servers.append(stack.enter_context(redis_server(folder / f"server-{number}", options=options)))
        cluster = RedisCluster(servers[:MASTERS], servers[MASTERS:], buses)
        await cluster.build()
        yield cluster
