"""Stripe's webhooks, booked in credits. Environment: DATABASE_URL, STRIPE_WEBHOOK_SECRET."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import stripe
from fastapi import FastAPI, HTTPException, Request
from psycopg import AsyncConnection, DatabaseError
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

SECRET = os.environ["STRIPE_WEBHOOK_SECRET"]

Db = AsyncConnection[DictRow]
Json = dict[str, Any]


class Pack(NamedTuple):
    credits: int
    bonus: int


PACKS = {"pack_1000": Pack(1000, bonus=0), "pack_5000": Pack(5000, bonus=500)}  # a session's metadata: pack
PLANS = {"price_pro": "pro", "price_max": "max"}  # Stripe's price: the plan in credyt

pool = AsyncConnectionPool(
    os.environ["DATABASE_URL"], connection_class=AsyncConnection[DictRow], kwargs={"row_factory": dict_row}, open=False
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with pool:
        yield


app = FastAPI(lifespan=lifespan)


class NotYet(Exception):
    """Another event has to come first."""


@app.post("/stripe/webhook")
async def webhook(request: Request) -> Json:
    try:
        signature = request.headers.get("stripe-signature")
        event = stripe.Webhook.construct_event(await request.body(), signature, SECRET).to_dict()
    except (ValueError, stripe.SignatureVerificationError):
        raise HTTPException(400, "not signed by Stripe") from None
    if handler := HANDLERS.get(event["type"]):
        try:
            async with pool.connection() as db:  # one transaction: all of an event, or nothing
                await handler(db, event["data"]["object"], moment(event["created"]))
        except NotYet as why:
            raise HTTPException(409, str(why)) from None  # Stripe sends the event again, for three days
    return {"received": True}


async def checkout_completed(db: Db, session: Json, _: datetime) -> None:
    """A pack is granted once it is paid. The money of a subscription comes with its invoices."""
    if session["mode"] != "payment" or session["payment_status"] == "unpaid":
        return
    key, customer, amount = session["id"], session["client_reference_id"], session["amount_total"]
    if not await is_new(db, key, customer, amount, session["payment_intent"]):
        return
    pack = PACKS[session["metadata"]["pack"]]
    net = cents(amount - session["total_details"]["amount_tax"])
    grants = [
        await one(
            db,
            "SELECT id FROM credyt.grant_credits(%s, %s, paid => %s, idempotency_key => %s)",
            [customer, pack.credits, net, key],
        )
    ]
    if pack.bonus:
        grants.append(
            await one(
                db,
                "SELECT id FROM credyt.grant_credits(%s, %s, kind => 'promotional', idempotency_key => %s)",
                [customer, pack.bonus, f"{key}:bonus"],
            )
        )
    await db.execute("UPDATE payments SET grants = %s WHERE id = %s", [[grant["id"] for grant in grants], key])


async def subscription_created(db: Db, subscription: Json, happened_at: datetime) -> None:
    """Who is on which plan, with how many seats. It grants nothing: each period is held back until its invoice is paid."""
    key, customer = subscription["id"], subscription["metadata"]["customer"]
    item = subscription["items"]["data"][0]
    plan, seats = PLANS[item["price"]["id"]], item["quantity"]
    inserted = await db.execute(
        "INSERT INTO subscriptions (id, customer, plan, seats, changed_at) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        [key, customer, plan, seats, happened_at],
    )
    if inserted.rowcount:
        # Stripe makes a new subscription for a customer who comes back. What it says of the former one no longer counts.
        await db.execute(
            "UPDATE subscriptions SET ended = true WHERE customer = %s AND plan = %s AND changed_at < %s",
            [customer, plan, happened_at],
        )
        await subscribe(db, customer, plan, seats, moment(subscription["billing_cycle_anchor"]), key)


async def subscribe(
    db: Db, customer: str, plan: str, seats: int, start: datetime | None = None, key: str | None = None
) -> None:
    """A subscription that goes on, or whose period still lasts, is resumed with the seats it has."""
    await db.execute(
        "SELECT credyt.subscribe(%s, %s, starts_at => %s, paid_through => %s, idempotency_key => %s, quantity => coalesce("
        "  (SELECT max(quantity) FROM credyt.subscriptions"
        "   WHERE customer = %s AND plan = %s AND (status <> 'ended' OR period_end > now())), %s))",
        [customer, plan, start, start, key, customer, plan, seats],
    )


async def subscription_changed(db: Db, subscription: Json, happened_at: datetime) -> None:
    """The newest event counts: another plan or other seats, a cancellation, the end."""
    key, customer = subscription["id"], subscription["metadata"]["customer"]
    item = subscription["items"]["data"][0]
    plan, seats = PLANS[item["price"]["id"]], item["quantity"]
    known = await one(db, "SELECT * FROM subscriptions WHERE id = %s FOR UPDATE", [key])
    if known["ended"] or happened_at < known["changed_at"]:
        return
    if (plan, seats) != (known["plan"], known["seats"]):
        await change_plan(db, known, subscription, plan, seats)
    ended = subscription["status"] in ("canceled", "incomplete_expired")
    if ended:
        await db.execute("SELECT credyt.unsubscribe(%s, %s)", [customer, plan])
    elif subscription["cancel_at"]:
        await db.execute("SELECT credyt.unsubscribe(%s, %s, %s)", [customer, plan, moment(subscription["cancel_at"])])
    else:  # takes a cancellation back; otherwise it changes nothing
        await subscribe(db, customer, plan, seats)
    await db.execute(
        "UPDATE subscriptions SET plan = %s, seats = %s, changed_at = %s, ended = %s WHERE id = %s",
        [plan, seats, happened_at, ended, key],
    )


async def change_plan(db: Db, known: Json, subscription: Json, plan: str, seats: int) -> None:
    """Within a period the change is paid by an invoice of its own, and comes once that is paid."""
    customer, invoice = known["customer"], subscription["latest_invoice"]
    item = subscription["items"]["data"][0]
    start, end = moment(item["current_period_start"]), moment(item["current_period_end"])
    period = await one(
        db,
        "SELECT period_start, period_end FROM credyt.subscriptions"
        " WHERE customer = %s AND plan = %s AND status <> 'ended' AND period_start IS NOT NULL",
        [customer, known["plan"]],
    )
    if start >= period["period_end"]:
        proration = "none"  # the next period is on the new plan
    else:
        await one(db, "SELECT id FROM payments WHERE id = %s FOR UPDATE", [invoice])
        proration = "restart" if start > period["period_start"] else "difference"
    before = await included(db, customer)
    await db.execute(
        "SELECT credyt.change_plan(%s, %s, to_plan => %s, quantity => %s, proration => %s)",
        [customer, known["plan"], plan, seats, proration],
    )
    if proration == "restart":
        await db.execute("SELECT credyt.pay_subscription(%s, %s, %s)", [customer, plan, end])
    await keep_grants(db, customer, before, invoice)


async def keep_grants(db: Db, customer: str, before: set[UUID], payment: str) -> None:
    """What a payment brought: a refund takes it back."""
    new = list(await included(db, customer) - before)
    await db.execute("UPDATE payments SET grants = grants || %s::uuid[] WHERE id = %s", [new, payment])


async def included(db: Db, customer: str) -> set[UUID]:
    found = await db.execute(
        "SELECT id FROM credyt.grant_balances WHERE customer = %s AND kind = 'included' AND origin IS NULL", [customer]
    )
    return {row["id"] for row in await found.fetchall()}


async def invoice_paid(db: Db, invoice: Json, _: datetime) -> None:
    """A period is paid: its credits are there. Those of a change come with the change."""
    parent = invoice["parent"] or {}
    if parent.get("type") != "subscription_details":
        return
    key, customer = invoice["id"], parent["subscription_details"]["metadata"]["customer"]
    if not await is_new(db, key, customer, invoice["amount_paid"]) or invoice["billing_reason"] == "subscription_update":
        return
    await one(db, "SELECT id FROM subscriptions WHERE id = %s", [parent["subscription_details"]["subscription"]])
    for line in invoice["lines"]["data"]:
        plan = PLANS.get(line["pricing"]["price_details"]["price"])
        if plan is None or line["parent"]["subscription_item_details"]["proration"]:
            continue
        before = await included(db, customer)
        if invoice["billing_reason"] == "subscription_create":
            await restart(db, customer, plan, line["quantity"], moment(line["period"]["start"]))
        try:
            await db.execute(
                "SELECT credyt.pay_subscription(%s, %s, %s, idempotency_key => %s)",
                [customer, plan, moment(line["period"]["end"]), key],
            )
        except DatabaseError as error:
            if error.sqlstate != "WC011":  # not_found
                raise
            raise NotYet(f"{customer} is not on plan {plan}") from None
        await keep_grants(db, customer, before, key)


async def restart(db: Db, customer: str, plan: str, seats: int, start: datetime) -> None:
    """Who comes back within a period with other seats has paid for a whole new one: it begins now."""
    await db.execute(
        "SELECT credyt.change_plan(customer, plan, quantity => %s, proration => 'restart') FROM credyt.subscriptions"
        " WHERE customer = %s AND plan = %s AND status <> 'ended' AND period_start < %s AND period_end > %s",
        [seats, customer, plan, start, start],
    )


async def invoice_payment_paid(db: Db, payment: Json, _: datetime) -> None:
    """Which payment paid an invoice. Refunds and disputes name the payment, not the invoice."""
    found = await db.execute(
        "UPDATE payments SET payment_intent = %s WHERE id = %s",
        [payment["payment"]["payment_intent"], payment["invoice"]],
    )
    if not found.rowcount:
        raise NotYet(f"invoice {payment['invoice']} is not known as paid")


async def charge_refunded(db: Db, charge: Json, _: datetime) -> None:
    """The amount is the sum of all refunds so far, so an older event that comes later has a smaller one."""
    await settle(
        db,
        await one(
            db,
            "UPDATE payments SET refunded = greatest(refunded, %s) WHERE payment_intent = %s RETURNING *",
            [charge["amount_refunded"], charge["payment_intent"]],
        ),
    )


async def dispute_changed(db: Db, dispute: Json, _: datetime) -> None:
    """The bank takes the money when a dispute opens and returns it when it is won, whichever event comes first."""
    status = dispute["status"]
    if status.startswith("warning_") or status == "prevented":
        return  # an inquiry: no money has moved
    await settle(
        db,
        await one(
            db,
            "UPDATE payments SET disputed = %s, dispute_won = dispute_won OR %s WHERE payment_intent = %s RETURNING *",
            [dispute["amount"], status == "won", dispute["payment_intent"]],
        ),
    )


async def settle(db: Db, payment: Json) -> None:
    """Takes back the credits of the money that has gone, or gives back those of money that has come back."""
    customer, amount, before = payment["customer"], payment["amount"], payment["taken_back"]
    after = min(amount, payment["refunded"] + (0 if payment["dispute_won"] else payment["disputed"]))
    found = await db.execute(
        "SELECT * FROM credyt.grant_balances WHERE customer = %s AND id = ANY(%s)",
        [customer, payment["grants"] + payment["given_back"]],
    )
    grants = await found.fetchall()
    given_back = []
    for grant in grants:
        if after == amount > before:  # all of it is gone: what was spent is owed
            await db.execute(
                "SELECT credyt.revoke_grant(%s, %s, spent => 'owe', reason => %s)",
                [customer, grant["id"], payment["id"]],
            )
        elif grant["id"] in payment["grants"]:
            part = credits(grant["credits"] * after / amount) - credits(grant["credits"] * before / amount)
            if part < 0:  # a dispute was won
                given_back.append(await give_back(db, grant, -part, Decimal(before - after) / amount))
            for source in grants if part > 0 else []:  # a part is gone: what was spent stays with the customer
                if source["kind"] == grant["kind"]:
                    part -= await take_back(db, source, part, payment["id"])
    await db.execute(
        "UPDATE payments SET taken_back = %s, given_back = given_back || %s::uuid[] WHERE id = %s",
        [after, given_back, payment["id"]],
    )


async def take_back(db: Db, grant: Json, part: Decimal, reason: str) -> Decimal:
    part = min(part, grant["remaining"] - grant["held"])
    if part > 0:
        await db.execute(
            "SELECT credyt.revoke_grant(%s, %s, %s, reason => %s)", [grant["customer"], grant["id"], part, reason]
        )
    return part


async def give_back(db: Db, grant: Json, part: Decimal, share: Decimal) -> Any:
    """Credits that ended while they were disputed are given back for another month."""
    end = grant["expires_at"] and max(grant["expires_at"], datetime.now(UTC) + timedelta(days=30))
    again = await one(
        db,
        "SELECT id FROM credyt.grant_credits(%s, %s, kind => %s, paid => %s, expires_at => %s)",
        [grant["customer"], part, grant["kind"], round(grant["paid"] * share, 2), end],
    )
    return again["id"]


async def is_new(db: Db, key: str, customer: str, amount: int, intent: str | None = None) -> bool:
    """Takes the payment before the wallet, as a refund does: in one order, so that two events cannot deadlock."""
    inserted = await db.execute(
        "INSERT INTO payments (id, customer, amount, payment_intent) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [key, customer, amount, intent],
    )
    return inserted.rowcount == 1


async def one(db: Db, query: str, values: list[Any]) -> Json:
    row = await (await db.execute(query, values)).fetchone()
    if row is None:
        raise NotYet("what it is about is not known yet")
    return row


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def cents(amount: int) -> Decimal:
    return Decimal(amount) / 100


def credits(exact: Decimal) -> Decimal:
    return round(exact, 2)  # the asset's decimals


HANDLERS: dict[str, Callable[[Db, Json, datetime], Awaitable[None]]] = {
    "checkout.session.completed": checkout_completed,
    "checkout.session.async_payment_succeeded": checkout_completed,
    "customer.subscription.created": subscription_created,
    "customer.subscription.updated": subscription_changed,
    "customer.subscription.deleted": subscription_changed,
    "invoice.paid": invoice_paid,
    "invoice_payment.paid": invoice_payment_paid,
    "charge.refunded": charge_refunded,
    "charge.dispute.created": dispute_changed,
    "charge.dispute.updated": dispute_changed,
    "charge.dispute.closed": dispute_changed,
}
