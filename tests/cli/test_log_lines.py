"""What a running gateway logs of a connection: a line for its beginning, one for its end, whatever it is called."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest

from tests.support.processes import Start
from tests.support.rawpeer import CLOSE, frame, raw_peer, text

BAD = ("\r", "\n", "\x1b", "\u2028", "\x85", "\u009b")
"""Ends a line, or drives a terminal, somewhere."""
ENCODED = "%0D%0A%1B%5B2J%E2%80%A8%C2%85%C2%9B%ED%A0%80%FF"
REASON = "\x1b[2J\r\nlevel=error\u2028\x85".encode()
CANARY = "what-the-answer-says"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.secret.token"


async def _talk(port: int) -> None:
    """Come and go in every way that has words of a peer in it."""
    good = "/v1/streams/demo"
    for path, headers in (
        (f"/v1/streams/x{ENCODED}/subscribe", ""),
        (f"{good}/subscribe?policy={ENCODED}", ""),
        (f"{good}/publish?producer={ENCODED}", ""),
        (f"{good}/subscribe?access_token={TOKEN}", ""),
        (f"{good}/subscribe", f"Authorization: Bearer {TOKEN}\r\nUser-Agent: \u0085\u2028\u00ff\r\n"),
    ):
        async with raw_peer(port, path, headers=headers) as it:
            await it.read_message()
            await it.send(frame(CLOSE, b"\x03\xe8" + REASON))
            await it.read_ending()
    async with raw_peer(port, f"{good}/publish?producer=p1", headers="User-Agent: one\r\nUser-Agent: two\r\n") as it:
        await it.read_until("ready")
        await it.send(text({"type": "message_start", "data": {"message_id": "m" + "".join(BAD)}}))
        await it.send(text({"type": "text_delta", "data": {"text": CANARY}}) * 3)
        await it.send(text({"type": "text_delta", "data": {CANARY: 1}}))
        await it.read_until("problem")
        await it.send(frame(CLOSE, b"\x03\xe8"))
        await it.read_ending()


async def _logged(start: Start, form: str, level: str = "info") -> list[str]:
    """The lines a gateway logs from its beginning to its end, with such peers in between."""
    process = await start("serve", "--port", "0", "--log-format", form, "--log-level", level)
    assert process.stderr is not None
    first = (await process.stderr.readline()).decode()
    port = re.search(r"\bport\"?[:=] ?(\d+)", first)
    assert port is not None, first
    await _talk(int(port[1]))
    process.send_signal(signal.SIGTERM)
    output = first + (await process.stderr.read()).decode()
    assert await process.wait() == 0
    assert CANARY not in output
    assert TOKEN not in output
    assert not [letter for letter in BAD if letter in output.replace("\n", "")]
    return output.rstrip("\n").split("\n")


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_each_line_is_one_json_object_whatever_peers_say(start: Start, level: str) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in await _logged(start, "json", level)]
    names = [line["event"] for line in lines]
    assert (names.count("consumer.ended"), names.count("producer.ended")) == (4, 2)
    ended = [line for line in lines if line["event"] in ("consumer.ended", "producer.ended")]
    assert all({"connection", "remote", "stream", "code", "by", "seconds"} <= set(line) for line in ended)
    assert [(line["code"], line["by"], line.get("events")) for line in ended] == [
        (4502, "gateway", None),
        (4502, "gateway", None),
        (4502, "gateway", None),
        (1000, "peer", 0),
        (1000, "peer", 0),
        (1000, "peer", 4),
    ]
    assert ended[4]["why"] == REASON.decode()
    assert not [line for line in lines if line["level"] == "error"]
    assert len({line["connection"] for line in lines if "connection" in line}) == 6


async def test_each_line_is_one_line_of_text_whatever_peers_say(start: Start) -> None:
    lines = await _logged(start, "console")
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+ \[\w+ *\] [a-z]+\.[a-z_]+", line) for line in lines), lines
    assert sum("consumer.ended" in line for line in lines) == 4


@pytest.mark.parametrize("what", ["consumer.connected", "producer.connected"])
async def test_a_beginning_names_the_program_of_the_peer(start: Start, what: str) -> None:
    agents = [line["agent"] for line in map(json.loads, await _logged(start, "json")) if line["event"] == what]
    assert any(agents)
    assert all(agent is None or re.fullmatch(r"[^\n]{1,100}", agent) for agent in agents)
