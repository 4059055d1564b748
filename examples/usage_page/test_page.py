"""Customers see their own wallet, all of it, exactly, and nothing else, whatever stands in it."""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from bs4 import BeautifulSoup, Tag
from conftest import serve

HERE = Path(__file__).parent
names = (f"customer_{n}" for n in itertools.count(1))

Db = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def url(database: Callable[[str, str, Path], str]) -> Iterator[str]:
    os.environ["DATABASE_URL"] = database("usage_page", "usage_page", HERE / "schema.sql")
    os.environ["SESSION_SECRET"] = "test"
    os.environ["SESSION_INSECURE"] = "1"
    with serve("try_it:app") as url:
        yield url


@pytest.fixture(scope="module")
def db(url: str) -> Iterator[Db]:
    with psycopg.connect("", autocommit=True) as db:
        db.execute((HERE / "try_it.sql").read_text())
        yield db


@pytest.fixture
def customer(db: Db) -> Iterator[str]:
    name = next(names)
    yield name
    assert db.execute("SELECT * FROM credyt.verify(%s)", [name]).fetchall() == []


@pytest.fixture
def sign_in(url: str) -> Iterator[Callable[[str], httpx.Client]]:
    clients = []

    def sign_in(customer: str) -> httpx.Client:
        clients.append(httpx.Client(base_url=url, timeout=30))
        assert clients[-1].post("/sign-in", data={"customer": customer}).status_code == 303
        return clients[-1]

    yield sign_in
    for client in clients:
        client.close()


def page(client: httpx.Client, query: str = "") -> BeautifulSoup:
    response = client.get("/usage" + query)
    assert response.status_code == 200, response.text
    return BeautifulSoup(response.text, "html.parser")


def section(page: BeautifulSoup, heading: str) -> Tag:
    found = page.find(id=heading)
    assert found and found.name == "h2"
    part = found.parent
    assert part and part["aria-labelledby"] == heading
    return part


def text(tag: Tag) -> str:
    return " ".join(tag.get_text(" ", strip=True).split())


def table(part: Tag) -> list[list[str]]:
    body = part.find("tbody")
    return [[text(cell) for cell in row.find_all(["th", "td"])] for row in body.find_all("tr")] if body else []


def number(amount: str) -> Decimal:
    return Decimal(amount.replace(",", "").replace("\N{MINUS SIGN}", "-"))


# --- whose page it is ------------------------------------------------------------------------------------------------


def test_a_stranger_is_asked_to_sign_in(url: str) -> None:
    assert httpx.get(url + "/usage").headers["location"] == "/sign-in"
    forged = (
        "eyJjdXN0b21lciI6ICJiZW4ifQ==.aSYkRA.c2lnbmF0dXJl"  # {"customer": "ben"}, signed by nobody who has the secret
    )
    assert httpx.get(url + "/usage", cookies={"session": forged}).headers["location"] == "/sign-in"


def test_the_session_says_whose_page_it_is(db: Db, sign_in: Callable[[str], httpx.Client]) -> None:
    ada = sign_in("ada")
    (bens_row,) = db.execute("SELECT id FROM credyt.history('ben', count => 1)").fetchone() or ()
    for query in ["", "?customer=ben", "?customer=ben&customer=ada"]:
        assert text(section(page(ada, query), "balance")).endswith("112 credits to spend")
    assert len(table(section(page(ada, f"?before={bens_row}"), "history"))) <= 3
    assert ada.get("/usage?before=ben").status_code == 422
    cookie = ada.post("/sign-in", data={"customer": "ada"}).headers["set-cookie"]
    assert "httponly" in cookie and "samesite=lax" in cookie
    ada.post("/sign-out")
    assert ada.get("/usage").status_code == 303


def test_the_role_may_call_what_the_page_calls(db: Db, url: str) -> None:
    allowed = db.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc p"
        " WHERE p.pronamespace IN ('credyt'::regnamespace, 'public'::regnamespace)"
        " AND has_function_privilege('usage_page', p.oid, 'EXECUTE')"
        " AND p.proname NOT IN (SELECT name FROM credyt.capabilities WHERE kind = 'function' AND everyone)"
    ).fetchall()
    assert {name.split("(")[0] for (name,) in allowed} == {
        "grants_of",
        "credyt.balance",
        "credyt.usage",
        "credyt.history",
    }
    tables = db.execute(
        "SELECT oid::regclass::text FROM pg_class"
        " WHERE relnamespace IN ('credyt'::regnamespace, 'public'::regnamespace)"
        " AND relkind IN ('r', 'p', 'v', 'm') AND has_any_column_privilege('usage_page', oid, 'SELECT, INSERT, UPDATE')"
    ).fetchall()
    assert tables == []


