"""What the README tells people to do works, and what it and the documents beside it name exists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from msgspec import structs

from deltawire.gateway.cli.command import cli
from deltawire.gateway.config import Settings
from tests.support.processes import ROOT, clean_environment
from tests.support.running import complaints

DOCUMENTS = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", ROOT / ".github" / "CHANGELOG.md"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
CODE = re.findall(r"`([^`\n]+)`", README) + re.findall(r"^\$ (.+)$", README, re.MULTILINE)
"""Inline code, and the commands of console sessions."""


def named(program: str) -> list[list[str]]:
    """The arguments of each call of a program that the README shows, up to a pipe or a redirection."""
    calls = (re.search(rf"(?:^|\| |\s){program} ([^|<>]+)", code) for code in CODE)
    return [call[1].split() for call in calls if call]


def command_of(arguments: list[str]) -> click.Command:
    """The command of `deltawire` that some arguments call."""
    command: click.Command = cli
    for argument in arguments:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), argument)
        assert found is not None, f"there is no deltawire {' '.join(arguments)}"
        command = found
    return command


def flags_of(command: click.Command) -> set[str]:
    options = (name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts))
    return {*options, "--help"}


def all_commands(command: click.Command = cli) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from all_commands(found)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_python_program_of_the_readme_runs_as_it_stands(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=False,
    )
    assert (done.returncode, complaints(done.stderr)) == (0, [])
    assert done.stdout


def test_every_make_target_of_the_readme_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wanted = {argument for arguments in named("make") for argument in arguments if argument.isalpha()}
    assert {"demo", "test"} <= wanted <= targets


def test_every_deltawire_command_of_the_readme_exists_with_its_flags() -> None:
    calls = named("deltawire")
    assert {"serve", "publish", "tail"} <= {arguments[0] for arguments in calls}
    for arguments in calls:
        flags = {argument.partition("=")[0] for argument in arguments if argument.startswith("-")}
        assert flags <= flags_of(command_of(arguments)), arguments


def test_every_flag_of_the_readme_that_stands_alone_belongs_to_a_command() -> None:
    wanted = {match[0] for code in CODE if (match := re.match(r"--[a-z-]+", code))}
    assert wanted <= set().union(*map(flags_of, all_commands()))


def test_the_table_of_settings_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| `([^`]*)` \|", README, re.MULTILINE)
    defaults = structs.asdict(Settings())
    assert rows == [(name, str(default)) for name, default in defaults.items()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_nothing_is_left_to_be_filled_in(document: Path) -> None:
    placeholders = r"GIT_URL|<[a-z]+ [a-z ]+>|\b(?:TODO|TBD|FIXME)\b"
    assert re.findall(placeholders, document.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_into_the_repository_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if link and not (document.parent / link).exists()] == []
