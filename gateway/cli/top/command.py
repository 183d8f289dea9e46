"""`deltawire top`: the streams of a gateway, live."""

from __future__ import annotations

import asyncio
import sys
from ssl import SSLContext

import click

from deltawire.gateway.cli.asking import Asker
from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import StartFailure, Status
from deltawire.gateway.cli.options import FiniteRange, examples, url_option
from deltawire.gateway.cli.terminal.keyboard import is_foreground
from deltawire.gateway.cli.trust import tls_options


@click.command(
    "top", epilog=examples("deltawire top", "deltawire top --url wss://gateway.example.org --token-file token")
)
@click.option(
    "--interval",
    type=FiniteRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks at the gateway; longer where a look takes long.",
)
@url_option
@tls_options
@token_options
def command(*, interval: float, url: str, tls: SSLContext | None, token: GivenToken) -> int:
    """Watch the streams of a gateway: events and bytes per second, producers, consumers, the first token.

    \b
    ↑ ↓ PgUp PgDn Home End   choose a stream
    Enter                    open it: its text, live; q goes back
    /                        filter by a part of the id; Esc clears it
    < >                      sort by the column to the left or right
    r                        reverse the order
    q                        quit

    Rates are those between two looks. Bytes are counted by the mean size of the events that a stream holds. The first
    token is the time from the start of the first message that a stream holds to its first delta.

    The second line has the figures of the whole gateway, with its largest lag and the mean first token since it was
    started; a token needs admin of all streams for them. If the gateway goes away, that line says so, and the table
    goes on when it is back.
    """  # noqa: D301 - \b tells click to keep line breaks
    try:
        from deltawire.gateway.cli.top.run import TopRun  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise StartFailure("`deltawire top` needs the extra: pip install 'deltawire[tui]'") from None
    if not (sys.stdin.isatty() and sys.stdout.isatty() and is_foreground(sys.stdin.fileno())):
        raise StartFailure("`deltawire top` needs a terminal; for programs, use `deltawire streams list --json`")
    asyncio.run(TopRun(Asker(url, token, tls), token, tls, interval).run())
    return Status.DONE
