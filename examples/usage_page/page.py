"""A customer's own page: what is left, what ends soon, what is spent next, what was used, what happened.
Environment: DATABASE_URL."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, Response
from fastapi.templating import Jinja2Templates
from psycopg import AsyncConnection, IsolationLevel
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from chart import Chart, chart

TIMEZONE = ZoneInfo("Europe/Berlin")  # the asset's, see schema.sql: a day of the chart begins at its midnight
SOON = timedelta(days=30)
ENTRIES = 50  # of history on one page
SIGN_IN = "/sign-in"

HERE = Path(__file__).parent
HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

Db = AsyncConnection[DictRow]
Row = dict[str, Any]


async def read_only(db: Db) -> None:
    """All that one page shows is of one moment."""
    await db.set_isolation_level(IsolationLevel.REPEATABLE_READ)
    await db.set_read_only(True)


pool = AsyncConnectionPool(
    os.environ["DATABASE_URL"],
    connection_class=AsyncConnection[DictRow],
    kwargs={"row_factory": dict_row},
    configure=read_only,
    open=False,
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with pool:
        yield


router = APIRouter()
templates = Jinja2Templates(HERE / "templates")  # escapes what it inserts, since the files end in .html


def signed_in(request: Request) -> str:
    """The customer: who has signed in, by the session's signed cookie. Nothing of the URL says whose page this is."""
    customer = request.session.get("customer")
    if not customer:
        raise HTTPException(303, headers={"Location": SIGN_IN})
    return str(customer)


@router.get("/usage")
async def usage(request: Request, customer: Annotated[str, Depends(signed_in)], before: UUID | None = None) -> Response:
    async with pool.connection() as db:
        overview = await overview_of(db, customer) if before is None else {}
        # One more than is shown: is there another page?
        history = await rows(
            db, "SELECT * FROM credyt.history(%s, before => %s, count => %s)", [customer, before, ENTRIES + 1]
        )
    booked = [entry["id"] for entry in history if entry["id"]]  # what is due and not booked yet has no id
    older = booked[ENTRIES - 1] if len(booked) > ENTRIES else None
    shown = {"overview": overview, "history": history[:-1] if older else history, "before": before, "older": older}
    return templates.TemplateResponse(request, "usage.html", shown, headers=HEADERS)


async def overview_of(db: Db, customer: str) -> Row:
    """What stands above the newest entries."""
    balance = (await rows(db, "SELECT * FROM credyt.balance(%s)", [customer]))[0]
    grants = await rows(db, "SELECT * FROM grants_of(%s)", [customer])
    used = await rows(
        db,
        "SELECT day.bucket_start, day.credits AS total, one.action, one.credits"
        " FROM credyt.usage(%(customer)s) AS day"
        """ LEFT JOIN credyt.usage(%(customer)s, "by" => '{action}') AS one USING (bucket_start)"""
        " ORDER BY day.bucket_start, one.action",
        {"customer": customer},
    )
    now = datetime.now(TIMEZONE)
    live = [grant for grant in grants if grant["effective_at"] <= now and left(grant) > 0]
    ending = [grant for grant in live if grant["expires_at"] and grant["expires_at"] <= now + SOON]
    return {
        "now": now,
        "balance": balance,
        "ending": sorted(ending, key=lambda grant: grant["expires_at"]),
        "grants": live + [grant for grant in grants if grant["effective_at"] > now],
        "chart": chart_of(used),
    }


@router.get("/usage.css")
async def style() -> FileResponse:
    return FileResponse(HERE / "usage.css", headers={"Cache-Control": "max-age=3600"})


async def rows(db: Db, query: str, values: list[Any] | Row) -> list[Row]:
    return await (await db.execute(query.encode(), values)).fetchall()


def chart_of(used: list[Row]) -> Chart:
    def day(row: Row) -> Any:
        return row["bucket_start"].astimezone(TIMEZONE).date()

    totals = {day(row): row["total"] for row in used}
    return chart(totals, [(day(row), row["action"], row["credits"]) for row in used if row["action"]])


# --- how things are written ------------------------------------------------------------------------------------------

KINDS = {"included": "From your plan", "promotional": "Gift", "purchased": "Bought"}
ENTRY_KINDS = {
    "grant": "Credits added",
    "debit": "Used",
    "refund": "Given back",
    "expiry": "Expired",
    "revocation": "Taken back",
    "settlement": "Debt paid",
    "transfer": "Transferred",
}


def left(grant: Row) -> Decimal:
    return Decimal(grant["remaining"] - grant["held"])


def places(amounts: list[Decimal]) -> int:
    """The decimals that a column needs to show all of its amounts exactly, one below the other."""
    return max((len(f"{amount:f}".partition(".")[2].rstrip("0")) for amount in amounts), default=0)


def amount(value: Decimal, decimals: int | None = None, *, sign: bool = False) -> str:
    """Exact: with at least its own decimals."""
    text = f"{value:{'+' if sign and value else ''},.{places([value]) if decimals is None else decimals}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def noun(credits: Decimal) -> str:
    return "credit" if credits == 1 else "credits"


def date(moment: datetime) -> str:
    local = moment.astimezone(TIMEZONE)
    return f"{local.day} {local:%b %Y}"


def clock(moment: datetime) -> str:
    return f"{moment.astimezone(TIMEZONE):%H:%M}"


def until(end: datetime, now: datetime) -> str:
    days = (end.astimezone(TIMEZONE).date() - now.date()).days
    return "today" if days == 0 else "tomorrow" if days == 1 else f"in {days} days"


templates.env.filters |= {
    "left": left,
    "places": places,
    "amount": amount,
    "noun": noun,
    "date": date,
    "clock": clock,
    "until": until,
}
templates.env.globals |= {"KINDS": KINDS, "ENTRY_KINDS": ENTRY_KINDS, "TIMEZONE": TIMEZONE.key}
