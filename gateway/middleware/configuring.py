"""The middleware that is configured: which stages for which streams, from a TOML file or from a program.

[[middleware]]
streams = "chat-*"
max_delay = 0.25
stages = [
  { stage = "redact", sets = ["secrets", "personal"] },
  { stage = "drop", types = ["usage"] },
]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from deltawire.gateway.config import ConfigError
from deltawire.gateway.files import read_file
from deltawire.gateway.logs import get_logger
from deltawire.gateway.middleware.changing import limit, set_fields
from deltawire.gateway.middleware.finder import Pattern
from deltawire.gateway.middleware.patterns import SETS
from deltawire.gateway.middleware.redacting import redact
from deltawire.gateway.middleware.screen import Screen, Watcher
from deltawire.gateway.middleware.selecting import drop, keep, sample
from deltawire.gateway.middleware.stage import Function, OnError, Plan, plan_function
from deltawire.gateway.middleware.thinking import split_thinking
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import check_stream_id
from deltawire.protocol.events import EventType

ENTRY_POINTS: Final = "deltawire.middleware"
"""The group of entry points; each is called with the parameters of its stage and returns a function."""

MAX_DELAY: Final = 0.25
"""Seconds that an event is held back at most: a few tokens of a slow model, and no reader takes it for a stall."""

log = get_logger()

Delay: TypeAlias = Annotated[float, Meta(gt=0, le=10)]
Stages: TypeAlias = Sequence[Plan | Function]


class _Stage(Struct, forbid_unknown_fields=True, kw_only=True):
    """What every stage has."""

    stage: str
    on_error: OnError = "refuse"


class _Redact(_Stage, forbid_unknown_fields=True, kw_only=True):
    sets: list[str] = []
    patterns: list[str] = []
    replacement: Annotated[str, Meta(max_length=64)] = "[redacted]"

    def plan(self) -> Plan:
        if unknown := set(self.sets) - set(SETS):
            raise ValueError(f"sets: `{unknown.pop()}` is unknown; the sets are {', '.join(SETS)}")
        if not self.sets and not self.patterns:
            raise ValueError("nothing to redact: it needs `sets` or `patterns`")
        patterns = [pattern for name in self.sets for pattern in SETS[name]] + [Pattern(it) for it in self.patterns]
        try:
            return redact(patterns, self.replacement, self.on_error)
        except ImportError:
            raise ValueError("it needs the extra: pip install 'deltawire[redact]'") from None


class _Drop(_Stage, forbid_unknown_fields=True, kw_only=True):
    types: Annotated[list[EventType], Meta(min_length=1)]

    def plan(self) -> Plan:
        return drop(self.types, self.on_error)


class _Keep(_Stage, forbid_unknown_fields=True, kw_only=True):
    types: Annotated[list[EventType], Meta(min_length=1)]

    def plan(self) -> Plan:
        return keep(self.types, self.on_error)


class _Sample(_Stage, forbid_unknown_fields=True, kw_only=True):
    types: Annotated[list[EventType], Meta(min_length=1)]
    every: Annotated[int, Meta(ge=1)]

    def plan(self) -> Plan:
        return sample(self.types, self.every, self.on_error)


class _Set(_Stage, forbid_unknown_fields=True, kw_only=True):
    type: EventType
    fields: Annotated[dict[str, Any], Meta(min_length=1)]
    where: dict[str, Any] = {}

    def plan(self) -> Plan:
        return set_fields(self.type, self.fields, self.where, self.on_error)


class _Limit(_Stage, forbid_unknown_fields=True, kw_only=True):
    characters: Annotated[int, Meta(ge=1)]

    def plan(self) -> Plan:
        return limit(self.characters, self.on_error)


class _SplitThinking(_Stage, forbid_unknown_fields=True, kw_only=True):
    def plan(self) -> Plan:
        return split_thinking(self.on_error)


BUILT_IN: Final[dict[str, Any]] = {
    "redact": _Redact,
    "drop": _Drop,
    "keep": _Keep,
    "sample": _Sample,
    "set": _Set,
    "limit": _Limit,
    "split_thinking": _SplitThinking,
}


class _Entry(Struct, forbid_unknown_fields=True):
    streams: str
    stages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    max_delay: Delay = MAX_DELAY


class _File(Struct, forbid_unknown_fields=True):
    middleware: list[_Entry] = []


class Rule(Struct, frozen=True):
    """The stages of some streams.

    Attributes:
        plans: the stages, in order.
        max_delay: seconds that they may hold an event back.
    """

    plans: tuple[Plan, ...]
    max_delay: float = MAX_DELAY


class Middleware:
    """Which streams have which stages. Of several entries for one stream, the one that names it most closely holds.

    Args:
        rules: by stream id, or by prefix of stream ids followed by `*`.

    Raises:
        ValueError: an entry is neither.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._exact = {name: rule for name, rule in rules.items() if not name.endswith("*")}
        prefixes = [(name[:-1], rule) for name, rule in rules.items() if name.endswith("*")]
        self._prefixes = sorted(prefixes, key=lambda it: len(it[0]), reverse=True)
        for name in (*self._exact, *(prefix for prefix, _ in self._prefixes if prefix)):
            check_stream_id(name)

    def screen(self, stream: Stream, watcher: Watcher) -> Screen | None:
        """Make the middleware of a stream; None if it has none."""
        rule = self._exact.get(stream.id) or next(
            (rule for prefix, rule in self._prefixes if stream.id.startswith(prefix)), None
        )
        return None if rule is None else Screen(stream, rule.plans, rule.max_delay, watcher)


