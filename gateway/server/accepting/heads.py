"""Reading the head of a request that has a body.

The library reads requests of WebSockets, which have none, and refuses what says that it has one. Of a request that may
have a body (SPEC §9.6), the field that says how long it is never gets to the library. It gets everything else, and
every further such field, which it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Final

from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from deltawire.protocol.addresses import PREFIX

_WITH_BODY: Final = re.compile(rb"POST (?:(?i:https?)://[^/ ]+)?" + PREFIX.encode() + rb"/[^/ ?]*/events[ ?]")
_FIELD: Final = re.compile(rb"(content-length|transfer-encoding):[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)


class HeadReader(StreamReader):
    """Gives the library the lines of a request.

    Attributes:
        has_body: whether the request may have a body.
        kept: the field that was kept back, if there was one: its name in lower case, and its value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_body: bool | None = None
        self.kept: tuple[tuple[str, str], ...] = ()

    def read_line(self, m: int, too_long_exc_type: type[Exception] = RuntimeError) -> Generator[None, None, bytearray]:
        """The next line, as in the library."""
        while True:
            line = yield from super().read_line(m, too_long_exc_type)
            if self.has_body is None:
                self.has_body = _WITH_BODY.match(line) is not None
            if not self.has_body or self.kept or (field := _FIELD.fullmatch(line)) is None:
                return line
            self.kept = ((field[1].decode("ascii").lower(), field[2].decode("latin-1")),)


def read_heads(protocol: ServerProtocol) -> HeadReader:
    """Have a protocol that has read nothing read its request in this way."""
    reader = HeadReader()
    protocol.reader = reader
    protocol.parser.close()
    protocol.parser = protocol.parse()
    next(protocol.parser)
    return reader
