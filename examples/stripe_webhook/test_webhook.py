"""Stripe sends events more than once, in any order, and two at a time. Whatever it does, the wallet ends the same."""

import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import stripe
from conftest import serve
from payloads import charge, dispute, event, invoice, invoice_payment, session, subscription
from psycopg.rows import dict_row

Json = dict[str, Any]
SECRET = "whsec_test"
NOW = int(time.time())
DAY = 86400
random.seed(1)
customers = (f"customer_{n}" for n in itertools.count(1))


@pytest.fixture(scope="module")
def url(database: Callable[[str, str, Path], str]) -> Iterator[str]:
    os.environ["DATABASE_URL"] = database("stripe_webhook", "billing", Path(__file__).with_name("schema.sql"))
    os.environ["STRIPE_WEBHOOK_SECRET"] = SECRET
    with serve("webhook:app") as address:
        yield address + "/stripe/webhook"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def db(url: str) -> Iterator[psycopg.Connection[Json]]:
    with psycopg.connect("", autocommit=True, row_factory=dict_row) as db:
        yield db


@pytest.fixture
def send(url: str, client: httpx.Client) -> Callable[[Json], int]:
    def send(event: Json) -> int:
        payload = json.dumps(event)
        header = stripe.WebhookSignature.generate_signature_header(payload, SECRET)
        return client.post(url, content=payload, headers={"stripe-signature": header}).status_code

    return send


def deliver(send: Callable[[Json], int], events: list[Json]) -> None:
    """As Stripe does: what was not answered with 2xx comes again later."""
    waiting = list(events)
    for _ in range(len(events)):
        answers = [(event, send(event)) for event in waiting]
        assert {status for _, status in answers} <= {200, 409}
        waiting = [event for event, status in answers if status != 200]
        if not waiting:
            return
    raise AssertionError(f"never taken: {[event['type'] for event in waiting]}")


def wallet(db: psycopg.Connection[Json], customer: str) -> tuple[Any, ...]:
    """What there is, what is owed, and what was paid for it and not earned yet; and no invariant is broken."""
    assert db.execute("SELECT * FROM credyt.verify(%s)", [customer]).fetchall() == []
    balance = db.execute("SELECT settled, owed FROM credyt.balance(%s)", [customer]).fetchone()
    deferred = db.execute(
        "SELECT coalesce(sum(deferred), 0) AS deferred FROM credyt.grant_balances WHERE customer = %s", [customer]
    ).fetchone()
    assert balance and deferred
    return balance["settled"], balance["owed"], deferred["deferred"]


# --- packs -------------------------------------------------------------------------------------------------------


def pack(customer: str, *also: Json) -> list[Json]:
    """5,000 credits and 500 as a bonus for 50 dollars and 5 dollars of tax."""
    return [event("checkout.session.completed", NOW, session(customer, "pack_5000", 5500, 500)), *also]


def refund(customer: str, refunded: int) -> Json:
    return event("charge.refunded", NOW + refunded, charge(f"pi_{customer}", 5500, refunded))


def disputed(customer: str, kind: str, status: str, amount: int = 5500) -> Json:
    return event(f"charge.dispute.{kind}", NOW, dispute(f"pi_{customer}", amount, status))


