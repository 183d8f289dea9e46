"""A real EventSource, npm's `eventsource`, follows a stream over lost connections to its end (SPEC §9.3)."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from deltawire.gateway.server import Gateway
from deltawire.gateway.server.http import event_streams
from deltawire.protocol.events import TextDelta
from tests.support.npm import installed
from tests.support.waiting import DEADLINE, eventually

FOLLOW = """
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
const say = (what) => console.log(JSON.stringify(what));
source.onmessage = ({ data, lastEventId }) => say({ ...JSON.parse(data), id: lastEventId });
for (const name of ["subscribed", "caught_up", "gap", "problem", "stream_end"])
  source.addEventListener(name, ({ data }) => say(JSON.parse(data)));
source.onerror = ({ code }) => {
  if (source.readyState !== EventSource.CLOSED) return;
  say({ type: "closed", code });
  process.exit();
};
"""


@pytest.fixture(scope="session")
def script() -> Path:
    """A program that prints what an EventSource gets, until that stops."""
    path = installed("eventsource", "4") / "follow.mjs"
    path.write_text(FOLLOW)
    return path


async def test_it_resumes_at_the_next_event_and_stops_where_the_stream_has_ended(
    gateway: Gateway, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "RETRY", (10, 30))  # milliseconds
    stream = gateway.hub.create("demo")
    url = f"{gateway.url.replace('ws:', 'http:')}/v1/streams/demo/sse?policy=block"
    process = await asyncio.create_subprocess_exec("node", script, url, stdout=PIPE)
    said = []
    try:
        assert process.stdout is not None
        async with asyncio.timeout(2 * DEADLINE):  # node may take long to start
            for text in "abc":
                await eventually(lambda: len(gateway._connections) == 1, "that it is connected")
                stream.send_nowait(TextDelta(text))
                while (message := json.loads(await process.stdout.readline()))["type"] != "text_delta":
                    said.append(message)
                said.append(message)
                [connection] = gateway._connections
                connection.abort("a connection that is lost")
                await eventually(lambda: not gateway._connections)
            await eventually(lambda: len(gateway._connections) == 1, "that it is connected again")
            stream.close()
            said += [json.loads(line) async for line in process.stdout]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    assert [message["data"]["text"] for message in said if message["type"] == "text_delta"] == ["a", "b", "c"]
    assert [message["after"] for message in said if message["type"] == "subscribed"] == [0, 1, 2, 3]
    assert [message["type"] for message in said[-2:]] == ["stream_end", "closed"]
    assert said[-1]["code"] == 204
