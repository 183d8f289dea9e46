"""The bounds of `make hardening`, in short: what a gateway takes, and how long a turn of its loop is."""

from __future__ import annotations

import random
import sys

import msgspec
import pytest

from deltawire.protocol.codec import JSON, MSGPACK
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import EVENT_CLASSES, EventType
from scripts.hardening.generated import CONSUMED, EVENTS, LARGEST, PRODUCED, encode, random_message, shapes
from scripts.hardening.proofs import PROOFS
from tests.support.running import run_script
from tests.support.soaking import lasting, left_to_soak


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize(
    "proof",
    [
        pytest.param(proof, marks=left_to_soak("as `memory`, with another allocator") if proof == "returned" else ())
        for proof in PROOFS
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="peers come from many addresses of 127.0.0.0/8; memory is in /proc")
async def test_memory_and_turns_are_bounded_whatever_peers_send(proof: str) -> None:
    options = (lasting("--brief", "--quick"), "--beside-others", "--seed", "5", "--only", proof)
    output = await run_script("-m", "scripts.hardening.proofs", *options)
    assert output.endswith("every bound held\n")


def test_samples_are_of_every_type_and_are_taken() -> None:
    assert {event["type"] for event in EVENTS} == set(EventType)
    assert len(EVENTS) == len(EVENT_CLASSES)
    for message in PRODUCED:
        for codec in (JSON, MSGPACK):
            codec.decode_from_producer(codec.encode(message))
    for message in CONSUMED:
        JSON.decode_from_consumer(JSON.encode(message))


@pytest.mark.parametrize("messages", [PRODUCED, CONSUMED])
def test_shapes_differ_in_their_names_and_fit_the_largest_message(messages: list[dict[str, object]]) -> None:
    made = list(shapes(messages))
    assert len({shape.name for shape in made}) == len(made)
    assert max(len(encode(shape.make(LARGEST), is_text=True)) for shape in made) <= 64 * 1024


def test_random_messages_are_sometimes_taken_and_sometimes_not() -> None:
    chance = random.Random(1)
    taken = refused = 0
    for _ in range(300):
        message = random_message(chance, PRODUCED)
        for item in message if isinstance(message, list) else [message]:
            try:
                JSON.decode_from_producer(msgspec.json.encode(item))
                taken += 1
            except WireError:
                refused += 1
    assert min(taken, refused) > 100
