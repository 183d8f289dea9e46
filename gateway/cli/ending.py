"""How a command ends: exit status, one line for a person, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

import click

from deltawire.gateway.cli.interrupts import INTERRUPTED
from deltawire.gateway.cli.printable import make_line

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Status(IntEnum):
    """Exit statuses; above 128 they are 128 + the signal a shell user would expect to see."""

    DONE = 0
    FAILED = 1
    MISUSED = 2
    INTERRUPTED = INTERRUPTED
    READER_GONE = 141  # SIGPIPE, which Python ignores: a socket that breaks must not kill the process


class Failure(click.ClickException):
    """The command could not do its work; the message is the one line that says why."""

    exit_code = Status.FAILED


class StartFailure(click.ClickException):
    """The gateway could not start; the message is the one line that says why."""

    exit_code = Status.MISUSED


@contextmanager
def wrong_arguments_told() -> Iterator[None]:
    """Tell what a client was given wrongly as a wrong use of the command."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def say(text: str) -> None:
    """One line to the person at the keyboard, on standard error; what others said in it drives no terminal."""
    try:
        click.echo(f"deltawire: {make_line(text)}", err=True)
    except OSError:  # nobody reads it: not a reason to stop
        _discard(sys.stderr.fileno())


def explain(error: OSError) -> str:
    """Why the system did not do something, in words.

    Nothing but output grows here: what can't grow any more, and has no name, is standard output.
    """
    if error.errno in _FULL and error.filename is None:
        return f"standard output can't be written: {error.strerror}"
    return str(error)


def discard_output() -> None:
    """Let the interpreter flush what nobody reads any more without a word."""
    _discard(sys.stdout.fileno())


def _discard(fd: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)
