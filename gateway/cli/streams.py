"""`deltawire streams`: manage streams over HTTP (SPEC §9)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from ssl import SSLContext, create_default_context
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import click
import msgspec

from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import Failure
from deltawire.gateway.cli.options import POLICY, WholeRange, examples, stream_argument, url_option
from deltawire.gateway.cli.printable import escape_json, make_line
from deltawire.gateway.cli.trust import tls_options
from deltawire.gateway.client import ClientError
from deltawire.gateway.client.connection import HUNG_UP, hint_of, judge_attempt
from deltawire.gateway.http_client import NoAnswer, open_answer
from deltawire.protocol.addresses import MAX_BUFFER, MAX_LISTED, PREFIX
from deltawire.protocol.reasons import DECODE_ERRORS

TIMEOUT = 10.0
"""Seconds until the gateway has to answer, as for a WebSocket handshake."""

READ_TIMEOUT = 30.0
"""Seconds in which the gateway has to send the whole answer."""

MAX_ANSWER = 4 * 1024 * 1024
"""Maximum bytes of an answer; a page of 1000 streams has less than half of 1 MiB."""

NO_GATEWAY = "the server there is not a gateway"

COLUMNS = ("id", "head", "events", "bytes", "stored_bytes", "consumers", "producers", "closed", "last_active_at")
"""The fields of a stream's info that `list` shows; `info` and `--json` show all."""

Info: TypeAlias = dict[str, Any]
Answer = TypeVar("Answer", Info, list[Info])

json_option = click.option("--json", "as_json", is_flag=True, help="Print the gateway's answer as JSON.")


@click.group(
    "streams",
    epilog=examples("deltawire streams list", "deltawire streams info demo --json", "deltawire streams close demo"),
)
def command() -> None:
    """List, inspect, create and close streams."""


@command.command("list", epilog=examples("deltawire streams list --url ws://gateway:8765"))
@json_option
@url_option
@token_options
@tls_options
def list_streams(*, as_json: bool, url: str, token: GivenToken, tls: SSLContext | None) -> None:
    """List all streams."""
    infos: list[Info] = []
    asked = {"limit": str(MAX_LISTED)}
    while True:
        page = _decode(_ask("GET", url, "", token, tls, asked), list[Info])
        infos += page
        if len(page) != MAX_LISTED:
            break
        last = page[-1].get("id")
        if not isinstance(last, str) or last <= asked.get("after", ""):  # the loop would never end
            raise Failure(NO_GATEWAY)
        asked["after"] = last
    if as_json:
        _print_json(f"{msgspec.json.encode(infos).decode()}\n")
        return
    rows = [[_cell(info.get(column)) for column in COLUMNS] for info in infos]
    click.echo(_table([list(COLUMNS), *rows]))


@command.command("info", epilog=examples("deltawire streams info demo"))
@stream_argument
@json_option
@url_option
@token_options
@tls_options
def show_info(*, stream: str, as_json: bool, url: str, token: GivenToken, tls: SSLContext | None) -> None:
    """Show everything the gateway reports about STREAM."""
    _show(_ask("GET", url, stream, token, tls), as_json=as_json)


@command.command(
    "create",
    epilog=examples("deltawire streams create demo", "deltawire streams create demo --policy block --buffer 500"),
)
@stream_argument
@click.option("--policy", type=POLICY, help="Policy for consumers that choose none.")
@click.option("--buffer", type=WholeRange(1, MAX_BUFFER), help="Lag limit, in events, for consumers that choose none.")
@json_option
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
    token: GivenToken,
    tls: SSLContext | None,
) -> None:
    """Create STREAM. Publishing creates it too, but with the gateway's default policy and buffer."""
    asked = {name: str(value) for name, value in (("policy", policy), ("buffer", buffer)) if value is not None}
    _show(_ask("PUT", url, stream, token, tls, asked), as_json=as_json)


@command.command("close", epilog=examples("deltawire streams close demo"))
@stream_argument
@json_option
@url_option
@token_options
@tls_options
def close_stream(*, stream: str, as_json: bool, url: str, token: GivenToken, tls: SSLContext | None) -> None:
    """Close STREAM: readers still get its remaining events; it can be replayed until its retention ends."""
    _show(_ask("DELETE", url, stream, token, tls), as_json=as_json)


def _ask(  # noqa: PLR0913, PLR0917 - the parts of a request
    method: str,
    url: str,
    stream: str,
    token: GivenToken,
    tls: SSLContext | None,
    params: dict[str, str] | None = None,
) -> bytes:
    """The body the gateway answers with.

    Args:
        method: GET, PUT or DELETE.
        url: the gateway's WebSocket address; its HTTP side is on the same port.
        stream: the stream id; empty for all streams.
        token: the token to send.
        tls: the TLS context; None trusts the system's CAs.
        params: the parameters of the query string.

    Raises:
        Failure: the gateway did not answer, or refused.
    """
    address = f"http{url.removeprefix('ws')}{PREFIX}" + (f"/{quote(stream, safe='')}" if stream else "")
    text = token() if callable(token) else token
    headers = {"Accept-Encoding": "identity"} | ({} if text is None else {"Authorization": f"Bearer {text}"})
    try:
        trusted = tls or create_default_context()
        with open_answer(method, address, params=params, headers=headers, timeout=TIMEOUT, tls=trusted) as answer:
            body = _read(answer.pieces)
    except UnicodeError:
        raise Failure("the token has a character that is not allowed in tokens") from None
    except NoAnswer as error:
        raise Failure(_explain(error, url, tls)) from None
    if not answer.is_success:
        raise Failure(f"{_problem(body) or answer.reason} (HTTP {answer.status})")
    return body


def _read(pieces: Iterable[bytes]) -> bytes:
    """A body, as long and as slow as that of a gateway may be."""
    over_at = time.monotonic() + READ_TIMEOUT
    body = b""
    for piece in pieces:
        body += piece
        if len(body) > MAX_ANSWER or time.monotonic() > over_at:
            raise Failure(f"{NO_GATEWAY}: its answer does not end")
    return body


def _explain(error: NoAnswer, url: str, tls: SSLContext | None) -> str:
    """Why there was no answer, in the words of the commands that follow streams."""
    if error.system_error is not None:
        verdict = judge_attempt(error.system_error, hint_of(url, tls))
        if isinstance(verdict, ClientError):
            return str(verdict)
    elif error.hung_up:
        verdict = HUNG_UP + hint_of(url, tls)
    else:
        verdict = str(error).lower()
    return f"no gateway at {url}: {verdict}"


def _problem(body: bytes) -> str:
    """The gateway's own explanation of a refusal (RFC 9457); empty if there is none."""
    try:
        problem = _decode(body, Info)
    except Failure:
        problem = {}
    return str(problem.get("detail") or problem.get("title") or "")


def _decode(answer: bytes, wanted: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(answer, type=wanted)
    except DECODE_ERRORS:
        raise Failure(NO_GATEWAY) from None


def _show(answer: bytes, *, as_json: bool) -> None:
    info = _decode(answer, Info)
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
