"""Reading `/metrics` as Prometheus does."""

from __future__ import annotations

from typing import TypeAlias

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from deltawire.gateway.server import Gateway
from tests.support.asking import http_client

Series: TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(gateway: Gateway) -> list[Metric]:
    """All metric families, parsed."""
    async with http_client() as client:
        answer = await client.get(f"http://127.0.0.1:{gateway.port}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return list(text_string_to_metric_families(answer.text))


async def series(gateway: Gateway) -> Series:
    """Every series by name and labels."""
    samples = [sample for family in await scrape(gateway) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series was exposed twice"
    return found


class Scraper:
    """What moved since the last look."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._before: Series = {}

    async def look(self) -> None:
        """Remember how things stand."""
        self._before = await series(self._gateway)

    async def moved(self, name: str, **labels: str) -> float:
        """By how much one series has grown since the last look."""
        key = (name, frozenset(labels.items()))
        return (await series(self._gateway)).get(key, 0.0) - self._before.get(key, 0.0)

    async def value(self, name: str, **labels: str) -> float:
        """Where one series stands."""
        return (await series(self._gateway))[name, frozenset(labels.items())]
