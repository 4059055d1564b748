"""Whatever happens to a stream, the customer pays for what was answered, once, and nothing stays held."""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import fake_vendor
import httpx
import psycopg
import pytest
from conftest import serve
from psycopg.rows import dict_row

Json = dict[str, Any]
MODELS = {
    "gpt-5-mini": (Decimal("0.25"), Decimal(2)),
    "claude-haiku-4-5": (Decimal(1), Decimal(5)),
}  # dollars a million
names = (f"customer_{n}" for n in itertools.count(1))


@pytest.fixture(scope="module")
def client(database: Callable[[str, str, Path], str]) -> Iterator[httpx.Client]:
    os.environ["DATABASE_URL"] = database("fastapi_chat", "chat", Path(__file__).with_name("schema.sql"))
    with serve("fake_vendor:app") as vendor:
        os.environ["OPENAI_URL"] = os.environ["ANTHROPIC_URL"] = vendor
        os.environ["OPENAI_API_KEY"] = os.environ["ANTHROPIC_API_KEY"] = "test"
        with serve("chat:app") as url, httpx.Client(base_url=url, timeout=30) as client:
            yield client


@pytest.fixture(scope="module")
def db(client: httpx.Client) -> Iterator[psycopg.Connection[Json]]:
    with psycopg.connect("", autocommit=True, row_factory=dict_row) as db:
        yield db


@pytest.fixture
def customer(db: psycopg.Connection[Json]) -> Iterator[str]:
    """A customer with 100 credits. After the test nothing is held, and every invariant holds."""
    name = next(names)
    db.execute("SELECT credyt.grant_credits(%s, 100, paid => 10)", [name])
    yield name
    assert one(db, "SELECT held FROM credyt.balance(%s)", [name]) == {"held": 0}
    assert db.execute("SELECT * FROM credyt.verify(%s)", [name]).fetchall() == []


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


def one(db: psycopg.Connection[Json], query: str, values: list[Any]) -> Json:
    row = db.execute(query.encode(), values).fetchone()
    assert row
    return row


def headers(customer: str, key: str) -> dict[str, str]:
    return {"x-customer": customer, "idempotency-key": key}


def ask(client: httpx.Client, customer: str, model: str, text: str, key: str = "1") -> httpx.Response:
    return client.post("/chat", headers=headers(customer, key), json={"model": model, "text": text})


def events(response: httpx.Response) -> list[Json]:
    assert response.status_code == 200, response.text
    return [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line]


def text(events: list[Json]) -> str:
    return "".join(event.get("text", "") for event in events)


def spent(db: psycopg.Connection[Json], customer: str) -> Json:
    query = (
        "SELECT sum(-credits) AS credits, sum(cost) AS cost FROM credyt.ledger WHERE customer = %s AND kind = 'debit'"
    )
    return one(db, query, [customer])


def cost(model: str, output: int) -> Decimal:
    input_price, output_price = MODELS[model]
    return (fake_vendor.INPUT_TOKENS * input_price + output * output_price) / 1_000_000


def price(cost: Decimal) -> Decimal:
    """Half as much again, in cents, rounded up to a hundredth of a credit."""
    return (cost * 15000).to_integral_value("ROUND_CEILING") / 100


def wait_for(db: psycopg.Connection[Json], customer: str) -> Json:
    """The customer's chat, once it is answered."""
    for _ in range(500):
        chat = one(db, "SELECT * FROM chats WHERE customer = %s", [customer])
        if chat["answer"] is not None:
            return chat
        time.sleep(0.01)
    raise AssertionError("never answered")


def test_an_answer_is_charged_by_the_vendors_usage(
    client: httpx.Client, db: psycopg.Connection[Json], customer: str, model: str
) -> None:
    told = events(ask(client, customer, model, f"say 100 {customer}"))
    assert text(told) == "word " * 100
    assert spent(db, customer) == {"credits": price(cost(model, 100)), "cost": cost(model, 100)}
    assert Decimal(told[-1]["credits"]) == price(cost(model, 100))


