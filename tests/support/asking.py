"""Asking over plain HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.waiting import DEADLINE


def http_client(**options: Any) -> httpx.AsyncClient:
    """A client that reads no certificates, of which httpx would read all that the machine trusts each time."""
    return httpx.AsyncClient(**{"trust_env": False, "timeout": DEADLINE, "verify": False, **options})
