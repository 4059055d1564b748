"""Credits from asyncpg."""
import asyncio
import json
import os
from decimal import Decimal
from functools import partial
from uuid import UUID

import asyncpg


async def connect(url):
    db = await asyncpg.connect(url)
    # jsonb to and from Python objects; UUIDs and Decimals as text, which credyt reads as well.
    await db.set_type_codec("jsonb", schema="pg_catalog", encoder=partial(json.dumps, default=str), decoder=json.loads)
    return db


async def credyt(db, function, **request):
    """Calls credyt.<function> with one jsonb argument, and returns its row."""
    return await db.fetchrow(f"SELECT * FROM credyt.{function}($1::jsonb)", request)


class PaymentRequired(Exception):
    pass


async def create_job(db, customer, prompt, **debit):
    """The job and its debit: both, or neither."""
    try:
        async with db.transaction():
            job = await db.fetchval("INSERT INTO jobs (customer_id, prompt) VALUES ($1, $2) RETURNING id", customer, prompt)
            await credyt(db, "debit_credits", customer=customer, action="image", idempotency_key=f"job-{job}", **debit)
            return job
    except asyncpg.PostgresError as e:
        if e.sqlstate == "WC001":  # insufficient_credits
            raise PaymentRequired(json.loads(e.detail)) from e
        raise


async def chat(db, customer, key, ask_vendor):
    """Holds what the answer may cost, asks the vendor outside of any transaction, charges what it did cost."""
    hold = await credyt(db, "authorize", customer=customer, action="chat", idempotency_key=key,
                        dimensions={"input_tokens": 3000, "output_tokens": 2000})
    if not hold["approved"]:
        raise PaymentRequired(dict(hold))
    try:
        answer = await ask_vendor()
    except BaseException:  # the client has gone away, perhaps
        await credyt(db, "release", customer=customer, authorization_id=hold["id"], reason="vendor failed")
        raise
    counts = {key: answer[key] for key in answer if key != "choices"}  # the text stays out of the ledger
    return await credyt(db, "capture", customer=customer, authorization_id=hold["id"], usage={"vendor": "openai", "body": counts})


async def top_up(db, charge_card, lease_seconds=60):
    """A worker's round. It may die anywhere: what it did not acknowledge comes again when the lease is over."""
    for event in await db.fetch("SELECT * FROM credyt.take_events(10, $1)", lease_seconds):
        if event["type"] == "topup.requested":
            payment = await charge_card(event["customer"], key=str(event["id"]))
            await credyt(db, "grant_credits", customer=event["customer"], credits=event["payload"]["credits"], paid=20,
                         idempotency_key=payment)
        await db.execute("SELECT credyt.ack_events($1)", [event["id"]])


# What follows tries them.
async def main():
    user, team = 17, UUID("6f1c7b52-8f0e-4b3a-9d53-2f5f0f1f7a11")
    db = await connect(os.environ["DATABASE_URL"])

    job = await create_job(db, user, "a lighthouse", cost=3 * 0.1)  # a float: 0.30000000000000004
    assert (await credyt(db, "balance", customer=user))["available"] == 16
    print("a job and its debit are committed together")

    try:
        async with db.transaction():
            await create_job(db, user, "a whale")
            raise RuntimeError("the application changes its mind")
    except RuntimeError:
        pass
    assert (await credyt(db, "balance", customer=user))["available"] == 16
    print("a job and its debit are rolled back together")

    again = await credyt(db, "debit_credits", customer=user, action="image", idempotency_key=f"job-{job}", cost=3 * 0.1)
    assert again["replayed"] and again["available"] == 16
    print("the same key again is a replay")

    try:
        await create_job(db, user, "ten towers", quantity=10)
        assert False
    except PaymentRequired as e:
        assert (e.args[0]["needed"], e.args[0]["available"]) == ("40", "16")
    assert await db.fetchval("SELECT count(*) FROM jobs") == 1
    print("WC001 says what is needed and what is there")

    async def ask_vendor():
        with open(os.environ["ANSWER"]) as file:
            return json.load(file)
    charged = await chat(db, team, "chat-1", ask_vendor)
    assert (charged["credits"], charged["cost"], charged["available"]) == (Decimal("0.74"), Decimal("0.0033475"), Decimal("9.26"))
    print("an answer is charged by its own counts")

    payments = {}
    async def charge_and_die(customer, key):
        payments[key] = "pay_1"
        raise ConnectionError("the worker has died")
    async def charge(customer, key):
        return payments.setdefault(key, "pay_2")
    await create_job(db, user, "two gulls", quantity=2)
    try:
        await top_up(db, charge_and_die, lease_seconds=1)
    except ConnectionError:
        await asyncio.sleep(1.1)
    await top_up(db, charge)
    await top_up(db, charge)
    assert payments and (await credyt(db, "balance", customer=user))["available"] == 108
    print("a worker that died charges and grants once")

    margins = await db.fetch("SELECT customer, margin FROM credyt.margin_by_customer")
    assert dict(margins) == {str(user): Decimal("2.1"), str(team): Decimal("0.1446525")}
    print("the margin of each customer")


asyncio.run(main())
