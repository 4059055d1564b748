"""Buys credits for customers who run low, and says so when their card is declined. Any number of these may run.

Environment: DATABASE_URL, PAYMENT_URL.
"""

import os
import time
from decimal import Decimal
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

PRICE = Decimal("0.02")  # of one credit

Db = psycopg.Connection[dict[str, Any]]


def work(db: Db, provider: httpx.Client, lease_seconds: int = 60) -> int:
    """One round. It may die anywhere: what it did not acknowledge comes again when the lease is over. How many events it took."""
    events = db.execute("SELECT * FROM credyt.take_events(10, %s)", [lease_seconds]).fetchall()
    for event in events:
        charge = ask(provider, event) if event["type"] == "topup.requested" else None
        with db.transaction():
            if charge is not None:
                book(db, event, charge)
            db.execute("SELECT credyt.ack_events(%s)", [[event["id"]]])
    return len(events)


def ask(provider: httpx.Client, event: dict[str, Any]) -> dict[str, Any]:
    """Charges the card, outside of any transaction. The event's id is the key: asked again, the provider answers the same.

    A provider that cannot be reached or does not know is no answer: the exception ends the round, and the event comes again.
    """
    money = Decimal(event["payload"]["credits"]) * PRICE
    response = provider.post(
        "/charges", json={"customer": event["customer"], "amount": str(money)}, headers={"Idempotency-Key": str(event["id"])}
    )
    if response.status_code != 402:  # declined
        response.raise_for_status()
    return response.json()


def book(db: Db, event: dict[str, Any], charge: dict[str, Any]) -> None:
    if charge["status"] == "succeeded":
        db.execute(
            "SELECT credyt.grant_credits(%s, %s, paid => %s, asset => %s, idempotency_key => %s)",
            [event["customer"], Decimal(event["payload"]["credits"]), Decimal(charge["amount"]), event["asset"], charge["id"]],
        )
    else:  # nothing is asked for until the rule's cooldown is over
        db.execute("SELECT credyt.topup_failed(%s, %s, %s)", [event["customer"], event["id"], charge["reason"]])


def main() -> None:
    with httpx.Client(base_url=os.environ["PAYMENT_URL"], timeout=20) as provider:
        while True:
            try:
                with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, row_factory=dict_row) as db:
                    while True:
                        if work(db, provider) == 0:
                            time.sleep(1)
            except (httpx.HTTPError, psycopg.OperationalError) as why:
                print(f"again in 5 seconds: {why}")
                time.sleep(5)


if __name__ == "__main__":
    main()
