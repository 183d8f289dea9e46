"""A callback handler of LangChain that publishes what chat models stream.

    async with Publisher("ws://127.0.0.1:8765", "chat-7") as publisher:
        model = ChatOpenAI(model="gpt-5", streaming=True, callbacks=[StreamHandler(publisher)])
        await model.ainvoke("Why is there a tide?")

Each call of a model is one message; the calls that an agent makes follow each other in one stream. The program comes
first, as with `tee`, which this is built on. A reader's `cancel` ends the call: it raises `AnswerCancelled`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler

from deltawire.gateway.client import Publisher
from deltawire.gateway.tee import tee

FORMAT: Final = "openai-chat-sse"
"""What chunks of LangChain become before they are translated: it has a place for all that they say."""


class AnswerCancelled(Exception):  # noqa: N818 - says what happened
    """A reader cancelled the answer."""

    def __init__(self) -> None:
        super().__init__("a reader cancelled the answer")


class StreamHandler(AsyncCallbackHandler):  # type: ignore[misc]  # langchain is not installed where types are checked
    """The callback handler; for asynchronous calls, of one stream.

    Args:
        publisher: where events go; entered by the program.
    """

    raise_error = True  # or else a model would go on after `AnswerCancelled`

    def __init__(self, publisher: Publisher) -> None:
        super().__init__()
        self._publisher = publisher
        self._runs: dict[UUID, _Run] = {}

    async def on_chat_model_start(self, serialized: object, messages: object, *, run_id: UUID, **rest: Any) -> None:
        """A model is called."""
        del serialized, messages, rest
        self._runs[run_id] = _Run(self._publisher)

    async def on_llm_new_token(self, token: object, *, chunk: Any = None, run_id: UUID, **rest: Any) -> None:
        """A model said something.

        Raises:
            AnswerCancelled: a reader cancelled.
        """
        del token, rest
        run = self._runs.get(run_id)
        if run is None or chunk is None:
            return
        if run.is_cancelled:
            raise AnswerCancelled
        run.put(as_openai(chunk.message, str(run_id)))

    async def on_llm_end(self, response: object, *, run_id: UUID, **rest: Any) -> None:
        """A model has said everything."""
        del response, rest
        await self._end(run_id)

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **rest: Any) -> None:
        """A call failed, or was left."""
        del rest
        await self._end(run_id, error if isinstance(error, Exception) else None)

    async def _end(self, run_id: UUID, error: Exception | None = None) -> None:
        run = self._runs.pop(run_id, None)
        if run is not None:
            await run.end(error)


class _Run:
    """One call of a model, and the task that publishes it."""

    def __init__(self, publisher: Publisher) -> None:
        self._chunks: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue()
        self._teed = tee(self._iterate(), publisher, format=FORMAT, stop_on_cancel=True)
        self._task = asyncio.create_task(self._publish(), name=f"answer to {publisher.stream}")

    @property
    def is_cancelled(self) -> bool:
        return self._teed.is_cancelled

    def put(self, chunk: dict[str, Any]) -> None:
        self._chunks.put_nowait(chunk)

    async def end(self, error: Exception | None) -> None:
        self._chunks.put_nowait(error)
        await asyncio.wait([self._task])

    async def _iterate(self) -> AsyncIterator[dict[str, Any]]:
        while (chunk := await self._chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def _publish(self) -> None:
        try:
            async for _ in self._teed:
                pass
        except Exception:  # noqa: BLE001, S110 - the call's own error: LangChain raises it, and readers were told
            pass


def as_openai(message: Any, run: str) -> dict[str, Any]:
    """A chunk of a message as a chunk of a chat completion.

    Args:
        message: an `AIMessageChunk`.
        run: id of the call, for a chunk that has none of the message.
    """
    delta: dict[str, Any] = {}
    for block in message.content_blocks:
        match block:
            case {"type": "text", "text": text}:
                delta["content"] = delta.get("content", "") + text
            case {"type": "reasoning", "reasoning": text}:
                delta["reasoning_content"] = delta.get("reasoning_content", "") + text
            case {"type": "tool_call_chunk" | "tool_call"}:
                pass  # below
            case _:
                delta.setdefault("blocks", []).append(block)
    if message.tool_call_chunks:
        delta["tool_calls"] = [
            {
                "index": call["index"] or 0,
                "id": call["id"],
                "function": {"name": call["name"], "arguments": call["args"]},
            }
            for call in message.tool_call_chunks
        ]
    about = message.response_metadata
    chunk: dict[str, Any] = {
        "id": run,
        "choices": [{"index": 0, "delta": delta, "finish_reason": about.get("finish_reason")}],
    }
    if "model_name" in about:
        chunk["model"] = about["model_name"]
    if counts := message.usage_metadata:
        names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "total_tokens": "total_tokens"}
        chunk["usage"] = {name: counts[theirs] for name, theirs in names.items()}
    return chunk
