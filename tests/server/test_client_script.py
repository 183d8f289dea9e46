"""`/client/deltawire.js`, the client for web pages (SPEC §9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltawire.gateway.server import Gateway, http
from tests.server.conftest import StartGateway
from tests.support.asking import http_client

PATH = "/client/deltawire.js"
SCRIPT = (Path(http.__file__).parent / "deltawire.js").read_bytes()


async def test_the_client_is_served_as_a_script_that_browsers_keep_and_ask_about(gateway: Gateway) -> None:
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        response = await client.get(PATH)
        assert (response.status_code, response.content) == (200, SCRIPT)
        assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-cache"
        tag = response.headers["ETag"]
        for known in (tag, f"W/{tag}", f'"older", {tag}'):
            again = await client.get(PATH, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
            assert "Content-Length" not in again.headers
        assert (await client.get(PATH, headers={"If-None-Match": '"older"'})).content == SCRIPT
        head = await client.head(PATH, headers={"Accept-Encoding": "identity"})
        assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(SCRIPT)), b"")
        assert (await client.put(PATH)).status_code == 405


@pytest.mark.parametrize(
    ("accepted", "coding"), [("br, GZIP", "gzip"), ("br", None), ("gzip;q=0", None), ("identity", None)]
)
async def test_it_comes_compressed_for_who_takes_that_and_each_form_has_its_tag(
    start_gateway: StartGateway, accepted: str, coding: str | None
) -> None:
    gateway = await start_gateway(allowed_origins="https://app.example.org")
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        headers = {"Origin": "https://app.example.org", "Accept-Encoding": accepted}
        response = await client.get(PATH, headers=headers)
        assert (response.headers.get("Content-Encoding"), response.content) == (coding, SCRIPT)
        assert response.headers.get_list("Vary") == ["Accept-Encoding", "Origin"]
        tag = response.headers["ETag"]
        assert (await client.get(PATH, headers=headers | {"If-None-Match": tag})).status_code == 304
        other = {"Accept-Encoding": "identity" if coding else "gzip", "If-None-Match": tag}
        assert (await client.get(PATH, headers=headers | other)).status_code == 200


async def test_a_page_of_an_allowed_origin_may_import_it(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(allowed_origins="https://app.example.org")
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        response = await client.get(PATH, headers={"Origin": "https://app.example.org"})
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
        assert (await client.get(PATH, headers={"Origin": "https://other.example.org"})).status_code == 403


@pytest.mark.parametrize("path", ["/client", "/client/", "/client/react.js", f"{PATH}/"])
async def test_nothing_else_is_below_its_path(gateway: Gateway, path: str) -> None:
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        assert (await client.get(path)).status_code == 404
