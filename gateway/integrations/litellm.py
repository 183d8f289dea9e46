"""A callback of LiteLLM's proxy that publishes the streamed answers of all models it serves.

    litellm_settings:
      callbacks: ["deltawire.gateway.integrations.litellm.handler"]

The gateway's address is `DELTAWIRE_URL` (`ws://127.0.0.1:8765` by default), and a token for publishing
`DELTAWIRE_TOKEN`. A request names the stream of its answer as `metadata.deltawire_stream` or in the header
`X-Deltawire-Stream`; several answers may go to one stream, which stays open. The answer to a request that names none
has a stream of its own, whose id is that in the header `x-litellm-call-id` of the response, and which ends with it.

The answer comes first: the caller gets the same chunks as without this callback, and never waits for the gateway. A
reader's `cancel` ends the answer and closes LiteLLM's connection to the provider.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import Any, Final

from litellm.integrations.custom_logger import CustomLogger

from deltawire.gateway.client import Publisher
from deltawire.gateway.logs import get_logger
from deltawire.gateway.tee import tee

FIELD: Final = "deltawire_stream"
"""Key of a request's metadata: the id of the stream for the answer."""

HEADER: Final = "x-deltawire-stream"
"""Header of a request: as `FIELD`."""

log = get_logger()


class Handler(CustomLogger):  # type: ignore[misc]  # litellm is not installed where types are checked
    """The callback.

    Args:
        url: the gateway's address, `ws://HOST:PORT`.
        token: sent to the gateway, if it wants one.

    Raises:
        ValueError: an argument is wrong; the message says which, and what is expected.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        super().__init__()
        self._url = url
        self._token = token
        self._publisher("checked-when-litellm-starts")

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: object, response: AsyncIterable[Any], request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """The chunks of an answer, which are published as they pass. LiteLLM calls this, by keyword.

        Args:
            user_api_key_dict: not used.
            response: the chunks.
            request_data: what LiteLLM knows of the request.
        """
        del user_api_key_dict
        named = named_stream(request_data)
        stream = named or str(request_data.get("litellm_call_id"))
        try:
            publisher = self._publisher(stream)
        except ValueError as error:  # no id of a stream
            log.warning("tee.failed", stream=stream[:200], why=str(error))
            async for chunk in response:
                yield chunk
            return
        async with tee(response, publisher, stop_on_cancel=True, close=not named, linger_aside=True) as chunks:
            async for chunk in chunks:
                yield chunk

    def _publisher(self, stream: str) -> Publisher:
        return Publisher(self._url, stream, token=self._token)


def named_stream(request: Mapping[str, Any]) -> str:
    """The id of the stream that a request names; empty if it names none.

    Args:
        request: what LiteLLM knows of it: its metadata, where LiteLLM puts them for this route, and its headers.
    """
    asked = request.get("proxy_server_request")
    metadata = [request.get("metadata"), request.get("litellm_metadata")]
    if isinstance(asked, Mapping):
        body = asked.get("body")
        metadata += [body.get("metadata") if isinstance(body, Mapping) else None]
    for place in metadata:
        if isinstance(place, Mapping) and place.get(FIELD):
            return str(place[FIELD])
    headers = asked.get("headers") if isinstance(asked, Mapping) else None
    if isinstance(headers, Mapping):
        return next((str(value) for name, value in headers.items() if str(name).lower() == HEADER), "")
    return ""


handler = Handler(os.environ.get("DELTAWIRE_URL", "ws://127.0.0.1:8765"), os.environ.get("DELTAWIRE_TOKEN"))
"""What the configuration of LiteLLM names."""
