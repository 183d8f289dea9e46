"""Steps of admission that check capacity: per address behind a proxy, per token, and for memory."""

from __future__ import annotations

from http import HTTPStatus

from websockets.http11 import Response

from deltawire.gateway.hub import Hub
from deltawire.gateway.server.accepting.forwarding import Proxies, limited_address
from deltawire.gateway.server.accepting.limits import Limits
from deltawire.gateway.server.admission.request import AdmissionRequest
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
        if not host or not self._proxies.trusts(host):
            return None
        client = self._proxies.client(host, incoming.request.headers.get_all(self._proxies.header))
        return _respond(self._limits.identify(incoming.connection, limited_address(client), self._hub.now()))

    def check_token(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse a token that has too many connections."""
        return _respond(self._limits.authenticate(incoming.connection, incoming.connection.grant.key))

    def check_memory(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse every connection while there is no memory for another one."""
        cost = incoming.connection.cost_of(incoming.target)
        if (refusal := self._check_room(cost)) is None:
            incoming.connection.occupy(cost)
        return refusal

    def check_memory_for_answer(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse a request whose response may be long, while there is no memory for it."""
        return self._check_room(REPLY_COST) if incoming.target.may_be_long else None

    def _check_room(self, needed: int) -> Response | None:
        manager = self._hub.manager
        if manager.make_room(self._hub.now(), needed):
            return None
        detail = f"memory_limit ({manager.memory_limit} bytes) is reached and every stream is in use"
        return _respond(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail))


def _respond(refusal: Refusal | None) -> Response | None:
    return None if refusal is None else respond_refusal(refusal)
