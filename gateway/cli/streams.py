"""`deltawire streams`: manage streams over HTTP (SPEC §9)."""

from __future__ import annotations

import sys
from functools import partial
from ssl import SSLContext
from typing import Any

import click
import msgspec

from deltawire.gateway.cli.asking import Asker, Info, Refusal, decode
from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import Failure
from deltawire.gateway.cli.options import POLICY, WholeRange, examples, stream_argument, url_option
from deltawire.gateway.cli.printable import escape_json, make_line
from deltawire.gateway.cli.reconnecting import Patience, patience_option
from deltawire.gateway.cli.trust import tls_options
from deltawire.protocol.addresses import MAX_BUFFER

COLUMNS = ("id", "head", "events", "bytes", "stored_bytes", "consumers", "producers", "closed", "last_active_at")
"""The fields of a stream's info that `list` shows; `info` and `--json` show all."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print the gateway's answer as JSON.")


@click.group(
    "streams",
    epilog=examples("deltawire streams list", "deltawire streams info demo --json", "deltawire streams close demo"),
)
def command() -> None:
    """List, inspect, create and close streams."""


@command.command("list", epilog=examples("deltawire streams list --url ws://gateway:8765"))
@json_option
@patience_option
@url_option
@token_options
@tls_options
def list_streams(*, as_json: bool, url: str, patience: Patience, token: GivenToken, tls: SSLContext | None) -> None:
    """List all streams."""
    infos = patience.insist(Asker(url, token, tls).list_streams)
    if as_json:
        _print_json(f"{msgspec.json.encode(infos).decode()}\n")
        return
    rows = [[_cell(info.get(column)) for column in COLUMNS] for info in infos]
    click.echo(_table([list(COLUMNS), *rows]))


@command.command("info", epilog=examples("deltawire streams info demo"))
@stream_argument
@json_option
@patience_option
@url_option
@token_options
@tls_options
def show_info(  # noqa: PLR0913 - one argument an option
    *, stream: str, as_json: bool, url: str, patience: Patience, token: GivenToken, tls: SSLContext | None
) -> None:
    """Show everything the gateway reports about STREAM."""
    _show(patience.insist(partial(Asker(url, token, tls).ask, "GET", stream)), as_json=as_json)


@command.command(
    "create",
    epilog=examples("deltawire streams create demo", "deltawire streams create demo --policy block --buffer 500"),
)
@stream_argument
@click.option("--policy", type=POLICY, help="Policy for consumers that choose none.")
@click.option("--buffer", type=WholeRange(1, MAX_BUFFER), help="Lag limit, in events, for consumers that choose none.")
@json_option
@patience_option
@url_option
@token_options
@tls_options
def create_stream(  # noqa: PLR0913 - one argument an option
    *,
    stream: str,
    policy: str | None,
    buffer: int | None,
    as_json: bool,
    url: str,
    patience: Patience,
    token: GivenToken,
    tls: SSLContext | None,
) -> None:
    """Create STREAM. Publishing creates it too, but with the gateway's default policy and buffer."""
    asked = {name: str(value) for name, value in (("policy", policy), ("buffer", buffer)) if value is not None}
    try:
        answer = patience.insist(partial(Asker(url, token, tls).ask, "PUT", stream, asked))
    except Refusal as refusal:
        if refusal.is_taken and patience.has_waited:  # a proxy may have lost the answer, and its info can't tell
            raise Failure(f"{refusal}: perhaps an earlier try of this command created it") from None
        raise
    _show(answer, as_json=as_json)


@command.command("close", epilog=examples("deltawire streams close demo"))
@stream_argument
@json_option
@patience_option
@url_option
@token_options
@tls_options
def close_stream(  # noqa: PLR0913 - one argument an option
    *, stream: str, as_json: bool, url: str, patience: Patience, token: GivenToken, tls: SSLContext | None
) -> None:
    """Close STREAM: readers still get its remaining events; it can be replayed until its retention ends."""
    _show(patience.insist(partial(Asker(url, token, tls).ask, "DELETE", stream)), as_json=as_json)


def _show(answer: bytes, *, as_json: bool) -> None:
    info = decode(answer, Info)
    if as_json:
        _print_json(answer.decode(errors="replace"))
        return
    click.echo(_table([[f"{make_line(name)}:", _cell(value)] for name, value in info.items()]))


def _print_json(text: str) -> None:
    click.echo(escape_json(text) if sys.stdout.isatty() else text, nl=False)


def _cell(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{make_line(name)} {_cell(number)}" for name, number in value.items())
        case _:
            return make_line(str(value))


def _table(rows: list[list[str]]) -> str:
    """Rows in columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
