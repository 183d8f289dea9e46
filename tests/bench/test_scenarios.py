"""Every scenario runs, with tiny numbers and for a moment: that figures come, never how good they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scripts.bench import peers
from scripts.bench.curves import CURVES
from scripts.bench.deltawire import Deltawire, EventStream
from scripts.bench.effort import Effort
from scripts.bench.peer import Peer
from scripts.bench.peers import Broadcast, Floor, JetStream, Nats, Nchan, Ws
from scripts.bench.scenarios import SCENARIOS
from scripts.bench.stalled import measure_stalled
from tests.support.processes import ROOT
from tests.support.running import run_script

TINY = Effort(rounds=1, warmup=0.05, seconds=0.2, part=0.003, part_of_load=0.02)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")


@pytest.mark.parametrize("letter", "AFGIJ")  # B to E are A with other numbers
def test_a_scenario_gives_all_its_figures(letter: str) -> None:
    scenario = SCENARIOS[letter]
    figures = scenario.measure(Deltawire(), TINY)
    assert figures.keys() >= set(scenario.metrics)
    assert figures.get("lost", 0) == 0
    assert figures.get("unacked", 0) == 0


@pytest.mark.parametrize("letter", "AN")
@pytest.mark.parametrize("engine", ["off", "always"])
def test_a_scenario_gives_all_its_figures_with_a_store(letter: str, engine: str) -> None:
    scenario = SCENARIOS[letter]
    peer = Deltawire(engine=engine)
    assert scenario.suits(peer)
    figures = scenario.measure(peer, TINY)
    assert figures.keys() >= set(scenario.metrics)
    assert figures.get("lost", 0) == 0
    assert figures.get("unacked", 0) == 0


def test_a_policy_is_measured_with_and_without_a_stalled_consumer() -> None:
    figures = measure_stalled(Deltawire(), TINY, "disconnect")
    assert figures.keys() >= set(SCENARIOS["H"].columns)


def test_a_storm_ends_also_with_authentication_on() -> None:
    figures = SCENARIOS["K"].measure(Deltawire(is_authenticating=True), TINY)
    assert figures.keys() >= set(SCENARIOS["K"].metrics)
    assert (figures["not_caught_up"], figures["lost"], figures["doubled"]) == (0, 0, 0)


PEERS = [EventStream(), Floor(), Broadcast(), Nchan(), Nats(), Ws(), JetStream(), JetStream("always")]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_delivers(peer: Peer) -> None:
    if peer.absence():
        pytest.skip(f"absent: {peer.absence()}")
    figures = SCENARIOS["A"].measure(peer, TINY)
    assert figures["sent"] > 0
    assert figures["lost"] == 0


def test_what_is_absent_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peers, "NODE_FOLDER", ROOT / ".venv" / "nowhere")
    monkeypatch.setattr(peers, "NCHAN_MODULE", tmp_path / "ngx_nchan_module.so")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert Ws().absence() in {"apt install nodejs npm", "npm install --prefix .venv/nowhere ws@8"}
    assert Nchan().absence() == "apt install nginx libnginx-mod-nchan"
    assert Nats().absence() == ".venv/bin/pip install --group bench"


@pytest.mark.parametrize("name", ["consumers", "backlog", "answer"])  # the others are scenarios with other numbers
def test_a_curve_gives_what_it_draws(name: str) -> None:
    curve = CURVES[name]
    assert curve.measure(Deltawire(), curve.values[0], TINY).keys() >= set(curve.figures)


def test_a_plot_is_a_small_svg_file_and_the_same_each_time(tmp_path: Path) -> None:
    plots = pytest.importorskip("scripts.bench.plots", reason="matplotlib comes with `make bench`")
    panels = [("cpu_us", {"deltawire": {1: 2.0, 10: 1.0}})]
    first, second = (tmp_path / name for name in ("first.svg", "second.svg"))
    plots.draw(first, "consumers", panels)
    plots.draw(second, "consumers", panels)
    assert first.read_bytes() == second.read_bytes()
    assert b"<svg" in first.read_bytes()
    assert first.stat().st_size < 40_000


@pytest.mark.slow
async def test_the_command_prints_and_keeps_what_it_measured(tmp_path: Path) -> None:
    figures, tables = tmp_path / "figures.json", tmp_path / "tables.md"
    output = await run_script(
        *("-m", "scripts.bench", "--scenarios", "A,I", "--part", "0.02", "--seconds", "0.2"),
        *("--rounds", "2", "--peers", "none", "--engine", "memory,off", "--json", figures, "--markdown", tables),
    )
    assert "A: 1 stream, 500 consumers" in output
    assert "| system | delivered/s |" in tables.read_text()
    assert "| disk | p50 ms |" in tables.read_text()
    kept = json.loads(figures.read_bytes())
    assert len(kept["runs"]["A"]["deltawire"]) == len(kept["runs"]["A"]["deltawire off"]) == 2
    assert kept["machine"]["revision"]
