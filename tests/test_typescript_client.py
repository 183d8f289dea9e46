"""The TypeScript client (scripts/client) passes the conformance cases, and is what the gateway serves."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.support.conformance import CASES, PlayedGateway, check
from tests.support.node import run_node
from tests.support.processes import ROOT

CLIENT = ROOT / "scripts" / "client"


@pytest.mark.parametrize("about", CASES)
async def test_the_client_does_what_the_cases_want(about: str) -> None:
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(PlayedGateway(case)) for case in CASES[about]]
        given = [{"url": gateway.url, **case} for case, gateway in zip(CASES[about], gateways, strict=True)]
        outcomes = await run_node(CLIENT / "test" / "conformance.mjs", given=given)
        for case, gateway, outcome in zip(CASES[about], gateways, outcomes, strict=True):
            check(case, gateway, outcome)
