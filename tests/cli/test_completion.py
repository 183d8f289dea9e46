"""Completion of the command line: the scripts for shells, and what they are answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from deltawire.gateway.cli import main
from deltawire.gateway.cli.command import COMMANDS, cli
from deltawire.gateway.cli.completion import SHELLS, VARIABLE
from deltawire.protocol.messages import Policy
from tests.support.processes import ROOT, clean_environment

BASH = shutil.which("bash")


def complete(line: str) -> list[str]:
    """What a shell is offered at the end of a line."""
    *words, incomplete = line.split(" ")
    bash = get_completion_class("bash")(cli, {}, "deltawire", VARIABLE)
    return [item.value for item in bash.get_completions(words[1:], incomplete)]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("deltawire ", [*COMMANDS]),
        ("deltawire s", ["serve", "streams"]),
        ("deltawire to", ["top", "token"]),
        ("deltawire nope", []),
        ("deltawire --v", ["--version"]),
        ("deltawire --version ", [*COMMANDS]),
        ("deltawire completion ", [*SHELLS]),
        ("deltawire ex", ["export"]),
        ("deltawire export --o", ["--output"]),
        ("deltawire import --s", ["--stream"]),
        ("deltawire bench --p", ["--producers", "--prefix"]),
        ("deltawire top --i", ["--interval"]),
        ("deltawire streams c", ["create", "close"]),
        ("deltawire tail --pol", ["--policy"]),
        ("deltawire tail demo --policy ", [policy.value for policy in Policy]),
        ("deltawire serve --retention-e", ["--retention-events"]),
        ("deltawire serve --log-format ", ["auto", "json", "console"]),
    ],
)
def test_commands_options_and_values_are_offered(
    line: str, offered: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sorted(complete(line)) == sorted(offered)
    assert capsys.readouterr() == ("", ""), "it would land in the middle of the line"


def test_a_file_is_left_to_the_shell() -> None:
    bash = get_completion_class("bash")(cli, {}, "deltawire", VARIABLE)
    for words in (["serve", "--config"], ["import"], ["backup"], ["backup", "data"], ["export", "--output"]):
        [item] = bash.get_completions(words, "de")
        assert (item.type, item.value) == ("file", "de")


def test_a_misspelt_variable_is_no_matter_while_a_line_is_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DELTAWIRE_TOKNE", "x")
    monkeypatch.setenv("DELTAWIRE_CONFIG", "/nowhere")
    assert complete("deltawire tail demo --af") == ["--after"]
    assert complete("deltawire serve --pol") == ["--policy"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("line", ["deltawire ", "deltawire ta"])
def test_no_command_is_imported_to_complete_its_name(line: str) -> None:
    program = (
        "import sys\n"
        "from deltawire.gateway.cli import main\n"
        "try:\n"
        "    main([])\n"
        "finally:\n"
        "    print(*(name for name in sys.modules if name.startswith('deltawire.gateway.')), sep='\\n')\n"
    )
    environment = clean_environment(COMP_WORDS=line, COMP_CWORD="1", **{VARIABLE: "bash_complete"})
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    lines = done.stdout.splitlines()
    assert "plain,tail" in lines
    imported = {name.removeprefix("deltawire.gateway.cli.") for name in lines}
    assert "command" in imported
    assert not imported & {listed.module for listed in COMMANDS.values()}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_that_of_click_for_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"{VARIABLE}={shell}_complete" in script
    assert "_deltawire_completion" in script


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_accepts_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not here")
    main(["completion", shell])
    script = capsys.readouterr().out
    done = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(BASH is None, reason="bash is not here")
def test_bash_completes_with_the_script_of_the_help(tmp_path: Path) -> None:
    assert BASH is not None
    command = tmp_path / "deltawire"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m deltawire "$@"\n')
    command.chmod(0o755)
    typed = """
        eval "$(deltawire completion bash)"
        complete -p deltawire
        COMP_WORDS=(deltawire streams c) COMP_CWORD=2
        _deltawire_completion deltawire
        echo "${COMPREPLY[@]}"
    """
    environment = clean_environment(PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(
        [BASH, "--norc", "-c", typed], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    assert done.stderr == ""
    completed_by, offered = done.stdout.splitlines()
    assert completed_by.endswith("-F _deltawire_completion deltawire")
    assert offered.split() == ["close", "create"]


def test_help_says_how_to_install_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "--help"])
    said = capsys.readouterr().out
    for place in ("~/.bashrc", "~/.zshrc", "~/.config/fish/completions/deltawire.fish"):
        assert place in said