# --- what it shows ---------------------------------------------------------------------------------------------------


def test_nothing_yet(sign_in: Callable[[str], httpx.Client]) -> None:
    shown = page(sign_in("cleo"))
    assert text(section(shown, "balance")) == "Balance 0 credits to spend"
    assert "Nothing ends" in text(section(shown, "ending"))
    assert "no credits yet" in text(section(shown, "grants"))
    assert "Nothing was used" in text(section(shown, "used"))
    assert "Nothing has happened yet" in text(section(shown, "history"))
    assert not shown.find(["table", "svg", "nav"])


def test_three_entries(sign_in: Callable[[str], httpx.Client], db: Db) -> None:
    client = sign_in("ada")
    shown = page(client)
    assert text(section(shown, "balance")) == "Balance 112 credits to spend"
    ending = [text(item) for item in section(shown, "ending").find_all("li")]
    assert [re.sub(r": .*", "", item) for item in ending] == [
        "12 credits (gift) end in 3 days",
        "100 credits (from your plan) end in 17 days",
    ]
    assert [(re.sub(r" \d+ \w+ \d+, [\d:]+$", "", name), left) for name, left in table(section(shown, "grants"))] == [
        ("Gift only for image, ends", "12"),
        ("From your plan for everything, ends", "100"),
    ]
    (bar,) = section(shown, "used").find_all("rect")
    assert text(bar).endswith("image: 8")
    assert [
        (re.sub(r"^[^:]+:\d\d ", "", what), credits, balance)
        for what, credits, balance in table(section(shown, "history"))
    ] == [
        ("Used: image × 2", "\N{MINUS SIGN}8", "112"),
        ("Credits added", "+100", "120"),
        ("Credits added", "+20", "20"),
    ]
    assert not shown.find("nav")
    assert "Europe/Berlin" in text(shown)


