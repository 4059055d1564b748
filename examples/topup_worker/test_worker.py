"""Whatever cards, networks and workers do: a card is charged once for a request, and its credits are granted once."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row
from worker import work

Db = psycopg.Connection[dict[str, Any]]


class Provider(ThreadingHTTPServer):
    """A stub of a payment provider: one answer for a key, for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Charges)
        self.lock = threading.Lock()
        self.answers: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.declines: set[str] = set()
        self.loses = 0.0  # the share of answers that never arrive
        self.random = random.Random(1)


class Charges(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        key = self.headers["Idempotency-Key"]
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked += 1
            declined = asked["customer"] in self.server.declines
            answer = {"id": f"pay_{key}", "status": "succeeded"} if not declined else {"status": "declined", "reason": "card declined"}
            answer = self.server.answers.setdefault(key, {**asked, **answer})
            lost = self.server.random.random() < self.server.loses
        body = json.dumps(answer).encode()
        self.send_response(500 if lost else 402 if answer["status"] == "declined" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        provider.shutdown()
        thread.join()
        provider.server_close()


@pytest.fixture
def client(provider: Provider) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{provider.server_port}", timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def url(database: Callable[[str, str, Path], str]) -> str:
    return database("topup_worker", "topper", Path(__file__).with_name("schema.sql"))


@pytest.fixture
def worker(url: str) -> Iterator[Db]:
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as db:
        yield db


@pytest.fixture
def db(url: str) -> Iterator[Db]:
    with psycopg.connect("", autocommit=True, row_factory=dict_row) as db:
        yield db
        db.execute("TRUNCATE credyt.clock")


def one(db: Db, sql: str, *args: object) -> Any:
    row = db.execute(sql, args).fetchone()
    assert row is not None
    return next(iter(row.values()))


def test_a_card_that_is_declined_is_asked_again_after_the_cooldown(db: Db, worker: Db, client: httpx.Client, provider: Provider) -> None:
    db.execute("INSERT INTO credyt.clock VALUES ('2031-01-01 00:00+00')")
    provider.declines.add("ann")
    db.execute("SELECT credyt.set_topup('ann', 0, 100, cooldown_seconds => 600)")
    assert work(worker, client) == 1
    assert provider.asked == 1
    assert one(db, "SELECT failure FROM credyt.events WHERE customer = 'ann'") == "card declined"
    assert one(db, "SELECT available FROM credyt.balance('ann')") == 0
    # The cooldown runs: whatever the customer tries, nobody charges the card.
    for _ in range(3):
        assert one(db, "SELECT reason FROM credyt.authorize('ann', 'image')") == "insufficient_credits"
        db.execute("SELECT credyt.maintain()")
        assert work(worker, client) == 0
    assert provider.asked == 1
    # It is over, and the card is a new one.
    db.execute("UPDATE credyt.clock SET now = '2031-01-01 00:10+00'")
    provider.declines.clear()
    assert one(db, "SELECT reason FROM credyt.authorize('ann', 'image')") == "insufficient_credits"
    assert work(worker, client) == 1
    assert one(db, "SELECT available FROM credyt.balance('ann')") == 100
    assert one(db, "SELECT sum(paid) FROM credyt.grants WHERE customer = 'ann'") == 2
    assert work(worker, client) == 0


def test_an_answer_that_is_lost_comes_again(db: Db, worker: Db, client: httpx.Client, provider: Provider) -> None:
    db.execute("INSERT INTO credyt.clock VALUES ('2031-02-01 00:00+00')")
    db.execute("SELECT credyt.set_topup('bob', 0, to_balance => 50)")
    provider.loses = 1.0
    with pytest.raises(httpx.HTTPStatusError):
        work(worker, client)
    provider.loses = 0.0
    assert work(worker, client) == 0  # leased
    db.execute("UPDATE credyt.clock SET now = '2031-02-01 00:01+00'")
    assert work(worker, client) == 1
    assert len(provider.answers) == 1 and provider.asked == 2
    assert one(db, "SELECT available FROM credyt.balance('bob')") == 50


def test_many_workers_and_a_bad_network(db: Db, url: str, client: httpx.Client, provider: Provider) -> None:
    customers = [f"many {n}" for n in range(12)]
    provider.declines.update(customers[:4])
    provider.loses = 0.3
    for customer in customers:
        db.execute("SELECT credyt.set_topup(%s, 5, 20, max_credits => 60, cooldown_seconds => 86400)", [customer])

    def run(nth: int) -> None:
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as worker:
            for _ in range(40):
                try:
                    work(worker, client, lease_seconds=1)
                except httpx.HTTPStatusError:
                    pass
                threading.Event().wait(0.05)

    def spend(nth: int) -> None:
        with psycopg.connect("", autocommit=True, row_factory=dict_row) as shop:
            for n in range(120):
                hold = shop.execute("SELECT * FROM credyt.authorize(%s, 'image')", [customers[(n + nth) % 12]]).fetchone()
                if hold and hold["approved"]:
                    shop.execute("SELECT credyt.capture(%s, %s)", [hold["customer"], hold["id"]])
                threading.Event().wait(0.01)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(run, n) for n in range(4)] + [pool.submit(spend, n) for n in range(4)]:
            future.result()
    provider.loses = 0.0
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as worker:
        for _ in range(60):
            if work(worker, client) == 0 and one(db, "SELECT count(*) FROM credyt.events_pending WHERE type = 'topup.requested'") == 0:
                break
            threading.Event().wait(0.1)
    # A card is charged once for each request, its credits are there once, and no more than the cap.
    for customer in customers:
        asked = db.execute("SELECT id, failed_at FROM credyt.events WHERE customer = %s AND type = 'topup.requested'", [customer]).fetchall()
        granted = one(db, "SELECT coalesce(sum(credits), 0) FROM credyt.grants WHERE customer = %s", customer)
        if customer in provider.declines:
            assert len(asked) == 1 and asked[0]["failed_at"] and granted == 0
        else:
            assert all(event["failed_at"] is None for event in asked)
            assert granted == 20 * len(asked) <= 60
        assert {str(event["id"]) for event in asked} == {key for key, answer in provider.answers.items() if answer["customer"] == customer}
    assert one(db, "SELECT count(*) FROM credyt.verify()") == 0
