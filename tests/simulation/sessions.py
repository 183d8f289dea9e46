"""Sessions of nodes on the server, and whether a node serves its own streams when the time of its session is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from deltawire.gateway.engines.redis.session import TTL
from deltawire.gateway.hub.deadlines import MAX_SWEEP_INTERVAL
from tests.simulation.node import Node
from tests.simulation.world import World

BETWEEN: Final = 0.25
"""Seconds between two looks."""

GRACE: Final = 2 * MAX_SWEEP_INTERVAL + BETWEEN
"""Seconds that a node has to send its clients elsewhere, once it takes its steps."""


class Sessions:
    """All sessions.

    Args:
        world: where they are.
        nodes: returns those that there are.
        violation: is told what must not be.
    """

    def __init__(self, world: World, nodes: Callable[[], Iterable[Node]], violation: Callable[[str], None]) -> None:
        self._world = world
        self._nodes = nodes
        self._violation = violation
        self._renewed: dict[str, float] = {}  # by name of the session
        self._running_since: dict[Node, float] = {}
        world.after(BETWEEN, self._look)

    def renewed(self, name: str) -> None:
        """A session was begun or renewed on the server."""
        self._renewed[name] = self._world.now

    def _look(self) -> None:
        for node in self._nodes():
            if node.is_gone or not node.is_running:
                self._running_since.pop(node, None)
            else:
                since = self._running_since.setdefault(node, self._world.now)
                self._look_at(node, since)
        self._world.after(BETWEEN, self._look)

    def _look_at(self, node: Node, since: float) -> None:
        if node.gateway is None or node.gateway.hub._engine is None:
            return
        name = node.gateway.hub._engine.describe()["node"]
        over_for = self._world.now - max(self._renewed[name] + TTL, since)
        served = [it for it in node.gateway._accepted if it.peer is not None and it.mirror is None]
        if over_for > GRACE and any(not it.is_finished for it in served):
            self._violation(f"{node.name} serves its streams, and its session is over for {over_for:.2f} s")
