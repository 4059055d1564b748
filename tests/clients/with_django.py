"""Credits from Django, in one file: settings, a model of the application's own, and credyt by raw SQL."""
import json
import os
import time
from decimal import Decimal
from urllib.parse import urlsplit
from uuid import UUID

import django
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, connection, models, transaction

url = urlsplit(os.environ["DATABASE_URL"])
settings.configure(USE_TZ=True, DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username,
    "HOST": url.hostname, "PORT": url.port}})
django.setup()


class Job(models.Model):
    id = models.BigAutoField(primary_key=True)
    customer_id = models.BigIntegerField()
    prompt = models.TextField()

    class Meta:
        app_label, db_table, managed = "shop", "jobs", False


def rows(query, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


def credyt(function, **request):
    """Calls credyt.<function> with one jsonb argument, and returns its row as a dict."""
    [row] = rows(f"SELECT * FROM credyt.{function}(%s::jsonb)", json.dumps(request, cls=DjangoJSONEncoder))
    return row


class PaymentRequired(Exception):
    pass


def create_job(customer, prompt, **debit):
    """The job and its debit: both, or neither."""
    try:
        with transaction.atomic():
            job = Job.objects.create(customer_id=customer, prompt=prompt)
            credyt("debit_credits", customer=customer, action="image", idempotency_key=f"job-{job.id}", **debit)
            return job
    except DatabaseError as e:
        if e.__cause__.sqlstate == "WC001":  # insufficient_credits
            raise PaymentRequired(json.loads(e.__cause__.diag.message_detail)) from e
        raise


def chat(customer, key, ask_vendor):
    """Holds what the answer may cost, asks the vendor, charges what it did cost. With ATOMIC_REQUESTS
    the view is @transaction.non_atomic_requests: no transaction stays open while the vendor works."""
    hold = credyt("authorize", customer=customer, action="chat", idempotency_key=key,
                  dimensions={"input_tokens": 3000, "output_tokens": 2000})
    if not hold["approved"]:
        raise PaymentRequired(hold)
    try:
        answer = ask_vendor()
    except Exception:
        credyt("release", customer=customer, authorization_id=hold["id"], reason="vendor failed")
        raise
    counts = {key: answer[key] for key in answer if key != "choices"}  # the text stays out of the ledger
    return credyt("capture", customer=customer, authorization_id=hold["id"], usage={"vendor": "openai", "body": counts})


def top_up(charge_card, lease_seconds=60):
    """A worker's round. It may die anywhere: what it did not acknowledge comes again when the lease is over."""
    for event in rows("SELECT * FROM credyt.take_events(10, %s)", lease_seconds):
        if event["type"] == "topup.requested":
            payment = charge_card(event["customer"], key=str(event["id"]))
            payload = json.loads(event["payload"])  # a cursor of Django's returns jsonb as text
            credyt("grant_credits", customer=event["customer"], credits=payload["credits"], paid=20, idempotency_key=payment)
        rows("SELECT credyt.ack_events(%s)", [event["id"]])


# What follows tries them.
user, team = 17, UUID("6f1c7b52-8f0e-4b3a-9d53-2f5f0f1f7a11")
with open(os.environ["ANSWER"]) as file:
    answer = json.load(file)
payments = {}


def charge_and_die(customer, key):
    payments[key] = "pay_1"
    raise ConnectionError("the worker has died")


job = create_job(user, "a lighthouse", cost=3 * 0.1)  # a float: 0.30000000000000004
assert credyt("balance", customer=user)["available"] == 16
print("a job and its debit are committed together")

with transaction.atomic():
    create_job(user, "a whale")
    transaction.set_rollback(True)
assert credyt("balance", customer=user)["available"] == 16
print("a job and its debit are rolled back together")

again = credyt("debit_credits", customer=user, action="image", idempotency_key=f"job-{job.id}", cost=3 * 0.1)
assert again["replayed"] and again["available"] == 16
print("the same key again is a replay")

try:
    create_job(user, "ten towers", quantity=10)
    assert False
except PaymentRequired as e:
    assert (e.args[0]["needed"], e.args[0]["available"]) == ("40", "16")
assert Job.objects.count() == 1
print("WC001 says what is needed and what is there")

charged = chat(team, "chat-1", lambda: answer)
assert (charged["credits"], charged["cost"], charged["available"]) == (Decimal("0.74"), Decimal("0.0033475"), Decimal("9.26"))
print("an answer is charged by its own counts")

create_job(user, "two gulls", quantity=2)
try:
    top_up(charge_and_die, lease_seconds=1)
except ConnectionError:
    time.sleep(1.1)
for _ in range(2):
    top_up(lambda customer, key: payments.setdefault(key, "pay_2"))
assert payments and credyt("balance", customer=user)["available"] == 108
print("a worker that died charges and grants once")

margins = rows("SELECT customer, margin FROM credyt.margin_by_customer")
assert {row["customer"]: row["margin"] for row in margins} == {str(user): Decimal("2.1"), str(team): Decimal("0.1446525")}
print("the margin of each customer")
