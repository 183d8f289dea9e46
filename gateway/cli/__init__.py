"""The `deltawire` command.

Tour: `command` — the command line, and how what goes wrong becomes an exit status · `interrupts` — Ctrl-C before that ·
`options` — flags, made from `Settings` where they are settings · `environment` — variables that are none of ours ·
`stdio` — standard input and output that hold nothing up · `loop` — of those that serve · `alongside` — several jobs at
a time · `reconnecting` — how long a gateway that is away is waited for · `ending` — how every command ends ·
`printable` — words of others, made harmless · `trust` — TLS of commands that connect · `credentials` — the token they
show · `asking` — what they ask over HTTP · `terminal` — where something is drawn · `whole_file` — files that are
written whole or not at all · `unneeded` — what is not loaded · one of each command: `serve` (with `systemd`,
`collector`), `publish` (with `encoding`), `tail`, `streams`, `top`, `bench`, `proxy`, `export` and `import_` (with
`exported`, their format), `backup`, `token`, `check_config`, `completion`.

An event's path: `publish` reads its `sources` → `client.Publisher` → the gateway → `client.Subscriber` → `tail`, which
has it shown by `render` or `rendered` → standard output.

What a person or a program asked for goes to standard output, everything else to standard error. A command ends with
0 when it did its work, 1 when it could not, 2 when it was asked wrongly (for `serve`: or could not start, but for a
store that can't be reached, which may pass), 130 after Ctrl-C, 141 when the reader of its output went away. `publish --
COMMAND` ends with the status of the command.
"""

from __future__ import annotations

import atexit
import gc
from importlib import import_module
from typing import Final

from deltawire.gateway.cli.interrupts import INTERRUPTED, ending_at_once

OBJECTS_PER_COLLECTION: Final = 100_000
"""More than loading a command makes: collecting garbage meanwhile took a seventh of the time and found none."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the command's name; None takes the process's own.

    Returns:
        The exit status.
    """
    gc.set_threshold(OBJECTS_PER_COLLECTION)
    if arguments is None:
        atexit.register(gc.freeze)  # an interpreter looks for garbage as it ends: 20 to 50 ms in all that it loaded
    try:
        with ending_at_once():  # the imports take most of the time that a person has to think better of it
            command = import_module(".command", __name__)
        return int(command.run(arguments))
    except KeyboardInterrupt:
        return INTERRUPTED
