"""The console at `/`: what is served, under which policy, and that it can be left out (SPEC §9)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from deltawire.gateway.server import Gateway, http
from deltawire.gateway.server.http.assets import CLIENT_PATH
from scripts.browser.first_paint import SIZE
from tests.server.conftest import StartGateway
from tests.support.asking import http_client

FOLDER = Path(http.__file__).parent / "console"
PATHS = {"/" if path.name == "index.html" else f"/console/{path.name}": path for path in sorted(FOLDER.iterdir())}
SCRIPTS = [path for path in FOLDER.iterdir() if path.suffix == ".js"]


@pytest.mark.parametrize("path", PATHS)
async def test_each_file_is_served_under_a_policy_that_lets_nothing_else_run(gateway: Gateway, path: str) -> None:
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        response = await client.get(path)
        assert (response.status_code, response.content) == (200, PATHS[path].read_bytes())
        policy = dict(rule.split(" ", 1) for rule in response.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-cache"
        again = await client.get(path, headers={"If-None-Match": response.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_all_that_is_loaded_for_it_is_60_kib_at_most_as_it_is_sent_and_as_it_is_in_the_end(
    gateway: Gateway,
) -> None:
    sent = 0
    for path in [*PATHS, CLIENT_PATH]:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip, br\r\n\r\n".encode())
        answer = await reader.read()
        assert b"\r\nContent-Encoding: gzip\r\n" in answer
        sent += len(answer)
        writer.close()
    assert sent <= SIZE
    assert sum(path.stat().st_size for path in [*PATHS.values(), FOLDER.parent / "deltawire.js"]) <= SIZE


async def test_without_the_setting_there_is_no_console(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(console=False)
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        for path in PATHS:
            for method in ("GET", "POST", "OPTIONS"):
                assert (await client.request(method, path)).status_code == 404
        assert (await client.get("/client/deltawire.js")).status_code == 200


def test_it_names_no_other_host_and_has_no_script_or_style_in_its_page() -> None:
    for path in PATHS.values():
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"""(?:src|href|from|import|url)\W{1,3}(?:https?:)?//""", text)
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script\b[^>]*>(.*?)</script>", page, re.DOTALL) == [""]
    assert not re.findall(r"<style|\son[a-z]+=|\sstyle=", page)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_of_text(script: Path) -> None:
    sinks = "innerHTML|outerHTML|insertAdjacentHTML|document.write|DOMParser|setHTML|eval\\(|Function\\(|srcdoc"
    assert not re.findall(sinks, script.read_text(encoding="utf-8"))
