"""The examples and the demo, run as a person would: each ends by itself, complains about nothing, shows its point."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.support.pip import installed
from tests.support.processes import ROOT, clean_environment
from tests.support.running import complaints
from tests.support.soaking import lasting, left_to_soak

EXAMPLES = sorted((ROOT / "scripts" / "examples").glob("*.py"))
SAID = "Mock response from gpt-4o."
ESSENCE = {
    "01_basic": [
        "sent 2: 'Streams'\nearly reader got 2: 'Streams'\nsent 3",
        "late reader got 4: 'Streams are logs.'",
    ],
    "02_many_sessions": [
        "created: 1000 sessions, 1000 open",
        "refused: create 'session-42': the stream exists already",
        "refused: get 'session-1000': stream not found",
        "after the clean-up: 1000 sessions, 10 open",
        "at the end: 1000 sessions, 0 open",
        "session-7 can still be read: 'Hello, visitor 7! Still there?'",
    ],
    "03_timeouts": [
        "'more' sent as 3\n  'more' not sent: send 'patience': stream full",
        "received 3\n  nothing came within 50 ms\nthere is room again:\n  'last' sent as 4\n  received 4",
    ],
    "04_backpressure": [
        "block: the sender waited 16 times\n  [1] [2] [3]",
        "drop_newest: the sender waited 0 times\n  [1] [2] [3] [4] [5] (6–20 dropped) ■",
        "drop_oldest: the sender waited 0 times\n  (1–16 dropped) [17] [18] [19] [20] ■",
        "coalesce: the sender waited 0 times\n  [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20] ■",
    ],
    "05_provider_to_stream": [
        '• message_start {"message_id":"msg_tides","model":"claude","provider":"anthropic"}',
        "the sea follows – twice a day.",
        '• usage         {"prompt_tokens":14,"completion_tokens":16,"total_tokens":30}',
        '"stop_reason":"end_turn"',
    ],
    "06_client": ["second visit: nothing was missed: True", "everything up to seq 13 is acknowledged"],
    "07_terminal_ui": ["│ They ask why the terminal does not flicker.", "462 tokens"],
    "08_monitoring": ['GET /readyz: 200 {"status":"ok"}', "events folded", "1 stream, 100 events held"],
    "09_middleware": ["They ask for it.", "The key is [redacted], mail [redacted].", "9 words or so"],
}
WITH_SDKS = {
    "10_openai": [f"program: {SAID}", f"reader:  {SAID}", "stop_reason='stop'"],
    "11_anthropic": ["reader:  Mock response from claude.\nreader:  Mock response from claude."],
    "12_pydantic_ai": [f"reader:  {SAID}", "stop_reason='stop'"],
    "13_langchain": [f"program: {SAID}", f"reader:  {SAID}", "prompt_tokens=5", "stop_reason='stop'"],
}


@cache
def run(path: Path, **variables: str) -> str:
    """What a script prints; it has to end well and say nothing on standard error."""
    environment = clean_environment(PYTHONIOENCODING="utf-8", **variables)
    done = subprocess.run(
        [sys.executable, *([] if variables else ["-W", "always::ResourceWarning"]), path],  # SDKs leave sockets open
        capture_output=True,
        encoding="utf-8",
        env=environment,
        check=False,
    )
    assert (done.returncode, complaints(done.stderr)) == (0, []), done.stdout
    return done.stdout


@contextmanager
def running_llmock(sdks: Path) -> Iterator[str]:
    """A provider that the project has not written; yields its address."""
    command = (sys.executable, "-c", "from llmock.cli import app; app()", "serve", "--host=127.0.0.1", "--port=0")
    process = subprocess.Popen(
        (*command, "--response-style=static"),
        env=clean_environment(PYTHONPATH=str(sdks)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            [url] = next(found for line in process.stderr if (found := re.findall(r"running on (http\S+)", line)))
            yield url
        finally:
            process.terminate()


@pytest.mark.soak
@pytest.mark.installs
@pytest.mark.slow
def test_an_example_with_an_sdk_publishes_what_a_provider_says() -> None:
    sdks = installed("sdks")
    with running_llmock(sdks) as url:
        for name, essence in list(WITH_SDKS.items())[: lasting(2, None)]:  # the others load for seconds each
            output = run(
                ROOT / "scripts" / "examples" / f"{name}.py",
                PYTHONPATH=os.pathsep.join([str(ROOT / "scripts" / "package"), str(sdks)]),
                OPENAI_BASE_URL=f"{url}/v1",
                OPENAI_API_KEY="sk-none",
                ANTHROPIC_BASE_URL=f"{url}/anthropic",
                ANTHROPIC_API_KEY="sk-none",
            )
            for text in essence:
                assert text in output


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem not in WITH_SDKS], ids=lambda path: path.stem)
def test_an_example_shows_its_point_and_ends_by_itself(path: Path) -> None:
    if path.stem == "09_middleware":
        pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")
    output = run(path)
    for text in ESSENCE[path.stem]:
        assert text in output


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_first_what_it_shows_in_two_sentences(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 80
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring is not None
    assert len(re.findall(r"[.?](?=\s|$)", docstring)) == 2


def test_the_two_visits_of_the_client_example_make_the_whole_answer() -> None:
    output = run(ROOT / "scripts" / "examples" / "06_client.py")
    visits = [ast.literal_eval(text) for text in re.findall(r"visit: ('.*')", output)]
    assert "".join(visits) == "So much depends upon a position kept in a safe place. "
    assert all(visits)


def test_the_terminal_example_draws_far_fewer_frames_than_there_are_tokens() -> None:
    output = run(ROOT / "scripts" / "examples" / "07_terminal_ui.py")
    drawn = re.search(r"(\d+) tokens drawn in (\d+) frames", output)
    assert drawn is not None
    assert int(drawn[2]) < int(drawn[1]) / 3


def test_the_demo_ends_with_equal_texts() -> None:
    output = run(ROOT / "scripts" / "demo.py")
    assert output.count(": whole answer") == 3
    assert "late: events" in output
    assert "unlucky: connection lost" in output
    assert output.endswith("all texts are equal\n")


@pytest.mark.soak
@left_to_soak("installs hundreds of megabytes")
@pytest.mark.installs
@pytest.mark.slow
def test_a_real_model_stops_when_a_reader_cancels() -> None:
    model = installed("model", "--no-deps", "--only-binary=:all:")
    path = os.pathsep.join([str(ROOT / "scripts" / "package"), str(model)])
    output = run(ROOT / "scripts" / "demo_llm.py", PYTHONPATH=path)
    assert "stopped for 'length' after 96 of 96 tokens; texts equal: True" in output
    assert "stopped for 'cancelled'" in output
    assert output.endswith("as it should be\n")
    assert "NOT" not in output
