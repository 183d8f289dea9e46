"""Middleware comes from a TOML file; what is wrong with it is one clear line, and a reload keeps what there is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import structlog

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.hub import Hub
from deltawire.gateway.middleware import Context, configuring, make_middleware, read_middleware
from deltawire.gateway.middleware.stage import Function
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Data, TextDelta
from tests.support.processes import Run
from tests.support.waiting import eventually

Write = Callable[[str], Path]

DROP = '[[middleware]]\nstreams = "{}"\nstages = [{{ stage = "drop", types = ["{}"] }}]\n'


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "middleware.toml"
        path.write_text(text)
        return path

    return write


async def texts(hub: Hub, stream_id: str, *texts: str) -> str:
    """What becomes of some deltas."""
    stream = hub.create(stream_id)
    for text in texts:
        stream.send_nowait(TextDelta(text))
    stream.close()
    return "".join([it.data.text async for it in stream.subscribe() if isinstance(it.data, TextDelta)])  # type: ignore[union-attr]


async def test_a_file_says_which_streams_have_which_stages(write: Write) -> None:
    path = write(
        '[[middleware]]\nstreams = "*"\nstages = [{ stage = "limit", characters = 1 }]\n'
        '[[middleware]]\nstreams = "chat-*"\nmax_delay = 1\nstages = [{ stage = "limit", characters = 2 }]\n'
        '[[middleware]]\nstreams = "chat-7"\nstages = [{ stage = "limit", characters = 3 }]\n'
    )
    async with Hub(Settings(middleware=str(path))) as hub:
        assert await texts(hub, "other", "abcd") == "a"
        assert await texts(hub, "chat-8", "abcd") == "ab"
        assert await texts(hub, "chat-7", "ab", "cd") == "abc"


async def test_every_built_in_stage_can_be_configured(write: Write) -> None:
    pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")
    path = write("""
        [[middleware]]
        streams = "*"
        stages = [
          { stage = "redact", sets = ["secrets", "personal"], patterns = ["ACME-[0-9]{4}"], replacement = "#" },
          { stage = "drop", types = ["extension"], on_error = "pass" },
          { stage = "keep", types = ["text_delta", "usage"] },
          { stage = "sample", types = ["usage"], every = 10 },
          { stage = "set", type = "message_start", fields = { model = "ours" }, where = { model = "theirs" } },
          { stage = "split_thinking" },
          { stage = "limit", characters = 20 },
        ]
        """)
    async with Hub(Settings(middleware=str(path))) as hub:
        assert await texts(hub, "s", "<think>", "</think>", "ACME-12", "34 is joe@example.com ", "x" * 20) == (
            "# is # " + "x" * 13
        )


def stages(*lines: str) -> str:
    return f'[[middleware]]\nstreams = "*"\nstages = [{", ".join(lines)}]\n'


WRONG = {
    "unknown stage": (
        stages('{ stage = "redcat" }'),
        "[0].stages[0] (redcat): there is no such stage; the stages are redact,",
    ),
    "no stage": (stages("{}"), "[0].stages[0]: `stage` must name a stage"),
    "unknown parameter": (stages('{ stage = "drop", type = "usage" }'), "[0].stages[0] (drop): Object "),
    "unknown type": (stages('{ stage = "drop", types = ["text"] }'), "(drop): Invalid enum value 'text'"),
    "needed type": (stages('{ stage = "drop", types = ["error"] }'), "error can't be dropped, readers need them"),
    "unknown policy": (stages('{ stage = "split_thinking", on_error = "ignore" }'), "Invalid enum value 'ignore'"),
    "unknown field": (stages('{ stage = "set", type = "usage", fields = { x = 1 } }'), "usage has no `x`"),
    "bad delay": (stages('{ stage = "split_thinking" }') + "max_delay = 0\n", "Expected `float` > 0.0"),
    "unknown key": (stages('{ stage = "split_thinking" }') + "stream = 1\n", "unknown field `stream`"),
    "no stages": ('[[middleware]]\nstreams = "*"\nstages = []\n', "Expected `array` of length >= 1"),
    "bad id": (stages('{ stage = "split_thinking" }').replace("*", "a/*"), "streams: "),
    "twice": (DROP.format("a", "usage") * 2, "there are stages for `a` already"),
    "not TOML": ("middleware", "middleware.toml: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_that_says_where(write: Write, name: str) -> None:
    text, why = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        read_middleware(write(text))
    assert why in str(caught.value)
    assert str(caught.value).startswith("middleware ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{ stage = "redact" }', "(redact): nothing to redact: it needs `sets` or `patterns`"),
        ('{ stage = "redact", sets = ["secret"] }', "`secret` is unknown; the sets are secrets, personal"),
        ('{ stage = "redact", patterns = ["a*b"] }', "(redact): pattern `a*b`: a repetition without a bound"),
        ('{ stage = "redact", patterns = ["a{500}"] }', "pattern `a{500}`: it matches up to 500 characters"),
    ],
)
def test_a_bad_pattern_is_one_line_that_says_where(write: Write, line: str, why: str) -> None:
    pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")
    with pytest.raises(ConfigError, match="middleware ") as caught:
        read_middleware(write(stages(line)))
    assert why in str(caught.value)


def test_the_extra_that_is_missing_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ConfigError, match=r"pip install 'deltawire\[redact\]'"):
        read_middleware(write(stages('{ stage = "redact", patterns = ["a"] }')))


def shout(mark: str = "!") -> Function:
    """A stage as somebody else's package has it."""

    def function(data: Data, _: Context) -> Iterable[Data]:
        return [TextDelta(data.text + mark)] if isinstance(data, TextDelta) else [data]

    return function


