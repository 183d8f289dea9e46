"""A stored stream without an engine: tests commit, and answer for pages."""

from __future__ import annotations

from collections.abc import Iterator

from deltawire.gateway.streams.durable import DurableStream
from deltawire.gateway.streams.history import History
from deltawire.gateway.streams.log import EVENT_OVERHEAD, Ledger, Retention
from deltawire.gateway.streams.pages import PAGE_BYTES, Pages, StoredPage
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import JSON, decode_event, encode_event
from deltawire.protocol.events import Data, TextDelta
from deltawire.protocol.framing import TEXT, frame, payload_start, payloads
from deltawire.protocol.messages import Message
from tests.support.reading import STAMP


class Shelf(Pages):
    """Pages of frames that a test has: fetched when it says so.

    Attributes:
        wanted: streams and first seqs.
        frames: of all events, from seq 1 on.
        fault: why nothing can be read.
    """

    def __init__(self, ledger: Ledger, limit: int = 1 << 25) -> None:
        super().__init__(limit, ledger)
        self.wanted: list[tuple[DurableStream, int]] = []
        self.frames: list[bytes] = []
        self.fetch = lambda stream, first: self.wanted.append((stream, first))
        self.fault = ""

    def deliver(self, size: int = PAGE_BYTES) -> int:
        """Answer everything that is wanted; returns how many pages that were."""
        wanted, self.wanted = self.wanted, []
        for stream, first in wanted:
            frames: list[bytes] = []
            for found in self.frames[first - 1 : stream.history.last]:
                frames.append(found)
                if sum(map(len, frames)) >= size:
                    break
            page = StoredPage(first + len(frames) - 1, () if self.fault else frames, self.fault)
            stream.add_page(first, page, 0.0)
            stream.recover()
        return len(wanted)


def make_durable(
    ledger: Ledger | None = None, retention: Retention | None = None, pages: Pages | None = None
) -> DurableStream:
    ledger = ledger or Ledger()
    settings = StreamSettings(retention=retention or Retention())
    return DurableStream("s", "e", settings, 0.0, ledger, pages or Shelf(ledger))


def append(stream: DurableStream, *events: Data) -> list[int]:
    return [stream.append(data, STAMP, 0.0) for data in events]


def take(stream: DurableStream) -> Commit:
    commit = stream.take_commit()
    assert commit is not None
    return commit


def frames_of(*events: Data, first: int = 1) -> list[bytes]:
    return [frame(TEXT, encode_event(data, seq, STAMP)) for seq, data in enumerate(events, first)]


def history_of(frames: list[bytes], floor: int = 1, retention: Retention | None = None) -> History:
    history = History(retention or Retention(), floor)
    for it in frames:
        history.add(history.last + 1, len(it) + EVENT_OVERHEAD, 0.0)
    return history


def texts_of(stream: DurableStream) -> list[str]:
    """The texts that the log holds."""
    frames = stream.log.frames(stream.log.floor - 1, stream.log.head)
    events = [decode_event(it[payload_start(it) :]) for it in frames]
    return [it.text for it in events if isinstance(it, TextDelta)]


def subscribe(stream: DurableStream, request: SubscribeRequest | None = None) -> Subscription:
    return stream.subscribe(request or SubscribeRequest(), now=0.0)


def messages(reader: Subscription, shelf: Shelf, size: int = PAGE_BYTES) -> Iterator[Message]:
    """Everything a reader gets, while all pages it wants are delivered."""
    while True:
        data = reader.take()
        if data:
            yield from map(JSON.decode_to_consumer, payloads(data))
        elif data == b"" and not shelf.deliver(size):
            return
