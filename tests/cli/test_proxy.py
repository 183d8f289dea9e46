"""`deltawire proxy`, as a process."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import sys
from asyncio.subprocess import PIPE
from urllib.parse import urlsplit

import pytest

from tests.support.asking import http_client
from tests.support.processes import ROOT, Run, Start, clean_environment, wait_logged
from tests.support.rawpeer import RawPeer
from tests.support.serving import listening
from tests.support.waiting import DEADLINE

BODY = b'data: {"id":"c-1","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

EXTRA = ("aiohappyeyeballs", "httptools", "uvicorn")
needs_extra = pytest.mark.skipif(None in map(importlib.util.find_spec, EXTRA), reason="the extra deltawire[proxy]")


async def is_listening(port: int) -> bool:
    """Whether new connections are accepted; asking over one that is kept would meet the end of that one."""
    try:
        peer = await RawPeer.connect(port)
    except ConnectionError:
        return False
    peer.close()
    return True


@needs_extra
async def test_it_passes_answers_on_ends_them_at_sigterm_and_logs_no_key(start: Start, gateway: str) -> None:
    go_on = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + BODY)
        await go_on.wait()
        writer.write(b"data: [DONE]\n\n")

    async with listening(answer) as port, http_client() as client:
        process = await start(
            "proxy",
            f"--upstream=http://127.0.0.1:{port}",
            f"--gateway={gateway}",
            "--stream-prefix=answers-",
            "--port=0",
            stderr=PIPE,
        )
        started = await wait_logged(process, "proxy.started")
        url = f"{started['url']}/v1/chat/completions?key=sk-query"
        async with client.stream("POST", url, headers={"Authorization": "Bearer sk-head"}) as response:
            assert response.headers["x-deltawire-stream"].startswith("answers-")
            pieces = response.aiter_raw()
            assert await anext(pieces) == BODY
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE):
                while await is_listening(started["port"]):
                    pass
            go_on.set()
            assert b"".join([piece async for piece in pieces]) == b"data: [DONE]\n\n"
    async with asyncio.timeout(DEADLINE):
        _, errors = await process.communicate()
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in errors.splitlines()] == ["proxy.stopped"]
    assert b"sk-" not in errors + json.dumps(started).encode()


@needs_extra
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--upstream", "ftp://x"), "upstream: expected http"),
        (("--upstream", "http://x", "--gateway", "http://x"), "'--gateway' (env var: 'DELTAWIRE_URL'): expected ws://"),
        (("--upstream", "http://x", "--readers", "x"), "'--readers': expected ws://"),
        (("--upstream", "http://x", "--stream-prefix", "a*"), "stream_prefix: expected at most 96 characters"),
        (("--upstream", "http://x", "--host", "0.0.0.0"), "--insecure-no-auth"),
        ((), "Missing option '--upstream'"),
    ],
)
async def test_wrong_arguments_are_one_line_and_status_2(run: Run, arguments: tuple[str, ...], complaint: str) -> None:
    done = await run("proxy", *arguments)
    assert done.status == 2
    assert complaint in done.errors


@needs_extra
async def test_a_busy_port_is_one_line_and_status_2(run_process: Run, gateway: str) -> None:
    port = urlsplit(gateway).port
    done = await run_process("proxy", "--upstream", "http://x", f"--port={port}")
    assert done.status == 2
    assert done.errors == f"deltawire: error: can't listen on 127.0.0.1:{port}: Address already in use\n"


async def test_without_the_extra_it_says_what_to_install() -> None:
    blocked = "import sys; sys.modules['uvicorn'] = None; from deltawire.gateway.cli import main; sys.exit(main())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", blocked, "proxy", "--upstream", "http://x", cwd=ROOT, stderr=PIPE, env=clean_environment()
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"deltawire[proxy]" in errors
