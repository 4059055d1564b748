"""Credits from psycopg 3."""
import json
import os
import time
from decimal import Decimal
from functools import partial
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

dumps = partial(json.dumps, default=str)  # UUIDs and Decimals as text, which credyt reads as well


def credyt(db, function, **request):
    """Calls credyt.<function> with one jsonb argument, and returns its row as a dict."""
    query = sql.SQL("SELECT * FROM credyt.{}(%s::jsonb)").format(sql.Identifier(function))
    return db.execute(query, [Jsonb(request, dumps)]).fetchone()


class PaymentRequired(Exception):
    pass


def create_job(db, customer, prompt, **debit):
    """The job and its debit: both, or neither."""
    try:
        with db.transaction():
            job = db.execute("INSERT INTO jobs (customer_id, prompt) VALUES (%s, %s) RETURNING id", [customer, prompt]).fetchone()
            credyt(db, "debit_credits", customer=customer, action="image", idempotency_key=f"job-{job['id']}", **debit)
            return job["id"]
    except psycopg.Error as e:
        if e.sqlstate == "WC001":  # insufficient_credits
            raise PaymentRequired(json.loads(e.diag.message_detail)) from e
        raise


def chat(db, customer, key, ask_vendor):
    """Holds what the answer may cost, asks the vendor outside of any transaction, charges what it did cost."""
    hold = credyt(db, "authorize", customer=customer, action="chat", idempotency_key=key,
                  dimensions={"input_tokens": 3000, "output_tokens": 2000})
    if not hold["approved"]:
        raise PaymentRequired(hold)
    try:
        answer = ask_vendor()
    except Exception:
        credyt(db, "release", customer=customer, authorization_id=hold["id"], reason="vendor failed")
        raise
    counts = {key: answer[key] for key in answer if key != "choices"}  # the text stays out of the ledger
    return credyt(db, "capture", customer=customer, authorization_id=hold["id"], usage={"vendor": "openai", "body": counts})


def top_up(db, charge_card, lease_seconds=60):
    """A worker's round. It may die anywhere: what it did not acknowledge comes again when the lease is over."""
    for event in db.execute("SELECT * FROM credyt.take_events(10, %s)", [lease_seconds]).fetchall():
        if event["type"] == "topup.requested":
            payment = charge_card(event["customer"], key=str(event["id"]))
            credyt(db, "grant_credits", customer=event["customer"], credits=event["payload"]["credits"], paid=20,
                   idempotency_key=payment)
        db.execute("SELECT credyt.ack_events(%s)", [[event["id"]]])


# What follows tries them.
user, team = 17, UUID("6f1c7b52-8f0e-4b3a-9d53-2f5f0f1f7a11")
with open(os.environ["ANSWER"]) as file:
    answer = json.load(file)
payments = {}


def charge_and_die(customer, key):
    payments[key] = "pay_1"
    raise ConnectionError("the worker has died")


def main(db):
    job = create_job(db, user, "a lighthouse", cost=3 * 0.1)  # a float: 0.30000000000000004
    assert credyt(db, "balance", customer=user)["available"] == Decimal(16)
    print("a job and its debit are committed together")

    try:
        with db.transaction():
            create_job(db, user, "a whale")
            raise RuntimeError("the application changes its mind")
    except RuntimeError:
        pass
    assert credyt(db, "balance", customer=user)["available"] == Decimal(16)
    print("a job and its debit are rolled back together")

    again = credyt(db, "debit_credits", customer=user, action="image", idempotency_key=f"job-{job}", cost=3 * 0.1)
    assert again["replayed"] and again["available"] == Decimal(16)
    print("the same key again is a replay")

    try:
        create_job(db, user, "ten towers", quantity=10)
        assert False
    except PaymentRequired as e:
        assert (e.args[0]["needed"], e.args[0]["available"]) == ("40", "16")
    assert db.execute("SELECT count(*) FROM jobs").fetchone()["count"] == 1
    print("WC001 says what is needed and what is there")

    charged = chat(db, team, "chat-1", lambda: answer)
    assert (charged["credits"], charged["cost"], charged["available"]) == (Decimal("0.74"), Decimal("0.0033475"), Decimal("9.26"))
    print("an answer is charged by its own counts")

    create_job(db, user, "two gulls", quantity=2)
    try:
        top_up(db, charge_and_die, lease_seconds=1)
    except ConnectionError:
        time.sleep(1.1)
    for _ in range(2):
        top_up(db, lambda customer, key: payments.setdefault(key, "pay_2"))
    assert payments and credyt(db, "balance", customer=user)["available"] == Decimal(108)
    print("a worker that died charges and grants once")

    margins = db.execute("SELECT customer, margin FROM credyt.margin_by_customer").fetchall()
    assert {row["customer"]: row["margin"] for row in margins} == {str(user): Decimal("2.1"), str(team): Decimal("0.1446525")}
    print("the margin of each customer")


if __name__ == "__main__":
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, row_factory=dict_row) as connection:
        main(connection)
