"""What all commands have in common: help, version, misuse, an absent gateway, how they end."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator

import click
import pytest

from deltawire import __version__
from deltawire.gateway.cli import main
from deltawire.gateway.cli.command import COMMANDS, cli
from deltawire.gateway.requirements import UnmetRequirementError, check_server_requirements
from tests.support.processes import COMMAND, ROOT, Run, Start


def all_commands(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from all_commands(child, *path, name)


@pytest.mark.parametrize("path", list(all_commands(cli)), ids=lambda path: " ".join(path) or "deltawire")
def test_every_command_has_help_with_an_example(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--help", "-h"):
        assert main([*path, flag]) == 0
        help_text = capsys.readouterr().out
        assert "Examples:\n" in help_text
        assert " ".join(("deltawire", *path)) in help_text.partition("Examples:\n")[2]


@pytest.mark.parametrize("group", [(), ("streams",)])
def test_a_group_without_a_command_shows_its_help(group: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*group]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(COMMANDS))
def test_what_the_list_says_of_a_command_is_the_first_sentence_of_its_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.get_short_help_str(limit=1000) == COMMANDS[name].summary


@pytest.mark.parametrize(("name", "is_loaded"), [("serve", False), ("proxy", False), ("top", True)])
def test_rich_is_loaded_only_for_what_draws(name: str, *, is_loaded: bool) -> None:
    pytest.importorskip("rich", reason="needs the extra: pip install 'deltawire[tui]'")
    program = f"""
