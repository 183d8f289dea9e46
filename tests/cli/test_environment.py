"""Variables that begin with DELTAWIRE_: those that are none of ours are not passed over in silence."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from deltawire.gateway.cli.command import cli
from deltawire.gateway.cli.environment import known_variables, unknown_variables
from tests.support.processes import Run


def variables_of(command: click.Command) -> Iterator[str]:
    """What a command and those below it read from the environment."""
    for param in command.params:
        if param.envvar is not None:
            assert isinstance(param.envvar, str)
            yield param.envvar
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from variables_of(below)


def test_the_variables_known_are_those_that_commands_read() -> None:
    assert known_variables() == set(variables_of(cli))


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("DELTAWIRE_RETENTION_EVENT", "DELTAWIRE_RETENTION_EVENTS"),
        ("DELTAWIRE_DRAIN_TIME_OUT", "DELTAWIRE_DRAIN_TIMEOUT"),
        ("DELTAWIRE_MAX_CONNECTION", "DELTAWIRE_MAX_CONNECTIONS"),
        ("DELTAWIRE_TOKN", "DELTAWIRE_TOKEN"),
        ("DELTAWIRE_PROT", "DELTAWIRE_PORT"),
        ("DELTAWIRE_LOGLEVEL", "DELTAWIRE_LOG_LEVEL"),
        ("DELTAWIRE_STREAM", ""),
        ("DELTAWIRE_", ""),
    ],
)
def test_the_closest_known_name_is_found_where_one_is_close(name: str, closest: str) -> None:
    assert unknown_variables({name: "1", "PATH": "/bin"}) == {name: closest}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DELTAWIRE_PORT", "1"),
        ("DELTAWIRE_URL", "ws://g"),
        ("DELTAWIRE", "1"),
        ("MY_DELTAWIRE_STREAM", "demo"),
        ("DELTAWIRE_STREAM", ""),
        ("DELTAWIRE_SERVICE_HOST", "10.0.0.7"),
        ("DELTAWIRE_SERVICE_PORT", "8765"),
        ("DELTAWIRE_SERVICE_PORT_WSS", "8765"),
        ("DELTAWIRE_PORT_8765_TCP", "tcp://10.0.0.7:8765"),
        ("DELTAWIRE_PORT_8765_TCP_ADDR", "10.0.0.7"),
        ("DELTAWIRE_BLUE_SERVICE_HOST", "10.0.0.7"),
        ("DELTAWIRE_BLUE_PORT", "tcp://10.0.0.7:8765"),
        ("DELTAWIRE_BLUE_PORT_8765_TCP_PROTO", "tcp"),
    ],
)
def test_what_is_known_empty_or_made_by_kubernetes_is_none_of_them(name: str, value: str) -> None:
    assert unknown_variables({name: value}) == {}


@pytest.mark.parametrize("command", [("serve", "--port=0"), ("check-config",)])
async def test_serve_refuses_an_unknown_variable_in_one_line(run: Run, command: tuple[str, ...]) -> None:
    done = await run(*command, env={"DELTAWIRE_RETENTION_EVENT": "1000"})
    known = "did you mean DELTAWIRE_RETENTION_EVENTS?"
    assert (done.status, done.errors) == (
        2,
        f"deltawire: error: environment: unknown setting `DELTAWIRE_RETENTION_EVENT`; {known}\n",
    )
    done = await run(*command, env={"DELTAWIRE_STREAM": "demo", "DELTAWIRE_PORTS": "1"})
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert "`DELTAWIRE_STREAM`" in done.errors
    assert "`DELTAWIRE_PORTS`; did you mean DELTAWIRE_PORT?" in done.errors
    assert (await run(*command, "--help", env={"DELTAWIRE_STREAM": "demo"})).status == 0


async def test_the_variables_of_other_commands_are_no_errors_of_serve(run: Run) -> None:
    env = {"DELTAWIRE_URL": "ws://g", "DELTAWIRE_TOKEN": "t", "DELTAWIRE_TLS_CA": "/ca.pem"}
    assert (await run("check-config", env=env)).status == 0


@pytest.mark.parametrize("command", [("tail", "demo"), ("publish", "demo"), ("streams", "list")])
async def test_commands_that_connect_warn_of_what_looks_misspelt_and_go_on(
    run: Run, gateway: str, command: tuple[str, ...]
) -> None:
    await run("streams", "create", "demo", f"--url={gateway}")
    await run("streams", "close", "demo", f"--url={gateway}")
    env = {"DELTAWIRE_URL": gateway, "DELTAWIRE_TOKN": "t", "DELTAWIRE_STREAM": "demo", "DELTAWIRE_MAX_MESSAGE": "9999"}
    warned = await run(*command, env=env)
    assert (
        warned.errors.splitlines()[0]
        == "deltawire: warning: variable DELTAWIRE_TOKN is unknown; did you mean DELTAWIRE_TOKEN?"
    )
    del env["DELTAWIRE_TOKN"]
    silent = await run(*command, env=env)
    assert "warning" not in silent.errors
    assert silent.status == warned.status == 0
