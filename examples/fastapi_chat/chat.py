"""A chat that streams, charged by what the vendor's tokens cost. Environment: DATABASE_URL, OPENAI_API_KEY, ANTHROPIC_API_KEY."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any

import httpx
from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse, Response, StreamingResponse
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from vendors import VENDORS, VendorFailed, stream

MAX_TOKENS = 4000  # of an answer
CAPTURE_EVERY = 2000  # characters

Db = AsyncConnection[DictRow]
Json = dict[str, Any]

pool = AsyncConnectionPool(
    os.environ["DATABASE_URL"], connection_class=AsyncConnection[DictRow], kwargs={"row_factory": dict_row}, open=False
)
http = httpx.AsyncClient(timeout=60)
answering: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with pool, http:
        yield
        await asyncio.gather(*answering)  # what has begun is charged before the app stops


app = FastAPI(lifespan=lifespan)


class Question(BaseModel):
    model: str
    text: str


@dataclass
class Job:
    """One question that is being answered."""

    id: str
    customer: str
    authorization: str
    question: Question
    charged: Decimal = Decimal(0)
    out: asyncio.Queue[Json | None] = field(default_factory=asyncio.Queue)  # for the client; None is the end
    client_left: asyncio.Event = field(default_factory=asyncio.Event)


@app.post("/chat")
async def chat(
    question: Question, x_customer: Annotated[str, Header()], idempotency_key: Annotated[str, Header()]
) -> Response:
    vendor = VENDORS.get(question.model)
    if vendor is None:
        return refused(422, "unknown_model")
    async with pool.connection() as db:  # a short transaction: the row and the hold, or neither
        row = await one(
            db,
            "INSERT INTO chats (customer, key, model, question) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (customer, key) DO NOTHING RETURNING id",
            [x_customer, idempotency_key, question.model, question.text],
        )
        if row is None:
            return await asked_before(db, x_customer, idempotency_key, question)
        most = vendor.count(most_tokens(question.text), MAX_TOKENS)
        hold = await credyt(
            db,
            "authorize",
            customer=x_customer,
            action="chat",
            usage={"vendor": vendor.name, "model": question.model, "body": most},
            ttl_seconds=300,
            overrun="clamp",  # the vendor is paid already: what the wallet lacks in the end is ours
            idempotency_key=str(row["id"]),
        )
        if not hold["approved"]:
            await db.execute("DELETE FROM chats WHERE id = %s", [row["id"]])  # the same key may ask again
            if hold["reason"] != "insufficient_credits":
                return refused(403, hold["reason"])
            needed, available = hold["credits"], hold["available"]
            return refused(402, hold["reason"], needed=needed, available=available, lacking=needed - available)

    job = Job(str(row["id"]), x_customer, str(hold["id"]), question)
    # A task of its own: it charges what was answered even when the client leaves and the response is cancelled.
    task = asyncio.create_task(answer(job))
    answering.add(task)
    task.add_done_callback(answering.discard)
    first = await job.out.get()
    if first is None:
        return refused(502, "vendor_failed")
    return StreamingResponse(to_client(job, first), media_type="text/event-stream")


async def asked_before(db: Db, customer: str, key: str, question: Question) -> Response:
    row = await one(db, "SELECT * FROM chats WHERE customer = %s AND key = %s", [customer, key])
    if row is None or row["answer"] is None:
        return refused(409, "still_answering")
    if (row["model"], row["question"]) != (question.model, question.text):
        return refused(422, "key_used_for_another_question")
    events = [{"text": row["answer"]}, {"credits": row["credits"]}]
    return StreamingResponse(map(sse, events), media_type="text/event-stream")


async def to_client(job: Job, event: Json | None) -> AsyncIterator[str]:
    try:
        while event is not None:
            yield sse(event)
            event = await job.out.get()
    finally:
        job.client_left.set()


async def answer(job: Job) -> None:
    try:
        await answer_and_charge(job)
    finally:
        job.out.put_nowait(None)


async def answer_and_charge(job: Job) -> None:
    """Calls the vendor, outside any transaction, and charges what it answered."""
    model, question = job.question.model, job.question.text
    vendor = VENDORS[model]
    text, captured, failed, finished = "", 0, False, False
    counts: list[Json] = []  # the events in which the vendor tells its usage
    try:
        async with aclosing(stream(http, vendor, vendor.request(model, question, MAX_TOKENS))) as events:
            async for event in events:
                if vendor.has_usage(event):
                    counts.append(event)
                if piece := vendor.text(event):
                    text += piece
                    job.out.put_nowait({"text": piece})
                if job.client_left.is_set():
                    break  # closes the connection to the vendor, who stops
                if len(text) - captured >= CAPTURE_EVERY:
                    captured = len(text)
                    await capture(job, vendor.count(least_tokens(question), least_tokens(text)), keep_open=True)
            else:
                finished = True
    except VendorFailed:
        failed = True

    if failed and not text:
        async with pool.connection() as db:  # nothing was answered, nothing is charged, and the key may ask again
            await credyt(
                db, "release", customer=job.customer, authorization_id=job.authorization, reason="vendor failed"
            )
            await db.execute("DELETE FROM chats WHERE id = %s", [job.id])
        return
    await capture(job, counts if finished else vendor.count(least_tokens(question), least_tokens(text)), answer=text)
    if failed:
        job.out.put_nowait({"error": "vendor_failed"})
    job.out.put_nowait({"credits": job.charged})


async def capture(job: Job, counts: Json | list[Json], *, keep_open: bool = False, answer: str | None = None) -> None:
    """Charges the totals so far, less what is charged already: calling it again never charges twice."""
    vendor = VENDORS[job.question.model]
    async with pool.connection() as db:
        debit = await credyt(
            db,
            "capture",
            customer=job.customer,
            authorization_id=job.authorization,
            usage={"vendor": vendor.name, "model": job.question.model, "body": counts},
            keep_open=keep_open,
        )
        job.charged += debit["credits"]
        if answer is not None:
            await db.execute("UPDATE chats SET answer = %s, credits = %s WHERE id = %s", [answer, job.charged, job.id])


async def credyt(db: Db, function: str, **request: Any) -> Json:
    row = await one(db, f"SELECT * FROM credyt.{function}(%s)", [Jsonb(request)])
    assert row is not None
    return row


async def one(db: Db, query: str, values: list[Any]) -> Json | None:
    return await (await db.execute(query.encode(), values)).fetchone()


def most_tokens(text: str) -> int:
    """A token has at least one byte. The vendor adds a few for the message around the text."""
    return len(text.encode()) + 100


def least_tokens(text: str) -> int:
    """Counted low until the vendor tells: a later capture charges more, never less."""
    return len(text) // 6


def sse(event: Json) -> str:
    return f"data: {json.dumps(event, default=str)}\n\n"


def refused(status: int, error: str, **more: Decimal) -> Response:
    return JSONResponse({"error": error} | {name: str(amount) for name, amount in more.items()}, status)
