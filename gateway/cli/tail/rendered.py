"""How `tail` shows a stream on a terminal that renders: text as Markdown, everything else as `Screen` does. Pure.

What has come is kept until it is drawn. Drawing makes lines of what is finished, which become scroll-back, and draws
the rest again: the Markdown block or the line that is not finished, and a sign while nothing comes.
"""

from __future__ import annotations

from os import terminal_size
from typing import Final

from rich.text import Text

from deltawire.gateway.cli.tail.blocks import Block, Splitter
from deltawire.gateway.cli.tail.markdown import Typesetter
from deltawire.gateway.cli.tail.phase import Phase, make_sign
from deltawire.gateway.cli.tail.region import Line, Region
from deltawire.gateway.cli.tail.render import Screen
from deltawire.gateway.client import Frame
from deltawire.protocol.events import ContentStart, Event, MessageStart, MessageStop, TextDelta, Thinking, ToolDelta
from deltawire.protocol.messages import StreamEnd, Subscribed

MAX_PENDING: Final = 32768
"""Characters that have come and are not drawn, after which to draw before more is read."""


class Rendered:
    """A stream on a terminal, drawn as often as its owner wants.

    Args:
        colour: whether the terminal shows colours.
        size: columns and lines of the terminal, until `draw` is told otherwise.
    """

    def __init__(self, *, colour: bool, size: terminal_size) -> None:
        self._screen = Screen(colour=colour)
        self._typesetter = Typesetter(colour=colour)
        self._region = Region()
        self._size = size
        self._pending: list[Block | Text] = []  # finished, and not drawn
        self._pending_size = 0
        self._splitter: Splitter | None = None  # while text comes
        self._open = Text()  # otherwise: the line that is not complete
        self._last: Block | None = None  # the block above what comes next
        self._drawn: tuple[object, ...] = ()  # what `_rest_lines` are of
        self._rest_lines: list[Line] = []
        self._phase = Phase.CONNECTING
        self._has_news = True
        self._news_at = 0.0

    @property
    def is_behind(self) -> bool:
        """Whether so much has come that it should be drawn before more is read."""
        return self._pending_size > MAX_PENDING

    def show(self, frame: Frame) -> str:
        """Take the next frame in; nothing to write yet."""
        self._has_news = True
        self._note_phase(frame)
        line, text = self._screen.show_apart(frame)
        if line:
            self._add_lines(line)
        if text:
            self._add_text(text)
        return ""

    def note_lost(self) -> None:
        """Show that the connection is lost, until there is one again."""
        self._phase, self._has_news = Phase.RECONNECTING, True

    def draw(self, now: float, size: terminal_size) -> str:
        """What brings the terminal up to date.

        Args:
            now: seconds, of any clock.
            size: columns and lines of the terminal at present.
        """
        self._size = size
        if self._has_news:
            self._has_news, self._news_at = False, now
        finished = self._take_pending()
        lines = self._draw_rest(finished)
        if sign := make_sign(self._phase, now - self._news_at, now):
            lines = [*lines, *self._typesetter.set_text(Text(sign, style="dim"), size.columns)]
        return self._region.draw(finished, lines[-(max(size.lines, 2) - 1) :], size.columns)

    def interrupt(self) -> str:
        """What is finished; the rest is erased, and drawn again below what is written next."""
        return self._region.draw(self._take_pending(), [], self._size.columns)

    def resume(self) -> str:
        """Begin anew below what another program has written meanwhile."""
        return self._region.forget()

    def end(self, end: StreamEnd | None) -> str:
        """Everything that has come, and the reason for the end of the stream."""
        self._phase = Phase.ENDED
        if line := self._screen.end(end):
            self._add_lines(line)
        self._finish_text()
        if self._open:
            self._finish_line()
        return self.interrupt()

    def _note_phase(self, frame: Frame) -> None:
        match frame.message:
            case Subscribed():
                self._phase = Phase.NO_ANSWER
            case Event(data=MessageStart()):
                self._phase = Phase.NO_TOKEN
            case Event(data=TextDelta()):
                self._phase = Phase.WRITING
            case Event(data=Thinking()):
                self._phase = Phase.THINKING
            case Event(data=ToolDelta()) | Event(data=ContentStart(name=str())):
                self._phase = Phase.CALLING
            case Event(data=MessageStop()):
                self._phase = Phase.STOPPED

    def _add_lines(self, text: str) -> None:
        """Add what is no Markdown: whole lines, or a part of one."""
        if self._splitter:
            self._finish_text()
            text = text.removeprefix("\n")  # which ended the line of the text
        first, *others = text.split("\n")
        self._open.append_text(self._typesetter.read_styled(first))
        for line in others:
            self._finish_line()
            self._open = self._typesetter.read_styled(line)
        self._pending_size += len(text)

    def _add_text(self, text: str) -> None:
        if self._splitter is None:
            self._splitter = Splitter()
            if self._open:
                self._finish_line()
        self._pending += self._splitter.feed(text)
        self._pending_size += len(text)

    def _finish_text(self) -> None:
        if self._splitter:
            self._pending.append(self._splitter.rest())
            self._splitter = None

    def _finish_line(self) -> None:
        self._pending.append(self._open)
        self._open = Text()

    def _take_pending(self) -> list[Line]:
        """The lines of all that is finished."""
        lines = [line for piece in self._pending for line in self._set(piece)]
        self._pending, self._pending_size = [], 0
        return lines

    def _set(self, piece: Block | Text) -> list[Line]:
        if isinstance(piece, Text):
            self._last = None
            return self._typesetter.set_text(piece, self._size.columns)
        lines = self._set_below(self._last, piece)
        if lines:
            self._last = piece
        return lines

    def _set_below(self, above: Block | None, block: Block) -> list[Line]:
        """The lines of a block, with an empty one before them where it needs one."""
        lines = self._typesetter.set_markdown(block, self._size.columns) if block.source else []
        is_joined = above is None or block.opening or (above.is_item and block.is_item and not _is_apart(above))
        return lines if is_joined or not lines else [Line("", 0), *lines]

    def _draw_rest(self, finished: list[Line]) -> list[Line]:
        """The lines of what is not finished; the rows of a long line that no longer change are added to the others."""
        if self._splitter is None:
            *rows, self._open = self._typesetter.wrap(self._open, self._size.columns) or [Text()]
            finished += [line for row in rows for line in self._set(row)]
            return self._typesetter.set_text(self._open, self._size.columns) if self._open else []
        state = (self._last, self._splitter.rest(), self._size.columns)
        if state != self._drawn:
            self._drawn, self._rest_lines = state, self._set_below(*state[:2])
        return self._rest_lines


def _is_apart(block: Block) -> bool:
    """Whether an empty line follows a block."""
    return block.source.endswith("\n\n")