def test_a_long_answer_is_charged_while_it_runs(
    client: httpx.Client, db: psycopg.Connection[Json], customer: str, model: str
) -> None:
    question = {"model": model, "text": f"say 900 {customer}"}
    with client.stream("POST", "/chat", headers=headers(customer, "1"), json=question) as response:
        for n, _ in enumerate(response.iter_lines()):
            if n == 1200:  # a line for each word, and an empty one
                now = one(db, "SELECT captured FROM credyt.open_authorizations WHERE customer = %s", [customer])
                assert 0 < now["captured"] < price(cost(model, 900))
    assert spent(db, customer) == {"credits": price(cost(model, 900)), "cost": cost(model, 900)}


def test_a_client_that_leaves_pays_for_what_was_answered(
    client: httpx.Client, db: psycopg.Connection[Json], customer: str, model: str
) -> None:
    question = {"model": model, "text": f"say 2000 {customer}"}
    with client.stream("POST", "/chat", headers=headers(customer, "1"), json=question) as response:
        for n, _ in enumerate(response.iter_lines()):
            if n == 600:
                break
    chat = wait_for(db, customer)
    assert 300 <= len(chat["answer"].split()) < 1000
    assert 0 < chat["credits"] == spent(db, customer)["credits"] < price(cost(model, 1000))
    time.sleep(0.2)
    assert fake_vendor.said[question["text"]] < 1000  # the vendor has stopped


def test_a_vendor_that_fails_half_way(
    client: httpx.Client, db: psycopg.Connection[Json], customer: str, model: str
) -> None:
    told = events(ask(client, customer, model, f"say 400 fail 200 {customer}"))
    assert text(told) == "word " * 200
    assert {"error": "vendor_failed"} in told
    assert 0 < Decimal(told[-1]["credits"]) == spent(db, customer)["credits"] <= price(cost(model, 200))


def test_a_vendor_that_refuses_costs_nothing(
    client: httpx.Client, db: psycopg.Connection[Json], customer: str, model: str
) -> None:
    for text in (f"refuse {customer}", f"say 5 fail 0 {customer}"):
        assert ask(client, customer, model, text).status_code == 502
        assert spent(db, customer)["credits"] is None
    told = events(ask(client, customer, model, f"say 5 {customer}"))  # the same key, once the vendor is well again
    assert len(told) == 6


def test_what_is_lacking(client: httpx.Client, db: psycopg.Connection[Json], model: str) -> None:
    customer = next(names)
    question = f"say 10 {customer}"
    refused = ask(client, customer, model, question)
    assert (refused.status_code, refused.json()["error"]) == (403, "wallet_not_found")

    db.execute("SELECT credyt.grant_credits(%s, 1)", [customer])
    refused = ask(client, customer, model, question)
    assert refused.status_code == 402
    lacking = refused.json()
    # Held is what the answer costs at most: 4,000 tokens, and a token for each byte of the question.
    needed = price((Decimal(len(question) + 100) * MODELS[model][0] + 4000 * MODELS[model][1]) / 1_000_000)
    assert lacking == {
        "error": "insufficient_credits",
        "needed": str(needed),
        "available": "1",
        "lacking": str(needed - 1),
    }
    assert fake_vendor.calls[question] == 0

    db.execute("SELECT credyt.grant_credits(%s, %s, paid => 1)", [customer, lacking["lacking"]])
    assert text(events(ask(client, customer, model, question))) == "word " * 10  # the same key


def test_a_retry_is_answered_once(
    client: httpx.Client, db: psycopg.Connection[Json], customer: str, model: str
) -> None:
    question = f"say 20 {customer}"
    first, second = (events(ask(client, customer, model, question)) for _ in range(2))
    assert text(first) == text(second) and first[-1] == second[-1]
    assert fake_vendor.calls[question] == 1
    assert spent(db, customer)["credits"] == price(cost(model, 20))
    assert ask(client, customer, model, "say 21").status_code == 422


def test_two_at_the_same_time(client: httpx.Client, db: psycopg.Connection[Json], customer: str, model: str) -> None:
    question = f"say 200 {customer}"
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: ask(client, customer, model, question), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert fake_vendor.calls[question] == 1
    assert spent(db, customer)["credits"] == price(cost(model, 200))