def test_ten_thousand_entries(sign_in: Callable[[str], httpx.Client], db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    import page as module

    client = sign_in("ben")
    assert len(table(section(page(client), "history"))) == 50
    monkeypatch.setattr(module, "ENTRIES", 500)
    seen: list[tuple[str, str]] = []
    address, pages = "/usage", 0
    while address:
        html = client.get(address).text
        history = html[html.index('id="history"') :]
        seen += re.findall(r'<td class="amount">(.+)</td>\n<td class="amount">(.+)</td>', history)
        assert ('<a href="/usage">Newest</a>' in history) == (pages > 0)
        older = re.search(r'<a href="(.+)" rel="next">', history)
        address, pages = older[1] if older else "", pages + 1
    assert (len(seen), pages) == (10_000, 20)
    for (credits, after), (_, before) in itertools.pairwise(seen):
        assert number(after) - number(credits) == number(before)
    (settled,) = db.execute("SELECT settled FROM credyt.balance('ben')").fetchone() or ()
    assert number(seen[0][1]) == settled


def test_the_chart_and_its_table_are_what_was_used(sign_in: Callable[[str], httpx.Client], db: Db) -> None:
    used = section(page(sign_in("ben")), "used")
    assert text(used).startswith("Used in the last 30 days")
    days = table(used)
    assert len({day for day, *_ in days}) == 30
    for _, *amounts, together in days:
        assert sum(map(number, amounts)) == number(together)
    (credits,) = db.execute("SELECT sum(credits) FROM credyt.usage('ben')").fetchone() or ()
    assert sum(number(together) for *_, together in days) == credits
    assert len(used.find_all("rect")) == sum(number(amount) != 0 for _, *amounts, _ in days for amount in amounts)
    assert [text(head) for head in used.find_all("th", scope="col")] == [
        "Day",
        "image",
        "video.second",
        "chat",
        "Together",
    ]


def test_days_of_23_and_25_hours_are_days(url: str, db: Db) -> None:
    import page as module

    for since, until, days in [("2026-03-25", "2026-04-01", 7), ("2025-10-20", "2025-11-01", 12)]:
        rows = db.execute(
            "SELECT bucket_start, credits FROM credyt.usage('cleo',"
            " %s::timestamp AT TIME ZONE 'Europe/Berlin', %s::timestamp AT TIME ZONE 'Europe/Berlin')",
            [since, until],
        ).fetchall()
        drawn = module.chart_of([{"bucket_start": at, "total": credits, "action": None} for at, credits in rows])
        assert (len(drawn.days), str(drawn.days[0])) == (days, since)


def test_more_given_back_than_used_hangs_below_zero(
    customer: str, sign_in: Callable[[str], httpx.Client], db: Db
) -> None:
    db.execute("SELECT credyt.grant_credits(%s, 100)", [customer])
    db.execute(
        "SELECT credyt.refund(%(customer)s, d.id)"
        " FROM credyt.debit_credits(%(customer)s, 'image', 3, occurred_at => now() - interval '5 days') d",
        {"customer": customer},
    )
    used = section(page(sign_in(customer)), "used")
    spent, back = used.find_all("rect")
    assert text(spent).endswith("image: 12") and text(back).endswith("image: \N{MINUS SIGN}12")
    zero = float(str(used.find("line", class_="zero")["y1"]))
    assert float(spent["y"]) + float(spent["height"]) == pytest.approx(zero) == float(back["y"])
    assert float(spent["y"]) >= 0 and float(back["y"]) + float(back["height"]) <= 100


def test_many_actions_share_the_last_colour(customer: str, sign_in: Callable[[str], httpx.Client], db: Db) -> None:
    db.execute("SELECT credyt.grant_credits(%s, 1000)", [customer])
    for n in range(1, 9):
        db.execute("SELECT credyt.debit_credits(%s, %s, credits => %s)", [customer, f"action_{n}", n * 10])
    used = section(page(sign_in(customer)), "used")
    assert [text(item) for item in used.find(class_="legend").find_all("li")] == [
        *(f"action_{n}" for n in (8, 7, 6, 5, 4)),
        "all others",
    ]
    assert table(used)[0][1:] == ["80", "70", "60", "50", "40", "60", "360"]


def test_what_is_held_and_owed(customer: str, sign_in: Callable[[str], httpx.Client], db: Db) -> None:
    db.execute("SELECT credyt.open_wallet(%s, overdraft_limit => 50)", [customer])
    db.execute("SELECT credyt.debit_credits(%s, 'image', credits => 12.5)", [customer])
    db.execute("SELECT credyt.authorize(%s, 'image', credits => 7.25)", [customer])
    assert text(section(page(sign_in(customer)), "balance")) == (
        "Balance 30.25 credits to spend Held for what is running now 7.25"
        " Owed, paid by the next credits 12.5 You may owe up to 50"
    )


def test_what_is_due_is_shown_before_it_is_booked(
    customer: str, sign_in: Callable[[str], httpx.Client], db: Db
) -> None:
    db.execute("INSERT INTO credyt.clock VALUES (now() - interval '2 days')")
    db.execute("SELECT credyt.grant_credits(%s, 10, expires_at => now() - interval '1 day')", [customer])
    db.execute("DELETE FROM credyt.clock")
    shown = page(sign_in(customer))
    assert [(re.sub(r"^[^:]+:\d\d ", "", what), *rest) for what, *rest in table(section(shown, "history"))] == [
        ("Expired", "\N{MINUS SIGN}10", "0"),
        ("Credits added", "+10", "10"),
    ]
    assert "no credits yet" in text(section(shown, "grants"))


def test_the_order_of_grants_is_the_order_of_spending(
    customer: str, sign_in: Callable[[str], httpx.Client], db: Db
) -> None:
    for priority, kind, applies_to, days in itertools.product(
        (10, 100), ("purchased", "included", "promotional"), (None, ["image"]), (None, 30, 5)
    ):
        db.execute(
            "SELECT credyt.grant_credits(%s, 1, %s, priority => %s, applies_to => %s,"
            " expires_at => now() + %s * interval '1 day')",
            [customer, kind, priority, applies_to, days],
        )
    db.execute(
        "SELECT credyt.grant_credits(%s, 9, effective_at => now() + interval '2 days', priority => 1)", [customer]
    )
    order = db.execute(
        "SELECT grant_id FROM credyt.spend_order WHERE customer = %s ORDER BY position", [customer]
    ).fetchall()
    ours = db.execute("SELECT id FROM grants_of(%s) WHERE effective_at <= now()", [customer]).fetchall()
    assert len(order) == 36 and ours == order
    *_, (last, left) = table(section(page(sign_in(customer)), "grants"))
    assert ", from " in last and left == "9"


# --- how it shows it -------------------------------------------------------------------------------------------------


def test_text_is_text(customer: str, sign_in: Callable[[str], httpx.Client], db: Db) -> None:
    evil = "<script>alert(1)</script>\"'&<b style='x'>"
    db.execute("SELECT credyt.grant_credits(%s, 100, applies_to => %s)", [customer, [evil]])
    db.execute(
        "SELECT credyt.refund(%(customer)s, d.id, 1, reason => %(evil)s)"
        " FROM credyt.debit_credits(%(customer)s, %(evil)s, credits => 3) d",
        {"customer": customer, "evil": evil},
    )
    client = sign_in(customer)
    response = client.get("/usage")
    assert "<script" not in response.text and "<b " not in response.text
    shown = BeautifulSoup(response.text, "html.parser")
    for part in ("grants", "used", "history"):
        assert evil in text(section(shown, part))
    assert not [tag for tag in shown.find_all(True) if {"style", "onclick", "onload"} & tag.attrs.keys()]
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "private, no-store"
    assert customer not in response.text and "test" not in response.headers.get("set-cookie", "")


def test_headings_captions_and_alignment(sign_in: Callable[[str], httpx.Client]) -> None:
    shown = page(sign_in("ben"))
    assert shown.find("html")["lang"] == "en"
    assert [heading.name for heading in shown.find_all(["h1", "h2", "h3"])] == ["h1", *["h2"] * 5]
    assert shown.find("svg")["role"] == "img" and shown.find("svg")["aria-label"]
    for found in shown.find_all("table"):
        assert found.find("caption") and all(head.get("scope") in ("col", "row") for head in found.find_all("th"))
        for row in found.find("tbody").find_all("tr"):
            for cell in row.find_all("td"):
                assert "amount" in cell["class"] and re.fullmatch(r"[+\N{MINUS SIGN}]?[\d,]+(\.\d+)?", text(cell))
    style = (HERE / "usage.css").read_text()
    assert re.search(r"\.amount \{[^}]*text-align: right", style)


def test_amounts_are_exact(url: str) -> None:
    import page as module

    assert module.amount(Decimal("1234567890123456789.0000000001")) == "1,234,567,890,123,456,789.0000000001"
    assert module.amount(Decimal("2.5000")) == "2.5" and module.amount(Decimal("1E+3")) == "1,000"
    assert (
        module.amount(Decimal("2.5"), 3) == "2.500" and module.amount(Decimal("-2.5"), sign=True) == "\N{MINUS SIGN}2.5"
    )
    assert module.amount(Decimal("0.00"), sign=True) == "0" and module.amount(Decimal(3), sign=True) == "+3"
    assert module.places([Decimal("1.50"), Decimal("0.125"), Decimal(7)]) == 3


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        ("0", "0", "1 0"),
        ("0", "1", "1 0.8 0.6 0.4 0.2 0"),
        ("0", "4113.38", "5000 4000 3000 2000 1000 0"),
        ("0", "0.0000000001", "1e-10 8e-11 6e-11 4e-11 2e-11 0"),
        ("-26.5", "18", "20 10 0 -10 -20 -30"),
        ("-7", "0", "0 -2 -4 -6 -8"),
        ("0", "999999999999999.99", "1e15 8e14 6e14 4e14 2e14 0"),
    ],
)
def test_ticks_are_round_numbers_around_everything(url: str, least: str, most: str, expected: str) -> None:
    from chart import ticks

    assert ticks(Decimal(least), Decimal(most)) == [Decimal(tick) for tick in expected.split()]


def test_contrast_in_light_and_dark() -> None:
    def luminance(colour: str) -> float:
        shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    schemes = re.findall(r":root \{(.*?)\}", (HERE / "usage.css").read_text(), re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6});", scheme))
        least = dict.fromkeys(("text", "quiet", "link"), 4.5) | dict.fromkeys(
            ("control", *(f"colour{n}" for n in range(6))), 3.0
        )
        for name, ratio in least.items():
            for ground in ("page", "card"):
                bright, dark = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
                assert (bright + 0.05) / (dark + 0.05) >= ratio, (name, ground)
