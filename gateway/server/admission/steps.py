"""Steps of admission that check capacity: per address behind a proxy, per token, and for memory."""

from __future__ import annotations

from http import HTTPStatus

from websockets.http11 import Response

from deltawire.gateway.hub import Hub
from deltawire.gateway.server.accepting.forwarding import Proxies, limited_address
from deltawire.gateway.server.accepting.limits import Limits
from deltawire.gateway.server.accepting.routing import Remote
from deltawire.gateway.server.admission.request import AdmissionRequest
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.memory import connection_cost, headroom
from deltawire.gateway.server.connection.replying import REPLY_COST
from deltawire.gateway.server.responses import Refusal, respond_refusal


class CapacityChecks:
    """Limits that need the request; limits on sockets alone are in `accepting.handshakes`.

    Args:
        hub: its memory.
        limits: counts connections, per address and per token.
        proxies: trusted to say where a request came from.
    """

    def __init__(self, hub: Hub, limits: Limits, proxies: Proxies) -> None:
        self._hub = hub
        self._limits = limits
        self._proxies = proxies

    def check_address(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse a client behind a proxy that connects too often, or has too many connections."""
        host = incoming.connection.remote.host
        if not host or incoming.connection.is_relayed or not self._proxies.trusts(host):
            return None
        client = self.client_of(incoming).host
        return _respond(self._limits.identify(incoming.connection, limited_address(client), self._hub.now()))

    def client_of(self, incoming: AdmissionRequest) -> Remote:
        """Who a request comes from, behind proxies too."""
        remote = incoming.connection.remote
        if not remote.host or not self._proxies.trusts(remote.host):
            return remote
        host = self._proxies.client(remote.host, incoming.request.headers.get_all(self._proxies.header))
        return remote if host == remote.host else Remote(host, 0, remote.has_tls, remote.has_certificate)

    def settle_relayed(self, connection: GatewayConnection, node: str) -> Response | None:
        """Count a connection that a node relays under its client's address instead of the node's.

        Its rate was judged by the other node.
        """
        self.settle_following(connection, node)
        host = connection.remote.host
        return _respond(self._limits.settle(connection, limited_address(host))) if host else None

    def settle_following(self, connection: GatewayConnection, node: str) -> None:
        """Count a connection of a node no longer under the node's address."""
        if node and not self._proxies.trusts(node):
            self._limits.take_back(connection, limited_address(node), self._hub.now())

    def check_token(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse a token that has too many connections."""
        return _respond(self._limits.authenticate(incoming.connection, incoming.connection.grant.key))

    def check_memory(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse every connection while there is no memory for another one."""
        cost = incoming.connection.cost_of(incoming.target)
        if (refusal := self._check_room(cost)) is None:
            incoming.connection.occupy(cost)
        return refusal

    def check_memory_for_relay(self, incoming: AdmissionRequest, *, has_tls: bool) -> Response | None:
        """Refuse to relay while there is no memory for two connections.

        Args:
            incoming: the request.
            has_tls: whether the second one is encrypted.
        """
        connection, target = incoming.connection, incoming.target
        cost = connection.cost_of(target) + connection_cost(has_tls=has_tls, sends=target.publishes)
        if (refusal := self._check_room(cost)) is None:
            connection.occupy(cost)
        return refusal

    def check_memory_for_answer(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse a request whose response may be long, while there is no memory for it beside what is for events."""
        return (
            self._check_room(REPLY_COST + headroom(self._hub.manager.memory_limit))
            if incoming.target.may_be_long
            else None
        )

    def _check_room(self, needed: int) -> Response | None:
        manager = self._hub.manager
        if manager.make_room(self._hub.now(), needed):
            return None
        detail = f"memory_limit ({manager.memory_limit} bytes) is reached and every stream is in use"
        return _respond(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail))


def _respond(refusal: Refusal | None) -> Response | None:
    return None if refusal is None else respond_refusal(refusal)
