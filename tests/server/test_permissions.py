"""What a token does not allow is refused at every operation, in the same bytes whatever there is (SPEC §11.2)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from deltawire.gateway.hub import Hub
from deltawire.gateway.server import Gateway
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.messages import Policy
from deltawire.protocol.priority import RANKS, StreamClass
from tests.server.conftest import StartGateway
from tests.support.asking import http_client
from tests.support.minting import bearer, everything, token, write_secret
from tests.support.peers import consumer, producer, publish, text_delta
from tests.support.rawpeer import HANDSHAKE, RawPeer
from tests.support.waiting import eventually


@pytest.fixture
async def guarded(start_gateway: StartGateway, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that asks for tokens, with a stream `demo` of one event."""
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    async with producer(gateway, token=everything()) as writing:
        await publish(writing, text_delta("a secret of two"), upto=1)
        yield gateway


async def ask(gateway: Gateway, method: str, path: str, allowed: dict[str, Any] | None = None) -> httpx.Response:
    headers = {} if allowed is None else bearer(token(**allowed))
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return await client.request(method, path, headers=headers)


async def raw_answer(gateway: Gateway, request: str) -> bytes:
    """Every byte of an answer, but for the one line that says when it was given."""
    it = await RawPeer.connect(gateway.port)
    await it.send(request.encode())
    head = await it.read_head()
    body = await it.read_rest()
    it.close()
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Date:")]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


REQUESTS = [
    "GET /v1/streams/{id} HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "PUT /v1/streams/{id} HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "PUT /v1/streams/{id}?policy=block HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "DELETE /v1/streams/{id} HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "GET /v1/streams/{id}/events HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "GET /v1/streams/{id}/sse HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "POST /v1/streams/{id}/events HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n{auth}\r\n[]",
    "POST /v1/streams/{id}/signal HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n{auth}\r\n{}",
    "GET /v1/responses/{id} HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "GET /v1/responses/{id}?stream=true HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "POST /v1/responses/{id}/cancel HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "GET /v1/streams/{id}/ui-message-stream HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "GET /v1/streams/{id}/events?wait=60 HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    "GET /v1/streams/{id}/sse?nonsense HTTP/1.1\r\nHost: g\r\n{auth}\r\n",
    HANDSHAKE.replace("{path}", "/v1/streams/{id}/subscribe").replace("{headers}", "{auth}"),
    HANDSHAKE.replace("{path}", "/v1/streams/{id}/subscribe?after=9").replace("{headers}", "{auth}"),
    HANDSHAKE.replace("{path}", "/v1/streams/{id}/subscribe?nonsense").replace("{headers}", "{auth}"),
    HANDSHAKE.replace("{path}", "/v1/streams/{id}/publish").replace("{headers}", "{auth}"),
]


@pytest.mark.parametrize("holder", ["nobody", "somebody else"])
@pytest.mark.parametrize("request_form", REQUESTS)
async def test_unknown_and_forbidden_are_answered_in_the_same_bytes(
    guarded: Gateway, request_form: str, holder: str
) -> None:
    other = token(publish=["mine-*"], subscribe=["mine-*"], admin=["mine-*"], signal=["*"])
    auth = "" if holder == "nobody" else f"Authorization: Bearer {other}\r\n"
    answers = [
        await raw_answer(guarded, request_form.replace("{id}", stream).replace("{auth}", auth))
        for stream in ("demo", "none", "%64emo", "mine%2F..%2Fdemo", "x" * 200)
    ]
    assert len(set(answers)) == 1
    assert answers[0].startswith(b"HTTP/1.1 401" if holder == "nobody" else b"HTTP/1.1 403")
    assert b"secret of two" not in answers[0]
    assert guarded.hub.count() == 1, "nothing was created by asking"


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/v1/streams/demo", "subscribe"),
        ("GET", "/v1/streams/demo", "admin"),
        ("GET", "/v1/streams/demo/events", "subscribe"),
        ("PUT", "/v1/streams/demo", "admin"),
        ("DELETE", "/v1/streams/demo", "admin"),
    ],
)
async def test_each_route_has_its_action(guarded: Gateway, method: str, path: str, right: str) -> None:
    actions = ["publish", "subscribe", "signal", "admin"]
    assert (await ask(guarded, method, path, {right: ["demo"]})).status_code in (200, 409)
    others = {action: ["demo"] for action in actions if action not in (right, "subscribe", "admin")}
    assert (await ask(guarded, method, path, others)).status_code == 403
    assert (await ask(guarded, method, path, {right: ["dem"]})).status_code == 403
    if path.endswith("/events"):
        assert (await ask(guarded, method, path, {"admin": ["*"]})).status_code == 403