import sys
from deltawire.gateway.cli import main
main([{name!r}, "--help"])
print("rich.text" in sys.modules)
import rich
"""
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout.endswith(f"\n{is_loaded}\n"), "and whoever wants it afterwards can load it"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"deltawire {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nope"], "'nope'"),
        (["serve", "--port=65536"], "--port"),
        (["serve", "--port=abc"], "expected an integer from 0 up to 65535, got 'abc'"),
        (["serve", "--lease=abc"], "expected a finite number over 0, got 'abc'"),
        (["publish", "x", "--generation=1.5"], "expected an integer from 0, got '1.5'"),
        (["serve", "--prot=1"], "--prot"),
        (["serve", "extra"], "extra"),
        (["serve", "--drain-timeout=nan"], "--drain-timeout"),
        (["serve", "--policy=pray"], "coalesce"),
        (["serve", "--config=."], "Is a directory"),
        (["--nope"], "--nope"),
        (["tail"], "STREAM"),
        (["tail", "a/b"], "stream id 'a/b'"),
        (["tail", "x", "--policy=pray"], "coalesce"),
        (["tail", "x", "--types=text_delta,nope"], "the types are"),
        (["tail", "x", "--after=-1"], "--after"),
        (["tail", "x", "--epoch=e"], "--epoch needs --after"),
        (["tail", "x", "--epoch=e/", "--after=1"], "epoch"),
        (["tail", "x", "--from=now", "--after=1"], "give one"),
        (["tail", "x", "--policy=block", "--interval=5"], "interval"),
        (["tail", "x", "--buffer=0"], "--buffer"),
        (["tail", "x", "--url=localhost"], "ws://HOST:PORT"),
        (["publish", "x", "--format=xml"], "--format"),
        (["publish", "x", "--pace=0"], "--pace"),
        (["publish", "x", "--pace=nan"], "--pace"),
        (["publish", "x", "--producer=a/b"], "--producer"),
        (["publish", "x", "--generation=1"], "--generation needs --producer"),
        (["publish", "x", "--producer=p", f"--generation={2**60}"], "generation"),
        (["publish", "x", "--url=ws://user@host"], "user"),
        (["streams", "info"], "STREAM"),
        (["export"], "say which streams: their ids, or --all"),
        (["export", "x", "--all"], "say which streams: their ids, or --all"),
        (["export", "a/b"], "stream id 'a/b'"),
        (["import", "--stream=a/b"], "stream id 'a/b'"),
        (["backup", "data"], "TARGET"),
        (["streams", "nope"], "'nope'"),
        (["top", "--interval=0"], "--interval"),
        (["bench", "localhost"], "ws://HOST:PORT"),
        (["bench", "--producers=0"], "--producers"),
        (["bench", "--rate=nan"], "--rate"),
        (["bench", "--seconds=0"], "--seconds"),
    ],
)
def test_misuse_is_one_line_and_status_2(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("deltawire: error: ")
    assert reason in said.err


CONNECTING = [
    ("tail", "demo"),
    ("publish", "demo"),
    ("streams", "list"),
    ("export", "demo"),
    ("export", "--all"),
    ("bench",),
]


@pytest.mark.parametrize("arguments", CONNECTING)
async def test_an_absent_gateway_is_said_at_once_in_one_line(arguments: tuple[str, ...], run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"
    done = await run(*arguments, env={"DELTAWIRE_URL": url})
    assert done == (1, "", f"deltawire: error: no gateway at {url}: connection refused\n")


@pytest.mark.parametrize("arguments", CONNECTING)
async def test_an_unknown_host_is_one_line(arguments: tuple[str, ...], run: Run) -> None:
    done = await run(*arguments, env={"DELTAWIRE_URL": "ws://no-such-host.invalid:1"})
    assert done.status == 1
    assert len(done.errors.splitlines()) == 1
    assert done.errors.startswith("deltawire: error: no gateway at ws://no-such-host.invalid:1: ")


@pytest.mark.parametrize("line", ["--help", "tail --help", "--version", "streams list", "tail demo", "export demo"])
async def test_output_on_a_full_disk_is_one_line(line: str, start: Start, run: Run, gateway: str) -> None:
    await run("publish", "demo", "--close", "--format=text", f"--url={gateway}", stdin=b"some text")
    full = os.open("/dev/full", os.O_WRONLY)
    process = await start(*line.split(), env={"DELTAWIRE_URL": gateway}, stdout=full)
    os.close(full)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (
        1,
        b"deltawire: error: standard output can't be written: No space left on device\n",
    )


async def test_a_closed_standard_error_ends_nothing(start: Start, gateway: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = await start("streams", "info", "absent", f"--url={gateway}", stderr=writer)
    os.close(writer)
    await process.communicate()
    assert process.returncode == 1


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_a_stream_the_caller_closed_is_never_taken_by_a_socket(redirection: str, run: Run, gateway: str) -> None:
    await run("publish", "demo", "--close", f"--url={gateway}", stdin=b'{"type":"text_delta","data":{"text":"x"}}')
    line = f"{shlex.join(COMMAND)} tail demo --url={gateway} {redirection}"
    shell = await asyncio.create_subprocess_shell(line, cwd=ROOT, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    _, errors = await shell.communicate()
    assert b"Traceback" not in errors
    assert shell.returncode == 0


BESIDE_AN_OLD_LIBRARY = """
import sys, websockets.version
websockets.version.version = "15.0.1"
from deltawire.gateway.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("line", ["serve --port 0", "serve --help", "check-config"])
def test_a_gateway_that_can_not_run_here_says_in_one_line_what_it_needs(line: str) -> None:
    done = subprocess.run(
        (sys.executable, "-c", BESIDE_AN_OLD_LIBRARY, *line.split()), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "deltawire: error: a gateway needs websockets 17 or newer, and 15.0.1 is installed: "
        "run it in an environment of its own\n"
    )


def test_help_is_there_even_where_no_gateway_can_run() -> None:
    done = subprocess.run(
        (sys.executable, "-c", BESIDE_AN_OLD_LIBRARY, "--help"), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("installed", "is_enough"), [("15.0.1", False), ("16.1.1", False), ("17.0", True), ("17.4", True), ("18.0", True)]
)
def test_the_server_stands_on_a_library_that_reads_whole_requests(installed: str, *, is_enough: bool) -> None:
    if is_enough:
        check_server_requirements(installed)
    else:
        with pytest.raises(UnmetRequirementError, match=installed):
            check_server_requirements(installed)
