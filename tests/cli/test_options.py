"""Where a setting comes from: flag, environment, TOML file, default, in this order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from deltawire.gateway.cli.options import EVENT_TYPES, STREAM_ID, settings_options, url_option
from deltawire.gateway.config import Settings
from deltawire.gateway.configuring import make_settings
from deltawire.protocol.events import EventType
from deltawire.protocol.messages import Policy


@click.command
@settings_options
def show_settings(**values: Any) -> None:
    click.echo(msgspec.json.encode(make_settings(values)))


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(show_settings, arguments, env=environment)


def read(*arguments: str, **environment: str) -> Settings:
    result = run(*arguments, **environment)
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.output, type=Settings)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "deltawire.toml"
    path.write_text('port = 3\npolicy = "block"\ndrain_timeout = 3\nlog_level = "error"\n')
    return path


def test_without_anything_every_setting_has_its_default() -> None:
    assert read() == Settings()


def test_the_file_wins_over_the_default(config: Path) -> None:
    settings = read(f"--config={config}")
    assert settings == Settings(port=3, policy=Policy.BLOCK, drain_timeout=3.0, log_level="error")


def test_the_file_can_be_named_by_the_environment(config: Path) -> None:
    assert read(DELTAWIRE_CONFIG=str(config)).port == 3


def test_the_environment_wins_over_the_file(config: Path) -> None:
    settings = read(
        f"--config={config}", DELTAWIRE_PORT="2", DELTAWIRE_POLICY="disconnect", DELTAWIRE_DRAIN_TIMEOUT="2"
    )
    assert (settings.port, settings.policy, settings.drain_timeout) == (2, Policy.DISCONNECT, 2.0)
    assert settings.log_level == "error"


def test_the_flag_wins_over_the_environment(config: Path) -> None:
    arguments = ("--port=1", "--policy=drop_oldest", "--drain-timeout=1.5", f"--config={config}")
    settings = read(*arguments, DELTAWIRE_PORT="2", DELTAWIRE_POLICY="disconnect", DELTAWIRE_DRAIN_TIMEOUT="2")
    assert (settings.port, settings.policy, settings.drain_timeout) == (1, Policy.DROP_OLDEST, 1.5)
    assert settings.log_level == "error"


def test_a_flag_equal_to_the_default_still_wins(config: Path) -> None:
    assert read("--port=8765", f"--config={config}", DELTAWIRE_PORT="2").port == 8765


OTHER_TEXT = {
    "engine_url": "redis://localhost",
    "advertise_url": "wss://localhost",
    "sync": "off",
    "forwarded_header": "forwarded",
    "host": "localhost",
    "policy": "block",
    "stream_classes": "chat-*=high",
    "log_level": "error",
    "log_format": "json",
}


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_is_a_flag_a_variable_and_a_key(name: str, tmp_path: Path) -> None:
    default = getattr(Settings(), name)
    flag, variable = f"--{name.replace('_', '-')}", f"DELTAWIRE_{name.upper()}"
    if isinstance(default, bool):
        other: Any = not default
        given = flag if other else f"--no-{flag[2:]}"
    else:
        other = OTHER_TEXT.get(name, "something") if isinstance(default, str) else default + 1
        given = f"{flag}={other}"
    path = tmp_path / "one.toml"
    needed = {"engine_url": "redis://localhost"} if name.startswith(("engine_", "advertise_")) else {}
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in (needed | {name: other}).items()))
    expected = make_settings(needed | {name: other})
    assert read(f"--config={path}") == expected
    with_needed = {f"DELTAWIRE_{key.upper()}": value for key, value in needed.items()}
    assert read(**with_needed | {variable: str(other)}) == expected
    assert read(given, **with_needed) == expected
    help_text = run("--help").output
    assert f"{flag} " in help_text
    assert variable in help_text


def test_the_policy_alias_is_known_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "alias.toml"
    path.write_text('policy = "drop"')
    for settings in (read("--policy=drop"), read(DELTAWIRE_POLICY="drop"), read(f"--config={path}")):
        assert settings.policy is Policy.DROP_NEWEST


@pytest.mark.parametrize("content", ["otel = 1", 'otel = "true"', "otel = true"])
def test_a_file_may_say_a_switch_in_any_way_that_is_understood(content: str, tmp_path: Path) -> None:
    path = tmp_path / "switch.toml"
    path.write_text(content)
    assert read(f"--config={path}").otel is True


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"prot = 1", "unknown setting `prot`"),
        (b"port = 70000", "$.port"),
        (b'port = "many"', "$.port"),
        (b"port = true", "$.port"),
        (b'policy = "pray"', "$.policy"),
        (b"port = ", "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
        (b"[server]\nport = 1", "unknown setting `server`"),
    ],
)
def test_a_wrong_file_is_refused_and_named(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_bytes(content)
    result = run(f"--config={path}", "--port=1")
    assert result.exit_code == 2
    assert reason in result.output
    assert str(path) in result.output


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "No such file" in run(f"--config={tmp_path / 'absent.toml'}").output
    assert "Is a directory" in run(f"--config={tmp_path}").output


@pytest.mark.parametrize(
    "argument", ["--port=-1", "--port=65536", "--port=x", "--policy=pray", "--ping-interval=0", "--log-level=loud"]
)
def test_a_value_out_of_its_bounds_is_refused_and_its_flag_named(argument: str) -> None:
    result = run(argument)
    assert result.exit_code == 2
    assert argument.partition("=")[0] in result.output


def test_a_wrong_variable_is_refused_and_named() -> None:
    result = run(DELTAWIRE_PORT="x")
    assert result.exit_code == 2
    assert "DELTAWIRE_PORT" in result.output


def test_what_is_not_a_number_is_not_a_timeout() -> None:
    for text in ("nan", "inf"):
        result = run(f"--drain-timeout={text}")
        assert result.exit_code == 2
        assert "--drain-timeout" in result.output


@click.command
@url_option
@click.option("--stream", type=STREAM_ID, default="demo")
@click.option("--types", type=EVENT_TYPES, default=None)
def show_address(url: str, stream: str, types: frozenset[EventType] | None) -> None:
    click.echo(f"{url} {stream} {','.join(sorted(types or ()))}")


def test_the_address_comes_from_flag_environment_or_default() -> None:
    runner = CliRunner()
    environment = {"DELTAWIRE_URL": "wss://b"}
    assert runner.invoke(show_address, [], env={}).output == "ws://127.0.0.1:8765 demo \n"
    assert runner.invoke(show_address, [], env=environment).output == "wss://b demo \n"
    assert runner.invoke(show_address, ["--url=ws://[::1]:1/"], env=environment).output == "ws://[::1]:1 demo \n"


@pytest.mark.parametrize(
    "url", ["", "localhost", "http://a", "ws://", "ws://a:0", "ws://a:x", "ws://a:99999", "ws://a?b=c"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    result = CliRunner().invoke(show_address, [f"--url={url}"])
    assert result.exit_code == 2
    assert "--url" in result.output


@pytest.mark.parametrize("stream", ["", "..", "a/b", "é", "x" * 129])
def test_what_is_no_stream_id_is_refused(stream: str) -> None:
    assert CliRunner().invoke(show_address, [f"--stream={stream}"]).exit_code == 2


def test_types_are_a_list_of_known_ones() -> None:
    runner = CliRunner()
    assert runner.invoke(show_address, ["--types=usage,error"]).output.endswith("error,usage\n")
    assert "the types are" in runner.invoke(show_address, ["--types=usage,foo"]).output
