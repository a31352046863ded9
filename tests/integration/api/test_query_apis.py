"""The query APIs on the front of a running hub: who may ask, and what becomes of who does not wait."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.faults.harness import until
from tests.integration.api.conftest import Front, start
from tests.integration.cli.processes import hubs
from tests.support.databases import Server, fresh_store

QUERY = "/prometheus/api/v1/query"


@pytest.fixture(scope="module")
def closed(embedded_server: Server) -> Iterator[Front]:
    """A front whose readers need a token."""
    with fresh_store(embedded_server) as database, hubs(forked=True) as running:
        yield start(running, database, anonymous_read=False, query={"max_concurrent": 2})


def test_reading_needs_the_scope_read_unless_reads_are_open(front: Front, closed: Front) -> None:
    asked = {"query": "1+1"}
    with front.client() as client:
        assert client.post(QUERY, data=asked).json()["data"]["resultType"] == "scalar"
        assert client.get(QUERY, params=asked).headers["x-content-type-options"] == "nosniff"
    for token, status in ((None, 401), ("nonsense", 401), (closed.admin, 403), (closed.reader, 200)):
        with closed.client(token) as client:
            assert client.post(QUERY, data=asked).status_code == status
            assert client.get("/prometheus/api/v1/labels").status_code == status


def test_a_page_of_another_site_may_not_ask_by_a_form(front: Front) -> None:
    with front.client() as client:
        answer = client.post(QUERY, data={"query": "1"}, headers={"origin": "https://elsewhere.example"})
        assert answer.status_code == 403


def test_a_query_ends_when_its_client_goes_away(closed: Front) -> None:
    database = closed.database
    held = threading.Event()
    done = threading.Event()

    def hold() -> None:
        """Keep readers from the table of metrics, so that a query waits."""
        with database.connect() as connection, connection.transaction():
            connection.execute("LOCK TABLE metric IN ACCESS EXCLUSIVE MODE")
            held.set()
            done.wait(60)

    holding = threading.Thread(target=hold)
    holding.start()
    held.wait(60)
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%%FROM metric%%'"
    )
    try:
        host, _, port = closed.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as client:
            request = (
                f"GET {QUERY}?query=up HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {closed.reader}\r\n\r\n"
            )
            client.sendall(request.encode())
            until(lambda: database.value(waiting) == 1)
        until(lambda: database.value(waiting) == 0)
        with closed.client(closed.reader) as asking:
            late = asking.get(QUERY, params={"query": "up", "timeout": "0.2"})
            assert (late.status_code, late.json()["errorType"]) == (503, "timeout")
    finally:
        done.set()
        holding.join()
    with closed.client(closed.reader) as asking:
        assert asking.get(QUERY, params={"query": "up"}).json()["data"]["result"] == []
