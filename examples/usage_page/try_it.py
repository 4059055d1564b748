"""The page in an app of its own, to try it: anyone may sign in as anyone. Environment: DATABASE_URL, SESSION_SECRET.
In your app there is a sign-in already: once it knows who it is, it sets request.session["customer"], as here."""

import os
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, RedirectResponse
from starlette.middleware.sessions import SessionMiddleware

import page

app = FastAPI(lifespan=page.lifespan, openapi_url=None)
app.add_middleware(
    SessionMiddleware,  # a cookie that only the secret can sign: HttpOnly, gone after a day
    secret_key=os.environ["SESSION_SECRET"],
    max_age=24 * 3600,
    same_site="lax",
    https_only=os.environ.get("SESSION_INSECURE") is None,
)
app.include_router(page.router)


@app.get(page.SIGN_IN)
async def ask() -> FileResponse:
    return FileResponse(page.HERE / "templates" / "sign_in.html")


@app.post(page.SIGN_IN)
async def sign_in(request: Request) -> RedirectResponse:
    form = parse_qs((await request.body()).decode())
    request.session.clear()
    request.session["customer"] = form["customer"][0]
    return RedirectResponse("/usage", 303)


@app.post("/sign-out")
async def sign_out(request: Request) -> RedirectResponse:
    request.session.clear()
    return RedirectResponse(page.SIGN_IN, 303)