PACKS: dict[str, tuple[Callable[[str], list[Json]], tuple[float, float, float]]] = {
    "bought": (lambda c: pack(c), (5500, 0, 50)),
    "bought by bank transfer": (
        lambda c: [
            event("checkout.session.completed", NOW, session(c, "pack_1000", 1000, 0, paid=False)),
            event("checkout.session.async_payment_succeeded", NOW, session(c, "pack_1000", 1000, 0)),
        ],
        (1000, 0, 10),
    ),
    "a part refunded": (lambda c: pack(c, refund(c, 1100)), (4400, 0, 40)),
    "refunded in parts": (lambda c: pack(c, refund(c, 1100), refund(c, 2200), refund(c, 5500)), (0, 0, 0)),
    "inquiry": (
        lambda c: pack(
            c, disputed(c, "created", "warning_needs_response"), disputed(c, "closed", "warning_closed")
        ),
        (5500, 0, 50),
    ),
    "dispute lost": (
        lambda c: pack(c, disputed(c, "created", "needs_response"), disputed(c, "closed", "lost")),
        (0, 0, 0),
    ),
    "dispute won": (
        lambda c: pack(
            c,
            disputed(c, "created", "needs_response"),
            disputed(c, "updated", "under_review"),
            disputed(c, "closed", "won"),
        ),
        (5500, 0, 50),
    ),
    "a part refunded, the rest disputed and lost": (
        lambda c: pack(c, refund(c, 1100), disputed(c, "created", "needs_response", 4400), disputed(c, "closed", "lost", 4400)),
        (0, 0, 0),
    ),
    "a part refunded, the rest disputed and won": (
        lambda c: pack(c, refund(c, 1100), disputed(c, "created", "needs_response", 4400), disputed(c, "closed", "won", 4400)),
        (4400, 0, 40),
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", PACKS)
def test_packs_in_every_order(story: str, send: Callable[[Json], int], db: psycopg.Connection[Json]) -> None:
    events, expected = PACKS[story]
    for order in itertools.permutations(range(len(events("")))):
        customer = next(customers)
        sent = events(customer)
        shuffled = [sent[n] for n in order]
        deliver(send, shuffled + random.sample(shuffled, 1))
        assert wallet(db, customer) == expected, [f"{e['type']} {e['data']['object'].get('status')}" for e in shuffled]


@pytest.mark.parametrize("status, expected", [("lost", (-2000, 2000, 0)), ("won", (3500, 0, 35))])
def test_a_dispute_after_credits_were_spent(
    status: str, expected: tuple[int, ...], send: Callable[[Json], int], db: psycopg.Connection[Json]
) -> None:
    for order in itertools.permutations(range(2)):
        customer = next(customers)
        deliver(send, pack(customer))
        db.execute("SELECT credyt.debit_credits(%s, 'chat', credits => 2000)", [customer])
        sent = [disputed(customer, "created", "needs_response"), disputed(customer, "closed", status)]
        deliver(send, [sent[n] for n in order] * 2)
        settled, owed, _ = wallet(db, customer)
        assert (settled, owed) == expected[:2]


# --- plans -------------------------------------------------------------------------------------------------------


def months(count: int) -> list[int]:
    """The starts of that many monthly periods and the end of the last one, in which we are."""
    first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    starts = [first]
    for _ in range(count - 1):
        starts.insert(0, (starts[0] - timedelta(days=1)).replace(day=1))
    return [int(start.timestamp()) for start in [*starts, (first + timedelta(days=31)).replace(day=1)]]


def subscribed(customer: str, kind: str, at: int, price: str, start: int, end: int, **more: Any) -> Json:
    return event(f"customer.subscription.{kind}", at, subscription(customer, price, start, end, **more))


def paid(customer: str, price: str, start: int, end: int, reason: str) -> list[Json]:
    bill = invoice(customer, price, start, end, {"price_pro": 2000, "price_max": 10000}[price], reason)
    return [
        event("invoice.paid", start, bill),
        event("invoice_payment.paid", start, invoice_payment(bill, f"pi_{customer}_{start}")),
    ]


def renewed(c: str) -> list[Json]:
    first, second, end = months(2)
    return [
        subscribed(c, "created", first, "price_pro", first, second),
        paid(c, "price_pro", first, second, "subscription_create")[0],
        subscribed(c, "updated", second, "price_pro", second, end, anchor=first),
        paid(c, "price_pro", second, end, "subscription_cycle")[0],
    ]


def canceled(c: str) -> list[Json]:
    start, end = months(1)
    return [
        subscribed(c, "created", start, "price_pro", start, end),
        paid(c, "price_pro", start, end, "subscription_create")[0],
        subscribed(c, "updated", NOW - 2, "price_pro", start, end, cancel_at=end),
        subscribed(c, "deleted", NOW - 1, "price_pro", start, end, status="canceled"),
    ]


def stays_after_all(c: str) -> list[Json]:
    *events, updated, _ = canceled(c)
    start, end = months(1)
    return [*events, updated, subscribed(c, "updated", NOW - 1, "price_pro", start, end)]


def upgraded(c: str) -> list[Json]:
    """A full period of max begins now, and that of pro has ended."""
    start, end = months(1)
    return [
        subscribed(c, "created", start, "price_pro", start, end),
        paid(c, "price_pro", start, end, "subscription_create")[0],
        subscribed(c, "updated", NOW - 2, "price_max", NOW - 2, NOW + 30 * DAY),
        paid(c, "price_max", NOW - 2, NOW + 30 * DAY, "subscription_update")[0],
    ]


def downgraded(c: str) -> list[Json]:
    """From the next period on."""
    first, second, end = months(2)
    return [
        subscribed(c, "created", first, "price_max", first, second),
        paid(c, "price_max", first, second, "subscription_create")[0],
        subscribed(c, "updated", second, "price_pro", second, end, anchor=first),
        paid(c, "price_pro", second, end, "subscription_cycle")[0],
    ]


def month_refunded(c: str) -> list[Json]:
    start, end = months(1)
    return [
        subscribed(c, "created", start, "price_pro", start, end),
        *paid(c, "price_pro", start, end, "subscription_create"),
        event("charge.refunded", NOW, charge(f"pi_{c}_{start}", 2000, 2000)),
    ]


# What there is, what is owed, what is deferred; what was paid for all grants; whether another period will come.
STORIES: list[tuple[Callable[[str], list[Json]], tuple[int, ...]]] = [
    (renewed, (1000, 0, 20, 40, True)),
    (canceled, (1000, 0, 20, 20, False)),
    (stays_after_all, (1000, 0, 20, 20, True)),
    (upgraded, (6000, 0, 100, 120, True)),
    (downgraded, (1000, 0, 20, 120, True)),
    (month_refunded, (0, 0, 0, 20, True)),
]


@pytest.mark.parametrize("story, expected", STORIES)
def test_plans_in_every_order(
    story: Callable[[str], list[Json]],
    expected: tuple[int, ...],
    send: Callable[[Json], int],
    db: psycopg.Connection[Json],
) -> None:
    for order in itertools.permutations(range(len(story("")))):
        customer = next(customers)
        sent = story(customer)
        events = [sent[n] for n in order]
        deliver(send, events + random.sample(events, 1))
        billed = db.execute("SELECT sum(paid) FROM credyt.grant_balances WHERE customer = %s", [customer]).fetchone()
        plans = db.execute("SELECT plan FROM credyt.renewals WHERE customer = %s", [customer]).fetchall()
        assert len(plans) <= 1 and billed
        found = (*wallet(db, customer), billed["sum"], bool(plans))
        assert found == expected, [(e["type"], e["created"]) for e in events]


def seats_added(c: str) -> list[Json]:
    """Two seats more, within the period; Stripe bills the time that is left in an invoice of its own."""
    start, end = months(1)
    bill = invoice(c, "price_pro", NOW - 2, end, 2600, "subscription_update", proration=True)
    return [
        subscribed(c, "created", start, "price_pro", start, end),
        paid(c, "price_pro", start, end, "subscription_create")[0],
        subscribed(c, "updated", NOW - 2, "price_pro", start, end, seats=3, latest_invoice=NOW - 2),
        event("invoice.paid", NOW - 2, bill),
        event("invoice_payment.paid", NOW - 2, invoice_payment(bill, f"pi_{c}_seats")),
    ]


def test_seats_in_every_order(send: Callable[[Json], int], db: psycopg.Connection[Json]) -> None:
    start, end = months(1)
    for order in itertools.permutations(range(5)):
        customer = next(customers)
        sent = seats_added(customer)
        events = [sent[n] for n in order]
        deliver(send, events + random.sample(events, 1))
        grants = db.execute(
            "SELECT credits, paid, effective_at FROM credyt.grant_balances WHERE customer = %s ORDER BY id", [customer]
        ).fetchall()
        month, seats = sorted(grants, key=lambda grant: grant["effective_at"])
        left = (end - seats["effective_at"].timestamp()) / (end - start)
        assert (month["credits"], month["paid"]) == (1000, 20)
        assert abs(float(seats["credits"]) - 2000 * left) <= 0.02 and abs(float(seats["paid"]) - 40 * left) <= 0.01
        seen = db.execute("SELECT quantity, credits FROM credyt.subscriptions s JOIN credyt.renewals r USING (customer, plan)"
                          " WHERE customer = %s", [customer]).fetchone()
        assert seen == {"quantity": 3, "credits": 3000}
        # Refunded, they are taken back, and the month's are not.
        deliver(send, [event("charge.refunded", NOW, charge(f"pi_{customer}_seats", 2600, 2600))])
        assert wallet(db, customer) == (1000, 0, 20)


@pytest.mark.parametrize("seats", [1, 3])
def test_coming_back_within_a_period_in_every_order(
    seats: int, send: Callable[[Json], int], db: psycopg.Connection[Json]
) -> None:
    """With as many seats the payment is for the period that comes next; with others a whole one begins at once."""
    start, end = months(1)
    for order in itertools.permutations(range(4)):
        c = next(customers)
        deliver(send, [
            subscribed(c, "created", start, "price_pro", start, end),
            paid(c, "price_pro", start, end, "subscription_create")[0],
        ])  # fmt: skip
        now, month_later = NOW - 2, NOW + 30 * DAY
        bill = invoice(c, "price_pro", now, month_later, 2000 * seats, "subscription_create", seats=seats, again="_2")
        sent = [
            subscribed(c, "deleted", now - 1, "price_pro", start, end, status="canceled"),
            subscribed(c, "created", now, "price_pro", now, month_later, seats=seats, again="_2"),
            subscribed(c, "updated", now + 1, "price_pro", now, month_later, seats=seats, again="_2"),
            event("invoice.paid", now, bill),
        ]
        events = [sent[n] for n in order]
        deliver(send, events + random.sample(events, 1))
        assert wallet(db, c) == (1000 * seats, 0, 20 * seats), [(e["type"], e["created"]) for e in events]
        seen = db.execute("SELECT quantity, status FROM credyt.subscriptions WHERE customer = %s", [c]).fetchall()
        assert seen == [{"quantity": seats, "status": "active"}]
        if seats == 1:
            continue
        # What the bank takes back is the second month; the first has ended.
        payment = invoice_payment(bill, f"pi_{c}_2")
        deliver(send, [
            event("invoice_payment.paid", now, payment),
            event("charge.refunded", NOW, charge(f"pi_{c}_2", 2000 * seats, 2000 * seats)),
        ])  # fmt: skip
        assert wallet(db, c) == (0, 0, 0)


# --- at the same time, and not from Stripe -----------------------------------------------------------------------


def test_events_at_the_same_time(send: Callable[[Json], int], db: psycopg.Connection[Json]) -> None:
    for _ in range(5):
        customer = next(customers)
        events = pack(customer, refund(customer, 1100), disputed(customer, "created", "needs_response")) * 4
        random.shuffle(events)
        with ThreadPoolExecutor(4) as threads:
            while events:
                answers = list(zip(events, threads.map(send, events)))
                assert {status for _, status in answers} <= {200, 409}
                events = [event for event, status in answers if status != 200]
        assert wallet(db, customer) == (0, 0, 0)


def test_only_stripe_is_believed(url: str, client: httpx.Client, db: psycopg.Connection[Json]) -> None:
    payload = json.dumps(pack("thief")[0])
    sign = stripe.WebhookSignature.generate_signature_header
    for header in [
        None,
        "t=1,v1=00",
        sign(payload, "whsec_other"),
        sign(payload, SECRET, timestamp=NOW - 3600),  # heard an hour ago, and sent again
        sign(payload.replace("5000", "1000"), SECRET),
    ]:
        headers = {"stripe-signature": header} if header else {}
        assert client.post(url, content=payload, headers=headers).status_code == 400
    assert wallet(db, "thief") == (0, 0, 0)


def test_the_payloads_are_stripes() -> None:
    """Each field is one that Stripe's own package declares."""
    bill = invoice("c", "price_pro", 1, 2, 2000, "subscription_create")
    for kind, thing in [
        (stripe.checkout.Session, session("c", "pack_1000", 1000, 0)),
        (stripe.Charge, charge("pi_c", 1000, 0)),
        (stripe.Dispute, dispute("pi_c", 1000, "won")),
        (stripe.Subscription, subscription("c", "price_pro", 1, 2)),
        (stripe.SubscriptionItem, subscription("c", "price_pro", 1, 2)["items"]["data"][0]),
        (stripe.Invoice, bill),
        (stripe.InvoiceLineItem, bill["lines"]["data"][0]),
        (stripe.InvoicePayment, invoice_payment(bill, "pi_c")),
        (stripe.Event, event("invoice.paid", 1, bill)),
    ]:
        assert thing.keys() <= kind.__annotations__.keys(), kind
