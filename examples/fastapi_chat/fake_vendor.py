"""Both vendors' APIs, as far as the test needs them, in the shapes that they really answer. It says "word " as often as it is asked to
("say 40"), fails after a number of words ("say 40 fail 20") or refuses ("refuse"), and remembers what it sent to each request."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse

Json = dict[str, Any]
app = FastAPI()
calls: Counter[str] = Counter()
said: Counter[str] = Counter()
PACE = 0.005  # seconds a word
INPUT_TOKENS = 12


@app.post("/v1/chat/completions")
async def chat_completions(body: Json) -> Response:
    return reply(body, openai)


@app.post("/v1/messages")
async def messages(body: Json) -> Response:
    return reply(body, anthropic)


def reply(body: Json, vendor: Any) -> Response:
    question = body["messages"][0]["content"]
    calls[question] += 1
    if "refuse" in question:
        return JSONResponse({"error": {"type": "overloaded_error", "message": "Overloaded"}}, 529)
    return StreamingResponse(vendor(body["model"], question), media_type="text/event-stream")


async def words(question: str) -> AsyncIterator[str]:
    asked = re.search(r"say (\d+)(?: fail (\d+))?", question)
    assert asked
    for n in range(int(asked[1])):
        if asked[2] and n == int(asked[2]):
            raise ConnectionError
        await asyncio.sleep(PACE)
        said[question] += 1
        yield "word "


def sse(event: Json, name: str | None = None) -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(event)}\n\n"


async def openai(model: str, question: str) -> AsyncIterator[str]:
    def chunk(choices: list[Json], usage: Json | None = None) -> str:
        head = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1795000000,
            "model": f"{model}-2025-08-07",
        }
        return sse(head | {"service_tier": "default", "system_fingerprint": None, "choices": choices, "usage": usage})

    def delta(delta: Json, finish: str | None = None) -> str:
        return chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])

    yield delta({"role": "assistant", "content": "", "refusal": None})
    try:
        async for word in words(question):
            yield delta({"content": word})
    except ConnectionError:
        yield sse(
            {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}
        )
        return
    yield delta({}, "stop")
    output = said[question]
    yield chunk(
        [],
        {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": output,
            "total_tokens": INPUT_TOKENS + output,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
    )
    yield "data: [DONE]\n\n"


async def anthropic(model: str, question: str) -> AsyncIterator[str]:
    def event(name: str, **fields: Any) -> str:
        return sse({"type": name, **fields}, name)

    usage = {
        "input_tokens": INPUT_TOKENS,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 1,
    }
    yield event(
        "message_start",
        message={
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": f"{model}-20251001",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage | {"service_tier": "standard"},
        },
    )
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield event("ping")
    try:
        async for word in words(question):
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
    except ConnectionError:
        yield event("error", error={"type": "overloaded_error", "message": "Overloaded"})
        return
    yield event("content_block_stop", index=0)
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": said[question]})
    yield event("message_stop")
