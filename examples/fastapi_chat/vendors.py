"""Two vendors' streaming APIs: what is sent, what comes back, and where the text and the usage are in it."""

import json
import os
from collections.abc import AsyncGenerator
from typing import Any, Protocol

import httpx

Json = dict[str, Any]


class VendorFailed(Exception):
    pass


class Vendor(Protocol):
    name: str  # as the file of vendor rates calls it
    url: str
    headers: dict[str, str]

    def request(self, model: str, question: str, max_tokens: int) -> Json: ...
    def text(self, event: Json) -> str: ...
    def has_usage(self, event: Json) -> bool: ...
    def is_last(self, event: Json) -> bool: ...
    def count(self, input_tokens: int, output_tokens: int) -> Json: ...


class OpenAI:
    name = "openai"
    url = os.environ.get("OPENAI_URL", "https://api.openai.com") + "/v1/chat/completions"
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}

    def request(self, model: str, question: str, max_tokens: int) -> Json:
        messages = [{"role": "user", "content": question}]
        options = {"include_usage": True}  # without it a stream has no usage
        return {
            "model": model,
            "messages": messages,
            "max_completion_tokens": max_tokens,
            "stream": True,
            "stream_options": options,
        }

    def text(self, event: Json) -> str:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])

    def has_usage(self, event: Json) -> bool:
        return event.get("usage") is not None  # in the last chunk

    def is_last(self, event: Json) -> bool:
        return self.has_usage(event)

    def count(self, input_tokens: int, output_tokens: int) -> Json:
        return {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}


class Anthropic:
    name = "anthropic"
    url = os.environ.get("ANTHROPIC_URL", "https://api.anthropic.com") + "/v1/messages"
    headers = {"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01"}

    def request(self, model: str, question: str, max_tokens: int) -> Json:
        messages = [{"role": "user", "content": question}]
        return {"model": model, "messages": messages, "max_tokens": max_tokens, "stream": True}

    def text(self, event: Json) -> str:
        return event["delta"].get("text", "") if event["type"] == "content_block_delta" else ""

    def has_usage(self, event: Json) -> bool:
        return event["type"] in ("message_start", "message_delta")  # input tokens in the first, output in the second

    def is_last(self, event: Json) -> bool:
        return str(event["type"]) == "message_stop"

    def count(self, input_tokens: int, output_tokens: int) -> Json:
        return {"input_tokens": input_tokens, "output_tokens": output_tokens}


VENDORS: dict[str, Vendor] = {"gpt-5-mini": OpenAI(), "claude-haiku-4-5": Anthropic()}


async def stream(client: httpx.AsyncClient, vendor: Vendor, request: Json) -> AsyncGenerator[Json, None]:
    """The events of an answer. VendorFailed where it is refused, fails or ends too early."""
    try:
        async with client.stream("POST", vendor.url, json=request, headers=vendor.headers) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    raise VendorFailed(event["error"])
                yield event
                if vendor.is_last(event):
                    return
    except httpx.HTTPError as error:
        raise VendorFailed(error) from error
    raise VendorFailed("the stream ended too early")
