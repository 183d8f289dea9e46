"""The keys of a Redis server, and the commands that a gateway and its functions use; checked against a real one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

Reply = Any
"""Bytes, an integer, None, a list of replies, or a `RefusedError`; `Status` for text that is no string of its own."""


class RefusedError(Exception):
    """A command is refused, in the server's words."""


class Status(bytes):
    """A simple string."""


class Entries(list[tuple[tuple[int, int], list[bytes]]]):
    """A stream: ids and fields."""

    last = (0, 0)


_KINDS: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"


class Store:
    """All keys.

    Args:
        clock: seconds since 1970, as the server has them.
        info: gives the text of INFO, whatever is asked for.

    Attributes:
        keys: what is stored: bytes, hashes, sorted sets and streams.
        expire_at: when keys are gone, in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float], info: Callable[[], bytes]) -> None:
        self._clock = clock
        self._info = info
        self.keys: dict[bytes, Any] = {}
        self.expire_at: dict[bytes, float] = {}
        self._commands: dict[bytes, Callable[..., Reply]] = {
            name[1:].upper().encode(): getattr(self, name)
            for name in dir(self)
            if name.startswith("_") and name[1:].isalpha() and name[1:].islower() and name not in ("_clock", "_info")
        } | {b"INFO": self._tell}

    def snapshot(self) -> tuple[Any, Any]:
        """What is stored now."""
        return copy.deepcopy(self.keys), dict(self.expire_at)

    def restore(self, snapshot: tuple[Any, Any]) -> None:
        """Have what was stored then."""
        self.keys, self.expire_at = copy.deepcopy(snapshot[0]), dict(snapshot[1])

    def execute(self, *command: bytes) -> Reply:
        """Execute a command.

        Raises:
            RefusedError: it can't be.
        """
        name, *args = command
        function = self._commands.get(name.upper())
        if function is None:
            raise RefusedError(f"ERR unknown command '{name.decode()}'")
        return function(*args)

    def _get_as(self, key: bytes, kind: type) -> Any:
        if key in self.expire_at and self._clock() >= self.expire_at[key]:
            self._remove(key)
        found = self.keys.get(key)
        if found is not None and type(found) is not kind:
            raise RefusedError(_KINDS)
        return found

    def _make(self, key: bytes, kind: type) -> Any:
        found = self._get_as(key, kind)
        if found is None:
            found = self.keys[key] = kind()
        return found

    def _remove(self, key: bytes) -> bool:
        self.expire_at.pop(key, None)
        return self.keys.pop(key, None) is not None

    def _expire_now(self, key: bytes) -> None:
        if key in self.expire_at and self._clock() >= self.expire_at[key]:
            self._remove(key)

    # Any key

    def _del(self, *keys: bytes) -> int:
        for key in keys:
            self._expire_now(key)
        return sum(self._remove(key) for key in keys)

    def _pexpire(self, key: bytes, milliseconds: bytes) -> int:
        self._expire_now(key)
        if key not in self.keys:
            return 0
        self.expire_at[key] = self._clock() + int(milliseconds) / 1000
        return 1

    def _flushall(self) -> Reply:
        self.keys.clear()
        self.expire_at.clear()
        return Status(b"OK")

    # Strings

    def _get(self, key: bytes) -> Reply:
        return self._get_as(key, bytes)

    def _set(self, key: bytes, value: bytes, *options: bytes) -> Reply:
        rest = [it.upper() for it in options]
        self._expire_now(key)
        if b"XX" in rest and key not in self.keys:
            return None
        self._remove(key)
        self.keys[key] = bytes(value)
        if b"PX" in rest:
            self.expire_at[key] = self._clock() + int(rest[rest.index(b"PX") + 1]) / 1000
        return Status(b"OK")

    # Hashes

    def _hset(self, key: bytes, *pairs: bytes) -> int:
        fields = self._make(key, dict)
        before = len(fields)
        fields.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(fields) - before

    def _hget(self, key: bytes, field: bytes) -> Reply:
        return (self._get_as(key, dict) or {}).get(field)

    def _hmget(self, key: bytes, *fields: bytes) -> Reply:
        found = self._get_as(key, dict) or {}
        return [found.get(field) for field in fields]

    def _hgetall(self, key: bytes) -> Reply:
        return [part for pair in (self._get_as(key, dict) or {}).items() for part in pair]

    def _hdel(self, key: bytes, *fields: bytes) -> int:
        found = self._get_as(key, dict) or {}
        removed = sum(found.pop(field, None) is not None for field in fields)
        if not found:
            self._remove(key)
        return removed

    # Sorted sets

    def _zadd(self, key: bytes, *args: bytes) -> int:
        is_new_only = args[0].upper() == b"NX"
        pairs = args[1:] if is_new_only else args
        try:
            scores = [float(it) for it in pairs[::2]]
        except ValueError:
            raise RefusedError("ERR value is not a valid float") from None
        members = self._make(key, _Scores)
        added = 0
        for score, member in zip(scores, pairs[1::2], strict=True):
            added += member not in members
            if not (is_new_only and member in members):
                members[member] = score
        return added

    def _zrem(self, key: bytes, *names: bytes) -> int:
        members = self._get_as(key, _Scores)
        if members is None:
            return 0
        removed = sum(members.pop(name, None) is not None for name in names)
        if not members:
            self._remove(key)
        return removed

    def _zcard(self, key: bytes) -> int:
        return len(self._get_as(key, _Scores) or ())

    def _zscore(self, key: bytes, member: bytes) -> Reply:
        score = (self._get_as(key, _Scores) or {}).get(member)
        return None if score is None else b"%.17g" % score

    def _zrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> Reply:
        members = self._get_as(key, _Scores) or {}
        names = sorted(members, key=lambda it: (members[it], it))
        end = int(last)
        found = names[int(first) : None if end == -1 else end + 1]
        return [part for it in found for part in (it, b"%.17g" % members[it])] if options else found

    def _zremrangebyscore(self, key: bytes, low: bytes, high: bytes) -> int:
        members = self._get_as(key, _Scores) or {}
        return self._zrem(key, *[it for it, score in members.items() if float(low) <= score <= float(high)])

    # Streams

    def _xadd(self, key: bytes, id_: bytes, *fields: bytes) -> Reply:
        entries = self._make(key, Entries)
        at = _parse_id(id_)
        if at <= entries.last:
            if not entries:
                self.keys.pop(key) if entries.last == (0, 0) else None
            raise RefusedError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        entries.append((at, list(fields)))
        entries.last = at
        return id_

    def _xrange(self, key: bytes, first: bytes, last: bytes, *count: bytes) -> Reply:
        entries = self._get_as(key, Entries) or Entries()
        begin = (0, 0) if first == b"-" else _parse_id(first.removeprefix(b"("), 0)
        end = None if last == b"+" else _parse_id(last, 2**64)
        is_exclusive = first.startswith(b"(")
        found = [
            it
            for it in entries
            if (it[0] > begin if is_exclusive else it[0] >= begin) and (end is None or it[0] <= end)
        ]
        if count:
            found = found[: int(count[1])]
        return [[b"%d-%d" % at, list(fields)] for at, fields in found]

    def _xlen(self, key: bytes) -> int:
        return len(self._get_as(key, Entries) or ())

    def _xtrim(self, key: bytes, _: bytes, floor: bytes) -> int:
        entries = self._get_as(key, Entries)
        if entries is None:
            return 0
        before, at = len(entries), _parse_id(floor)
        entries[:] = [it for it in entries if it[0] >= at]
        return before - len(entries)

    # The server

    def _time(self) -> Reply:
        seconds, rest = divmod(self._clock(), 1)
        return [b"%d" % seconds, b"%d" % (rest * 1_000_000)]

    def _tell(self, *_: bytes) -> Reply:
        return self._info()


class _Scores(dict[bytes, float]):
    """A sorted set."""


def _parse_id(text: bytes, missing: int = 0) -> tuple[int, int]:
    first, _, second = text.partition(b"-")
    return int(first), int(second) if second else missing
