"""The end of a command: an exit status and one line for a person, never a traceback."""

from __future__ import annotations

import errno
import os
import socket
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
    """Exit statuses; a status above 128 is 128 + the signal that a shell user would expect."""

    DONE = 0
    FAILED = 1
    MISUSED = 2
    INTERRUPTED = INTERRUPTED
    READER_GONE = 141  # SIGPIPE, which Python ignores: a socket that breaks must not kill the process


class Failure(click.ClickException):
    """The command could not do its work; the message is one line that says why."""

    exit_code = Status.FAILED


class StartFailure(click.ClickException):
    """The gateway could not start; the message is one line that says why."""

    exit_code = Status.MISUSED


@contextmanager
def wrong_arguments_told() -> Iterator[None]:
    """Report a wrong argument of a client as a usage error of the command."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def say(text: str) -> None:
    """Print one line for the user on standard error; control characters in it are made harmless."""
    try:
        click.echo(f"deltawire: {make_line(text)}", err=True)
    except OSError:  # nobody reads standard error: no reason to stop
        _discard(sys.stderr.fileno())


def is_output_full(error: OSError) -> bool:
    """Whether there is no room for standard output: without a file's name such an error is about nothing else."""
    return error.errno in _FULL and error.filename is None


def explain(error: OSError) -> str:
    """Why a system call failed, in words."""
    if is_output_full(error):
        return f"standard output can't be written: {error.strerror}"
    return str(error)


def cannot_listen(host: str, port: int, error: OSError | UnicodeError) -> str:
    """That an address can't be listened on, and why, in one line."""
    if isinstance(error, UnicodeError):
        reason = "not a host name"
    elif isinstance(error, socket.gaierror) or not error.errno:
        reason = error.strerror or str(error)
    else:
        reason = os.strerror(error.errno)
    return f"can't listen on {host}:{port}: {reason}"


def discard_output() -> None:
    """Redirect standard output to /dev/null, so that the interpreter's last flush can't fail."""
    _discard(sys.stdout.fileno())


def _discard(fd: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)
