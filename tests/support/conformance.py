"""The gateway of a conformance case, played to any client (protocol/conformance/README.md)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tests.support.fakes import FakeGateway, Script, cut
from tests.support.processes import ROOT

Case = dict[str, Any]

FOLDER: Final = ROOT / "protocol" / "conformance"

CASES: Final[dict[str, list[Case]]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))["cases"] for path in sorted(FOLDER.glob("*.json"))
}
"""All cases, by the name of their file."""


class PlayedGateway(FakeGateway):
    """The gateway of one case.

    Attributes:
        asked: query and token of each connection, in order.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(*map(_script, case["connections"]))
        self.asked: list[dict[str, Any]] = []
        self._refusal = Response(HTTPStatus.NOT_FOUND, "Not Found", Headers())

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        path, _, query = request.path.partition("?")
        if path.endswith("/sse"):  # where no WebSocket passes: the answer is the same
            return self._refusal
        self.asked.append({"query": dict(parse_qsl(query)), "token": _token_of(request.headers)})
        if self.scripts and isinstance(self.scripts[0], Response):
            self._refusal = self.scripts[0]
        return super()._admit(connection, request)


def check(case: Case, gateway: PlayedGateway, outcome: dict[str, Any]) -> None:
    """Compare what a client asked for and delivered with what a case wants."""
    wanted = [{"query": it["query"], "token": it.get("token")} for it in case["connections"]]
    about = f"{case['name']}: {outcome}"
    assert gateway.asked == wanted, about
    assert outcome["delivers"] == case["delivers"], about
    assert outcome["error"] == case.get("error"), about
    assert outcome["signals"] == [signal["result"] for signal in case.get("signals", [])], about
    assert outcome["urgent"] == case.get("urgent", []), about
    for name in ("text", "position", "verified"):
        assert outcome[name] == case.get(name, outcome[name]), about


def _token_of(headers: Headers) -> str | None:
    """The token of a request, wherever it is."""
    offers = headers.get("Sec-WebSocket-Protocol", "").split(", ")
    found = [offer.removeprefix("deltawire.bearer.") for offer in offers if offer.startswith("deltawire.bearer.")]
    header = headers.get("Authorization", "").removeprefix("Bearer ")
    return header or (found[0] if found else None)


def _script(connection: dict[str, Any]) -> Script | Response:
    steps = connection["steps"]
    if (refusal := steps[0].get("refuse")) is not None:
        status = HTTPStatus(refusal["status"])
        body = json.dumps(refusal.get("body", {})).encode()
        headers = {"Content-Length": str(len(body)), "Connection": "close"} | refusal.get("headers", {})
        return Response(status, status.phrase, Headers(headers), body)

    async def play(peer: ServerConnection) -> None:
        received: dict[str, Any] = {}
        for step in steps:
            match step:
                case {"send": message}:
                    await peer.send(json.dumps({**message, **({"id": received["id"]} if _wants_id(message) else {})}))
                case {"send_text": text}:
                    await peer.send(text)
                case {"receive": fields}:
                    received = json.loads(await peer.recv())
                    assert fields.items() <= received.items()
                case {"close": code}:
                    await peer.close(code, step.get("reason", ""))
                case {"cut": True}:
                    await (await peer.ping())  # the client has taken what came before
                    await cut(peer)
                case _:
                    raise AssertionError(step)
        await peer.wait_closed()

    return play


def _wants_id(message: dict[str, Any]) -> bool:
    return message.get("id") == "$id"
