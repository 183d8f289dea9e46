"""Tokens and keys reach no log, metric or answer, wherever they are sent and whatever is wrong (SPEC §11.6)."""

from __future__ import annotations

import asyncio
import base64
import json
from asyncio.subprocess import Process
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.support.minting import SECRET, everything, sign, unsigned, write_secret
from tests.support.processes import Serve
from tests.support.rawpeer import HANDSHAKE, RawPeer
from tests.support.waiting import DEADLINE

TOKENS = {
    "good": everything(),
    "expired": everything(-60),
    "unsigned": unsigned({"exp": 1, "sub": "an unsigned canary"}),
    "of another key": sign({"exp": 1, "sub": "a foreign canary"}, b"another secret of thirty-two bytes and more"),
    "not one": "canary.no.token-at-all-but-secret-anyway",
    "odd": 'canary"},\\u0022{%22-secret',
}
PLACES = [
    "Authorization: Bearer {}\r\n",
    "Authorization: {}\r\n",
    "Authorization: Bearer {}\r\nAuthorization: Bearer {}\r\n",
    "Authorization: Basic {basic}\r\n",
    "Authorization: Basic {}\r\n",
    "Authorization: Digest {}\r\n",
    "Authorization Bearer {}\r\n",
    "Authorization: Bearer {}\x00\r\n",
    " Bearer {}\r\n",
    "Sec-WebSocket-Protocol: deltawire.v1.json, deltawire.bearer.{}\r\n",
    "Sec-WebSocket-Protocol: deltawire.bearer.{}\r\n",
    "Sec-WebSocket-Protocol: other, deltawire.bearer.{}\r\n",
    "Sec-WebSocket-Protocol: deltawire.bearer. {}\r\n",
    "Authorization: Bearer {good}\r\nSec-WebSocket-Protocol: deltawire.v1.json, x deltawire.bearer.{}\r\n",
    "Origin: {}\r\n",
]
PATHS = [
    "/v1/streams/demo/subscribe?access_token={}",
    "/v1/streams/demo/subscribe?access_token={}&policy=no",
    "/v1/streams/demo/publish?nonsense&access_token={}",
    "/v1/streams/demo/subscribe?%61ccess_token={}",
    "/v1/streams?access_token={}",
    "/v1/streams/demo/events?access_token={}&x",
    "/unknown?access_token={}",
    "/livez?access_token={}",
]


def secrets_of(token: str) -> list[str]:
    """What nobody may see of a token: all of it, and each part that says something."""
    return [token, *(part for part in token.split(".")[1:] if len(part) > 10)]


async def ask_raw(port: int, request: str) -> str:
    """All that is answered to a request; of one that was upgraded, the head and the first message."""
    it = await RawPeer.connect(port)
    await it.send(request.encode("latin-1"))
    answer = await it.read_head()
    if b" 101 " in answer:
        frame = await it.read_frame()
        assert frame is not None
        answer += frame.payload
    else:
        answer += await it.read_rest()
    it.close()
    return answer.decode(errors="replace")


async def send_in_band(connection: ClientConnection, token: str) -> str:
    """What a connection says to a token, and to messages that are not quite one."""
    said: list[str | bytes] = []
    try:
        for message in (
            {"type": "token", "token": token},
            {"type": "token", "token": [token]},
            {"type": "token", "tokens": token},
            [{"type": "token", "token": token}],
        ):
            await connection.send(json.dumps(message))
        async with asyncio.timeout(DEADLINE):
            while sum("problem" in str(message) for message in said) < 3:
                said.append(await connection.recv())
    except ConnectionClosed as error:
        said.append(str(error))
    return "\n".join(map(str, said))


async def finish(process: Process) -> str:
    process.terminate()
    output, errors = await process.communicate()
    return (output + errors).decode()


@pytest.mark.parametrize("query", ["--auth-query-token", "--no-auth-query-token"])
async def test_no_secret_is_said_or_logged(serve: Serve, tmp_path: Path, query: str) -> None:
    arguments = ("--port", "0", "--auth-key", write_secret(tmp_path), query, "--log-level", "debug")
    served = await serve(*arguments, "--signal-rate", "100")
    port = urlsplit(served.url).port
    assert port is not None
    seen: dict[str, str] = {}
    for kind, token in TOKENS.items():
        basic = base64.b64encode(f"name:{token}".encode()).decode()
        for place in PLACES:
            headers = place.replace("{basic}", basic).replace("{good}", everything(500)).replace("{}", token)
            request = HANDSHAKE.format(path="/v1/streams/demo/subscribe", headers=headers)
            seen[f"{kind}: {place}"] = await ask_raw(port, request)
        for path in PATHS:
            request = HANDSHAKE.format(path=path.replace("{}", token), headers="")
            seen[f"{kind}: {path}"] = await ask_raw(port, request)
        for action in ("subscribe", "publish"):
            async with connect(
                f"{served.url}/v1/streams/{kind.replace(' ', '-')}/{action}",
                additional_headers={"Authorization": f"Bearer {everything()}"},
            ) as connection:
                seen[f"{kind}: {action}"] = await send_in_band(connection, token)
        with pytest.raises(InvalidStatus) as caught:
            await connect(
                f"{served.url}/v1/streams/demo/subscribe",
                subprotocols=[Subprotocol("deltawire.bearer.two"), Subprotocol(f"deltawire.bearer.{len(token)}")],
            )
        assert caught.value.response.status_code == 401
    metrics = f"GET /metrics HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {everything()}\r\n\r\n"
    seen["metrics"] = await ask_raw(port, metrics)
    assert "deltawire_" in seen["metrics"]
    seen["log"] = await finish(served.process)
    assert "gateway.stopped" in seen["log"], "the log is read to its end"
    assert "Traceback" not in seen["log"]
    assert all(seen.values())
    canaries = [SECRET.decode(), *(secret for token in TOKENS.values() for secret in secrets_of(token))]
    assert [where for where, text in seen.items() for canary in canaries if canary in text] == []