def make_middleware(stages: Mapping[str, Stages], max_delay: float = MAX_DELAY) -> Middleware:
    """Make middleware of what a program has.

    Args:
        stages: plans (`redact(SECRETS)`) and functions, by stream id, or by prefix of stream ids followed by `*`.
        max_delay: seconds that they may hold an event back.

    Raises:
        ValueError: a key is neither.
    """
    return Middleware({name: Rule(tuple(map(_plan, wanted)), max_delay) for name, wanted in stages.items()})


def _plan(stage: Plan | Function) -> Plan:
    return stage if isinstance(stage, Plan) else plan_function(getattr(stage, "__name__", repr(stage)), stage)


def read_middleware(path: Path) -> Middleware:
    """Read middleware from a TOML file.

    Raises:
        ConfigError: the file can't be read, or something in it can't be used; the message says which stage.
    """
    where = f"middleware {path}"
    try:
        file = msgspec.toml.decode(read_file(path), type=_File, strict=False)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {error}") from None
    rules: dict[str, Rule] = {}
    for place, entry in enumerate(file.middleware):
        if entry.streams in rules:
            raise ConfigError(f"{where}: [{place}]: there are stages for `{entry.streams}` already")
        plans = [
            _read_stage(values, f"{where}: [{place}].stages[{number}]") for number, values in enumerate(entry.stages)
        ]
        rules[entry.streams] = Rule(tuple(plans), entry.max_delay)
        _warn_of_late_refusals(entry.streams, plans)
    try:
        return Middleware(rules)
    except ValueError as error:
        raise ConfigError(f"{where}: streams: {error}") from None


def _warn_of_late_refusals(streams: str, plans: Sequence[Plan]) -> None:
    """Tell of stages from packages, which may fail on purpose, that can't refuse all events."""
    is_held = False
    for plan in plans:
        if is_held and plan.on_error == "refuse" and plan.name not in BUILT_IN:
            log.warning("middleware.refusal_limited", streams=streams, stage=plan.name)
        is_held = is_held or plan.is_holding


def _read_stage(values: dict[str, Any], where: str) -> Plan:
    name = values.get("stage")
    if not isinstance(name, str):
        raise ConfigError(f"{where}: `stage` must name a stage: {', '.join(_names())}")
    try:
        if name in BUILT_IN:
            plan: Plan = msgspec.convert(values, BUILT_IN[name]).plan()
            return plan
        return _load(name, values)
    except (ValueError, msgspec.ValidationError) as error:
        raise ConfigError(f"{where} ({name}): {error}") from None


def _load(name: str, values: dict[str, Any]) -> Plan:
    """Make a stage of an installed entry point.

    Raises:
        ValueError: there is none, or it can't be used.
    """
    found = entry_points(group=ENTRY_POINTS, name=name)
    if not found:
        raise ValueError(f"there is no such stage; the stages are {', '.join(_names())}")
    parameters = {key: value for key, value in values.items() if key not in ("stage", "on_error")}
    on_error = msgspec.convert(values.get("on_error", "refuse"), OnError)
    try:
        make: Callable[..., Function] = next(iter(found)).load()
        function = make(**parameters)
    except Exception as error:  # noqa: BLE001 - a stranger's program may raise anything
        raise ValueError(f"the entry point failed: {type(error).__name__}: {error}") from None
    if not callable(function):
        raise ValueError("the entry point must return a function")  # noqa: TRY004 - for the person who configures
    return plan_function(name, function, on_error)


def _names() -> Iterable[str]:
    """All stages there are."""
    return [*BUILT_IN, *sorted(entry_points(group=ENTRY_POINTS).names)]