async def test_the_list_shows_what_may_be_seen(guarded: Gateway) -> None:
    assert (await ask(guarded, "PUT", "/v1/streams/demo2", {"admin": ["*"]})).status_code == 201

    async def listed(**allowed: Any) -> list[str]:
        return [info["id"] for info in (await ask(guarded, "GET", "/v1/streams", allowed)).json()]

    assert sorted(await listed(admin=["*"])) == ["demo", "demo2"]
    assert await listed(subscribe=["demo"]) == ["demo"]
    assert await listed(admin=["demo2"]) == ["demo2"]
    assert await listed(publish=["*"], signal=["*"]) == []


async def test_a_list_costs_what_may_be_seen_however_much_else_there_is(
    guarded: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        guarded.hub.create(f"other-{number}")
    told = create_autospec(Hub.describe, side_effect=Hub.describe)
    monkeypatch.setattr(Hub, "describe", told)
    for allowed, cost in (({"publish": ["*"]}, 0), ({"subscribe": ["demo", "none"]}, 1), ({"admin": ["de*"]}, 1)):
        told.reset_mock()
        assert (await ask(guarded, "GET", "/v1/streams", allowed)).status_code == 200
        assert told.call_count == cost


async def test_metrics_are_an_operator_s(guarded: Gateway) -> None:
    assert (await ask(guarded, "GET", "/metrics", {"admin": ["*"]})).status_code == 200
    assert (await ask(guarded, "GET", "/metrics", {"admin": ["a*"], "subscribe": ["*"]})).status_code == 403


async def test_reading_and_writing_need_their_own_permission(guarded: Gateway) -> None:
    async with consumer(guarded, token=token(subscribe=["demo"])) as reading:
        assert (await reading.read_until("caught_up"))[-1]["seq"] == 1
    async with producer(guarded, token=token(publish=["de*"])) as writing:
        await publish(writing, text_delta("b"), upto=2)
    for connecting in (
        consumer(guarded, token=token(publish=["demo"], admin=["*"])),
        producer(guarded, token=token(subscribe=["demo"], admin=["*"])),
    ):
        with pytest.raises(InvalidStatus) as caught:
            await connecting.__aenter__()
        assert caught.value.response.status_code == 403


async def test_a_bad_stream_id_is_still_explained_to_who_may_use_all(guarded: Gateway) -> None:
    async with consumer(guarded, stream="a%2Fb", token=everything()) as reading:
        assert [message.get("code") for message in await reading.read_all()] == ["bad_request"]


@pytest.mark.hears(ProblemCode.NOT_PERMITTED)
async def test_a_signal_is_judged_each_time_and_refusing_it_ends_nothing(guarded: Gateway) -> None:
    async with consumer(guarded, token=token(subscribe=["demo"])) as reading:
        await reading.read_until("caught_up")
        await reading.say({"type": "signal", "name": "cancel", "id": "1"})
        assert await reading.read() == {
            "type": "problem",
            "code": "not_permitted",
            "message": "the token does not allow to signal to this stream",
            "retryable": False,
        }
        await reading.say({"type": "token", "token": token(subscribe=["demo"], signal=["demo"])})
        assert (await reading.read())["type"] == "token_accepted"
        await reading.say({"type": "signal", "name": "cancel", "id": "2"})
        assert await reading.read() == {"type": "signal_result", "delivered": 1, "id": "2"}


@pytest.mark.parametrize(("query", "is_allowed"), [("", True), ("policy=coalesce", True), ("policy=block", False)])
async def test_a_policy_must_be_among_those_of_the_token(guarded: Gateway, query: str, *, is_allowed: bool) -> None:
    held = token(subscribe=["*"], admin=["*"], policies=["coalesce", "drop"])
    async with consumer(guarded, query, stream="new", token=held) as reading:
        if is_allowed:
            assert (await reading.read())["type"] == "subscribed"
        else:
            assert [message["code"] for message in await reading.read_all()] == ["forbidden"]
            assert reading.code == 4503
            assert guarded.hub.count() == 1
    allowed = {"admin": ["*"], "policies": ["coalesce", "drop"]}
    status = (await ask(guarded, "PUT", f"/v1/streams/other?{query}".rstrip("?"), allowed)).status_code
    assert status == (201 if is_allowed else 403)


async def test_a_producer_gives_its_stream_the_class_of_its_token(guarded: Gateway) -> None:
    presence = guarded.hub.dispatcher.presence
    allowed: dict[str, Any] = {"publish": ["*"], "class": "high"}
    async with producer(guarded, stream="new", token=token(**allowed)):
        assert presence.top == RANKS[StreamClass.HIGH]
        async with producer(guarded, stream="new", token=token(publish=["*"])):
            assert presence.top == RANKS[StreamClass.HIGH], "a token without a class leaves it"
    await eventually(lambda: presence.top == RANKS[StreamClass.NORMAL])
    allowed["class"] = "fast"
    assert (await ask(guarded, "GET", "/v1/streams", allowed)).status_code == 401


async def test_block_must_be_allowed_where_it_is_the_default_too(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path), policy=Policy.BLOCK)
    held = token(subscribe=["*"], policies=["coalesce"])
    async with consumer(gateway, token=held) as reading:
        assert [message["code"] for message in await reading.read_all()] == ["forbidden"]
    async with consumer(gateway, "policy=coalesce", token=held) as reading:
        assert (await reading.read())["policy"] == "coalesce"
    async with consumer(gateway, token=everything()) as reading:
        assert (await reading.read())["policy"] == "block"
        await reading.read_until("caught_up")
        await reading.say({"type": "token", "token": held})
        assert (await reading.read_all())[-1]["code"] == "forbidden"


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        ("deltawire.v1.json, deltawire.bearer.{}", b"deltawire.v1.json"),
        ("deltawire.bearer.{}, deltawire.v1.msgpack", b"deltawire.v1.msgpack"),
        ("deltawire.bearer.{}", None),
    ],
)
async def test_a_token_among_the_subprotocols_is_taken_and_never_named(
    guarded: Gateway, offered: str, selected: bytes | None
) -> None:
    held = everything()
    it = await RawPeer.connect(guarded.port)
    head = await it.upgrade("/v1/streams/demo/subscribe", f"Sec-WebSocket-Protocol: {offered.replace('{}', held)}\r\n")
    lines = head.split(b"\r\n")
    assert b" 101 " in lines[0]
    assert [line.partition(b": ")[2] for line in lines if line.lower().startswith(b"sec-websocket-protocol")] == (
        [] if selected is None else [selected]
    )
    assert held.encode() not in head
    if selected is None:
        assert (await it.read_message())["type"] == "subscribed"  # JSON
    it.close()