def no_function() -> int:
    return 7


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points as an installed package has them."""
    points = EntryPoints(
        EntryPoint(name, f"{__name__}:{value}", configuring.ENTRY_POINTS)
        for name, value in (("shout", "shout"), ("broken", "missing"), ("number", "no_function"))
    )
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())
    monkeypatch.setattr(configuring, "entry_points", points.select)


def _this_module() -> Any:
    class Module:
        pass

    Module.shout, Module.no_function = staticmethod(shout), staticmethod(no_function)  # type: ignore[attr-defined]
    return Module


@pytest.mark.usefixtures("installed")
async def test_a_stage_can_come_from_an_entry_point(write: Write) -> None:
    path = write(stages('{ stage = "shout" }', '{ stage = "shout", mark = "?", on_error = "drop" }'))
    async with Hub(Settings(middleware=str(path))) as hub:
        assert await texts(hub, "s", "a", "b") == "a!?b!?"


@pytest.mark.usefixtures("installed")
def test_a_stage_is_told_of_that_can_not_refuse_what_was_held_back(write: Write) -> None:
    split, shout, quiet = (
        '{ stage = "split_thinking" }',
        '{ stage = "shout" }',
        '{ stage = "shout", on_error = "drop" }',
    )
    with structlog.testing.capture_logs() as logs:
        read_middleware(write(stages(shout, split, quiet)))
        assert not logs
        read_middleware(write(stages(split, shout)))
    assert [(it["event"], it["stage"]) for it in logs] == [("middleware.refusal_limited", "shout")]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{ stage = "shout", colour = "red" }', "(shout): the entry point failed: TypeError: "),
        ('{ stage = "broken" }', "(broken): the entry point failed: AttributeError: "),
        ('{ stage = "number" }', "(number): the entry point must return a function"),
        ('{ stage = "shuot" }', "limit, split_thinking, broken, number, shout"),
    ],
)
def test_an_entry_point_that_can_not_be_used_is_told(write: Write, line: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_middleware(write(stages(line)))
    assert why in str(caught.value)


async def test_check_config_and_serve_say_what_is_wrong(run_process: Run, write: Write) -> None:
    path = write(stages('{ stage = "redcat" }'))
    for command in ("check-config", "serve"):
        done = await run_process(command, f"--middleware={path}", "--port=0")
        assert done.status == 2
        assert f"middleware {path}: [0].stages[0] (redcat): there is no such stage" in done.errors
        assert len(done.errors.splitlines()) == 1


async def test_a_reload_is_for_new_streams(write: Write) -> None:
    path = write(stages('{ stage = "limit", characters = 1 }'))
    settings = Settings(port=0, drain_timeout=0.5, middleware=str(path))
    async with Gateway(settings) as gateway:
        old = gateway.hub.create("old")
        write(stages('{ stage = "limit", characters = 2 }'))
        gateway.reload()
        old.send_nowait(TextDelta("abc"))
        assert [it.data.text async for it in _first(old.subscribe())] == ["a"]
        assert await texts(gateway.hub, "new", "abc") == "ab"


async def _first(subscription: Any) -> Any:
    yield await anext(subscription)


async def test_a_reload_of_a_file_that_can_not_be_used_keeps_what_there_is(write: Write) -> None:
    path = write(stages('{ stage = "limit", characters = 1 }'))
    async with Gateway(Settings(port=0, drain_timeout=0.5, middleware=str(path))) as gateway:
        write("nonsense")
        with pytest.raises(ConfigError, match="middleware "):
            gateway.reload()
        assert await texts(gateway.hub, "new", "abc") == "a"
        path.unlink()
        with pytest.raises(ConfigError, match="No such file"):
            gateway.reload()


async def test_middleware_of_a_program_has_no_file_to_read_again() -> None:
    settings = Settings(port=0, drain_timeout=0.5)
    async with Hub(settings, make_middleware({"*": [shout()]})) as hub, Gateway(settings, hub) as gateway:
        gateway.reload()
        assert await texts(hub, "s", "a") == "a!"
        await eventually(lambda: hub.count() == 1)


def test_a_stream_id_in_a_program_is_checked() -> None:
    with pytest.raises(ValueError, match="stream id"):
        make_middleware({"a b": [shout()]})
