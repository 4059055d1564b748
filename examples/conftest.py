"""The examples' tests run on the server of PGHOST, PGPORT ..., each program in a database of its own."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import uvicorn


@contextmanager
def serve(app: str) -> Iterator[str]:
    """Runs an app ("module:name") on a free port; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    # asyncio does so itself for sockets that it makes; without it each answer waits 40 ms for an acknowledgment.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_keep_alive=60))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    assert server.started, f"{app} did not start"
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def database() -> Callable[[str, str, Path], str]:
    """Makes a database with the extension and an example's schema; how that example's role connects to it."""

    def make(name: str, role: str, schema: Path) -> str:
        with psycopg.connect("", autocommit=True) as db:
            db.execute(f"DROP DATABASE IF EXISTS {name}")
            db.execute(f"CREATE DATABASE {name}")
            db.execute(f"DROP ROLE IF EXISTS {role}")
            db.execute(f"CREATE ROLE {role} LOGIN")
        with psycopg.connect(dbname=name, autocommit=True) as db:
            db.execute("CREATE EXTENSION credyt_pg")
            db.execute(schema.read_text())
        os.environ["PGDATABASE"] = name  # what the tests look at themselves
        return f"host={os.environ['PGHOST']} port={os.environ['PGPORT']} user={role} dbname={name}"

    return make
