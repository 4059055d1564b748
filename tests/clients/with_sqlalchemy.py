"""Credits from SQLAlchemy 2, with psycopg 3 beneath it."""
import json
import os
import time
from decimal import Decimal
from functools import partial
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Text, bindparam, create_engine, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

# UUIDs and Decimals as text, which credyt reads as well.
engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:"),
                       json_serializer=partial(json.dumps, default=str))


class Base(DeclarativeBase):
    pass


class Job(Base):
    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    customer_id: Mapped[int] = mapped_column(BigInteger)
    prompt: Mapped[str] = mapped_column(Text)


def credyt(session, function, **request):
    """Calls credyt.<function> with one jsonb argument, and returns its row."""
    query = text(f"SELECT * FROM credyt.{function}(:request)").bindparams(bindparam("request", type_=JSONB))
    return session.execute(query, {"request": request}).one()


class PaymentRequired(Exception):
    pass


def create_job(session, customer, prompt, **debit):
    """The job and its debit, in the caller's transaction."""
    job = Job(customer_id=customer, prompt=prompt)
    session.add(job)
    session.flush()
    try:
        credyt(session, "debit_credits", customer=customer, action="image", idempotency_key=f"job-{job.id}", **debit)
    except DBAPIError as e:
        if e.orig.sqlstate == "WC001":  # insufficient_credits
            raise PaymentRequired(json.loads(e.orig.diag.message_detail)) from e
        raise
    return job.id


def chat(customer, key, ask_vendor):
    """Holds what the answer may cost, asks the vendor outside of any transaction, charges what it did cost."""
    with Session(engine) as session, session.begin():
        hold = credyt(session, "authorize", customer=customer, action="chat", idempotency_key=key,
                      dimensions={"input_tokens": 3000, "output_tokens": 2000})
    if not hold.approved:
        raise PaymentRequired(hold._asdict())
    try:
        answer = ask_vendor()
    except Exception:
        with Session(engine) as session, session.begin():
            credyt(session, "release", customer=customer, authorization_id=hold.id, reason="vendor failed")
        raise
    counts = {key: answer[key] for key in answer if key != "choices"}  # the text stays out of the ledger
    with Session(engine) as session, session.begin():
        return credyt(session, "capture", customer=customer, authorization_id=hold.id, usage={"vendor": "openai", "body": counts})


def top_up(charge_card, lease_seconds=60):
    """A worker's round. It may die anywhere: what it did not acknowledge comes again when the lease is over."""
    with Session(engine) as session, session.begin():
        events = session.execute(text("SELECT * FROM credyt.take_events(10, :lease)"), {"lease": lease_seconds}).all()
    for event in events:
        if event.type == "topup.requested":
            payment = charge_card(event.customer, key=str(event.id))
        with Session(engine) as session, session.begin():
            if event.type == "topup.requested":
                credyt(session, "grant_credits", customer=event.customer, credits=event.payload["credits"], paid=20,
                       idempotency_key=payment)
            session.execute(text("SELECT credyt.ack_events(:ids)"), {"ids": [event.id]})


# What follows tries them.
user, team = 17, UUID("6f1c7b52-8f0e-4b3a-9d53-2f5f0f1f7a11")
with open(os.environ["ANSWER"]) as file:
    answer = json.load(file)
payments = {}


def charge_and_die(customer, key):
    payments[key] = "pay_1"
    raise ConnectionError("the worker has died")


def available():
    with Session(engine) as session:
        return credyt(session, "balance", customer=user).available


with Session(engine) as session, session.begin():
    job = create_job(session, user, "a lighthouse", cost=3 * 0.1)  # a float: 0.30000000000000004
assert available() == 16
print("a job and its debit are committed together")

with Session(engine) as session:
    create_job(session, user, "a whale")
    session.rollback()
assert available() == 16
print("a job and its debit are rolled back together")

with Session(engine) as session, session.begin():
    again = credyt(session, "debit_credits", customer=user, action="image", idempotency_key=f"job-{job}", cost=3 * 0.1)
assert again.replayed and again.available == 16
print("the same key again is a replay")

try:
    with Session(engine) as session, session.begin():
        create_job(session, user, "ten towers", quantity=10)
    assert False
except PaymentRequired as e:
    assert (e.args[0]["needed"], e.args[0]["available"]) == ("40", "16")
with Session(engine) as session:
    assert session.scalar(select(func.count()).select_from(Job)) == 1
print("WC001 says what is needed and what is there")

charged = chat(team, "chat-1", lambda: answer)
assert (charged.credits, charged.cost, charged.available) == (Decimal("0.74"), Decimal("0.0033475"), Decimal("9.26"))
print("an answer is charged by its own counts")

with Session(engine) as session, session.begin():
    create_job(session, user, "two gulls", quantity=2)
try:
    top_up(charge_and_die, lease_seconds=1)
except ConnectionError:
    time.sleep(1.1)
for _ in range(2):
    top_up(lambda customer, key: payments.setdefault(key, "pay_2"))
assert payments and available() == 108
print("a worker that died charges and grants once")

with Session(engine) as session:
    margins = session.execute(text("SELECT customer, margin FROM credyt.margin_by_customer")).all()
assert dict(map(tuple, margins)) == {str(user): Decimal("2.1"), str(team): Decimal("0.1446525")}
print("the margin of each customer")