async def test_a_token_may_be_a_password_and_where_switched_on_in_the_query(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    guarded = await start_gateway(auth_key=write_secret(tmp_path), auth_query_token=True)
    address = f"http://127.0.0.1:{guarded.port}/v1/streams"
    async with http_client() as client:
        assert (await client.get(address, auth=("anybody", everything()))).status_code == 200
        assert (await client.get(address, params={"access_token": everything()})).status_code == 200
        assert (await client.get(address, params={"access_token": "bad"})).status_code == 401
    async with consumer(guarded, f"policy=block&access_token={everything()}&buffer=5") as reading:
        said = await reading.read()
        assert (said["policy"], said["buffer"]) == ("block", 5)
    async with consumer(guarded, f"access_token={everything()}&nonsense") as reading:
        assert everything()[:20] not in json.dumps(await reading.read_all())


async def test_without_a_key_tokens_say_nothing_and_are_never_quoted(gateway: Gateway) -> None:
    async with consumer(gateway, "access_token=canary&nonsense", token="canary") as reading:
        (said,) = await reading.read_all()
        assert said["code"] == "bad_request"
        assert "canary" not in json.dumps(said)
    async with consumer(gateway, "access_token=canary", token="canary") as reading:
        await reading.read_until("caught_up")
        await reading.say({"type": "token", "token": "canary"})
        assert await reading.read() == {"type": "token_accepted"}
