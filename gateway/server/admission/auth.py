"""Who may connect, what they may do, and for how long (SPEC §11).

Four steps of admission, and the life of a token afterwards: it is replaced on the connection, or expires. A grant is
checked when a connection is made, when its token is replaced, and for each signal; never for an event.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Self

from websockets.http11 import Request, Response

from deltawire.gateway.access import Action, BadToken, Grant, NoKeys, UnknownKey, open_authenticator
from deltawire.gateway.access.credentials import find_token
from deltawire.gateway.access.origins import (
    PREFLIGHT,
    cors_headers,
    is_allowed,
    is_known_host,
    is_own,
    parse_hosts,
    parse_origins,
)
from deltawire.gateway.config import Settings
from deltawire.gateway.logs import get_logger
from deltawire.gateway.server.accepting.forwarding import Proxies
from deltawire.gateway.server.accepting.listening import is_authenticated
from deltawire.gateway.server.admission.request import AdmissionRequest, offered_subprotocols
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.http.target import is_upgrade
from deltawire.gateway.server.responses import REALM, respond_later, respond_nothing, respond_problem
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.messages import TokenAccepted

log = get_logger()


class AccessControl:
    """Who may connect, and what they may do. An async context manager, as keys may have to be fetched.

    Args:
        settings: how tokens are verified, and which origins are allowed.
        clock: seconds since 1970, by which tokens expire.
        proxies: trusted to have checked which name a request was sent to.

    Raises:
        ConfigError: the keys, origins or hosts in the settings can't be used.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float], proxies: Proxies) -> None:
        self._authenticator = open_authenticator(settings, clock)
        self._origins = parse_origins(settings.allowed_origins)
        self._hosts = parse_hosts(settings.allowed_hosts, self._origins) | {settings.host}
        self._is_for_this_machine = not (is_authenticated(settings) or settings.insecure_no_auth or settings.tls_cert)
        self._proxies = proxies
        self._has_console = settings.console
        self._is_secure = bool(settings.tls_cert)
        self._may_query = settings.auth_query_token
        self._wants_certificate = bool(settings.tls_client_ca)
        self._clock = clock

    async def __aenter__(self) -> Self:
        if self._authenticator is not None:
            await self._authenticator.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._authenticator is not None:
            await self._authenticator.__aexit__()

    def reload(self) -> None:
        """Read the key file again; existing connections keep their grants until these expire.

        Raises:
            ConfigError: it can't be used; everything stays as it is.
        """
        if self._authenticator is not None:
            self._authenticator.reload()

    # Steps of admission

    def check_certificate(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse a peer without a certificate if one is required; a bad one has failed in the TLS handshake already."""
        if not self._wants_certificate or incoming.is_open:
            return None
        if incoming.connection.remote.has_certificate:
            return None
        return respond_problem(
            HTTPStatus.FORBIDDEN,
            "a client certificate is needed (tls_client_ca): show one; commands do with --tls-client-cert",
        )

    def check_origin(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse web pages from origins that are not allowed; the console's is, at an address that only it can have."""
        if incoming.connection.is_relayed:
            return None  # another node has checked that, where the page has connected to
        headers = incoming.request.headers
        named = headers.get_all("Origin")
        if is_allowed(named, self._origins):
            return None
        if self._has_console and is_own(named, headers.get_all("Host"), is_secure=self._is_secure):
            return None
        return respond_problem(HTTPStatus.FORBIDDEN, "pages of this origin may not connect (allowed_origins)")

    def check_host(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse to show a browser anything under a name that somebody else may have made point to this machine.

        Only what needs no token is in danger, and only by requests for which a browser names no origin: it does for all
        others. With TLS, the browser has checked that the name is the gateway's.
        """
        if not self._is_for_this_machine or incoming.is_open or incoming.request.method not in {"GET", "HEAD"}:
            return None
        connection, headers = incoming.connection, incoming.request.headers
        if is_upgrade(headers) or headers.get_all("Origin") or is_known_host(headers.get_all("Host"), self._hosts):
            return None
        if connection.is_relayed or (connection.remote.host and self._proxies.trusts(connection.remote.host)):
            return None
        return respond_problem(
            HTTPStatus.FORBIDDEN,
            "without authentication, nothing can be read under this Host: list it in allowed_hosts, or the proxy that "
            "passes it on in trusted_proxies",
        )

    def answer_preflight(self, incoming: AdmissionRequest) -> Response | None:
        """Tell a browser what a page of an allowed origin may send. It asks without a token."""
        headers = incoming.request.headers
        if incoming.request.method != "OPTIONS" or not headers.get_all("Origin"):
            return None
        if not headers.get_all("Access-Control-Request-Method"):
            return None
        return respond_nothing(**PREFLIGHT)

    def allow_reading(self, request: Request, response: Response) -> None:
        """Let a page of an allowed origin read the response."""
        for name, value in cors_headers(request.headers.get_all("Origin"), self._origins).items():
            response.headers[name] = value

    async def identify(self, incoming: AdmissionRequest) -> Response | None:
        """Give the connection the grant of its token, or refuse it."""
        if self._authenticator is None or incoming.is_open or incoming.connection.is_follow:
            return None
        headers = incoming.request.headers
        try:
            token = find_token(
                headers.get_all("Authorization"),
                offered_subprotocols(headers),
                incoming.queried,
                may_query=self._may_query,
            )
            if token is None:
                return _respond_unauthorized("a token is needed: send `Authorization: Bearer TOKEN`", REALM)
            incoming.connection.grant = await self._authenticator.admit(token)
        except BadToken as error:
            return _respond_unauthorized(str(error), f'{REALM}, error="invalid_token"')
        except NoKeys as error:
            return respond_later(HTTPStatus.SERVICE_UNAVAILABLE, str(error), 5)
        return None

    def check_permission(self, incoming: AdmissionRequest) -> Response | None:
        """Refuse to publish, subscribe or signal if the grant does not allow it; the stream is not even looked up."""
        if not incoming.target.is_endpoint:
            return None
        actions = [Action.PUBLISH if incoming.target.publishes else Action.SUBSCRIBE]
        if incoming.target.signals:
            actions.append(Action.SIGNAL)
        for action in actions:
            if not incoming.connection.grant.may(action, incoming.target.stream_id):
                return respond_problem(
                    HTTPStatus.FORBIDDEN,
                    f"the token does not allow to {action} to this stream: it needs `{action}` of it",
                )
        return None

    # Tokens of open connections

    def renew(self, connection: GatewayConnection, token: str) -> None:
        """Replace the token of a connection; a bad token changes nothing."""
        if self._authenticator is None:
            connection.tell(TokenAccepted())
            return
        try:
            self._replace(connection, self._authenticator.verify(token))
        except (UnknownKey, NoKeys) as error:
            fetched = self._authenticator.refresh()
            if fetched is None:
                connection.report(ProblemCode.INVALID_TOKEN, str(error))
            else:
                fetched.add_done_callback(lambda _: self._renew_with_new_keys(connection, token))
        except BadToken as error:
            connection.report(ProblemCode.INVALID_TOKEN, str(error))

    def _renew_with_new_keys(self, connection: GatewayConnection, token: str) -> None:
        if connection.is_finished or self._authenticator is None:
            return
        try:
            self._replace(connection, self._authenticator.verify(token))
        except (BadToken, NoKeys) as error:
            connection.report(ProblemCode.INVALID_TOKEN, str(error))

    def _replace(self, connection: GatewayConnection, grant: Grant) -> None:
        connection.grant = grant
        peer = connection.peer
        if peer is not None and (why := peer.forbidden_by(grant)):
            peer.end(ProblemCode.FORBIDDEN, f"the new token does not allow {why}")
        else:
            connection.tell(TokenAccepted(expires_in=max(0, int(grant.expires_at - self._clock()))))

    @property
    def now(self) -> float:
        """Seconds since 1970, the time by which tokens expire."""
        return self._clock()


def has_expired(connection: GatewayConnection, now: float) -> bool:
    """Whether an open connection has a token that has expired.

    Args:
        connection: any connection.
        now: seconds since 1970.
    """
    return connection.grant.expires_at <= now and connection.peer is not None and not connection.is_finished


def end_expired(connection: GatewayConnection) -> None:
    """End a connection whose token has expired."""
    assert connection.peer is not None, "it has expired while it served a peer"
    log.info("token.expired", subject=connection.grant.subject, stream=connection.peer.stream.id)
    connection.peer.end(ProblemCode.TOKEN_EXPIRED, "the token has expired: reconnect with a fresh one and go on")


def _respond_unauthorized(detail: str, challenge: str) -> Response:
    return respond_problem(HTTPStatus.UNAUTHORIZED, detail, **{"WWW-Authenticate": challenge})
