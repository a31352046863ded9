"""The page of a running hub, as browsers ask for it."""

from __future__ import annotations

import gzip
import re
import signal
import time
from collections.abc import Iterator, Sequence
from html import unescape
from urllib.parse import urljoin

import httpx
import pytest

from tests.faults.harness import until
from tests.integration.api.conftest import Front, start
from tests.integration.cli.processes import Hubs, hubs
from tests.support.databases import Database, Server, fresh_store
from tests.support.prometheus import Collection

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOSTILE = "<script>alert(1)</script>\"'{{7*7}}%s"
HOSTS = ("nas", HOSTILE)


@pytest.fixture(scope="module")
def front(embedded_server: Server) -> Iterator[Front]:
    with fresh_store(embedded_server) as database, hubs(forked=True) as running:
        started = start(running, database)
        send(started)
        yield started


@pytest.fixture
def hub_folder() -> Iterator[Hubs]:
    with hubs(forked=True) as running:
        yield running


def send(front: Front, hosts: Sequence[str] = HOSTS) -> None:
    """Send what hosts did in the last minutes."""
    with front.client() as client:
        otlp = client.get("/api/v1/status").json()["endpoints"]["otlp http"]
        now = time.time_ns() // 10**6
        for host in hosts:
            for n in range(12):
                its = Collection(now - n * 10_000, {"service.name": f"of {host}", "host.name": host})
                its.gauge("system.cpu.utilization", 0.25, "1", attributes={"cpu.mode": "user"})
                its.gauge("system.cpu.utilization", 0.75, "1", attributes={"cpu.mode": "idle"})
                its.gauge(HOSTILE, 1.5, HOSTILE, attributes={HOSTILE: HOSTILE if n else "other"})
                its.histogram("took", [1], [n, n], 1.0 * n, unit="s")
                body = its.request.SerializeToString()
                headers = {"content-type": "application/x-protobuf"}
                assert client.post(f"http://{otlp}/v1/metrics", content=body, headers=headers).status_code == 200


def get(front: Front, path: str, **headers: str) -> httpx.Response:
    with front.client() as client:
        return client.get(path, headers={**HTML, **headers})


def test_hosts_and_their_charts_are_shown(front: Front) -> None:
    overview = get(front, "/").text
    assert '<a href="/hosts/nas?range=1h">nas</a>' in overview
    assert "25%" in overview
    assert "Nothing has come in yet" not in overview
    host = get(front, "/hosts/nas?range=15m")
    assert host.status_code == 200
    assert "<h3>" in host.text
    assert "CPU" in host.text
    (chart,) = re.findall(r'data-chart="([^"]+)"', host.text)
    assert '"label":"user"' in unescape(chart)
    assert '"label":"idle"' not in unescape(chart)
    assert "avg_over_time(system_cpu_utilization_ratio{host_name=" in unescape(host.text)


def test_a_host_that_is_alone_is_seen_at_once(hub_folder: Hubs, native_database: Database) -> None:
    front = start(hub_folder, native_database)
    send(front, ["nas"])
    (chart,) = re.findall(r'data-chart="([^"]+)"', get(front, "/").text)
    assert '"label":"user"' in unescape(chart)
    send(front, ["router"])
    several = get(front, "/").text
    assert '<a href="/hosts/router?range=1h">router</a>' in several
    assert "data-chart" not in several, "a list to choose from"
    odd = ["..", ".", "/srv", "a//b", "../../api/v1/status", "trailing/"]
    send(front, odd)
    overview = get(front, "/").text
    for name in odd:
        (url,) = re.findall(rf'<a href="([^"]+)">{re.escape(name)}</a>', overview)
        its = urljoin("http://hub/", unescape(url))  # as browsers do, for whom a path has ways up
        assert '"label":"user"' in unescape(get(front, its.removeprefix("http://hub")).text), name


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/metrics?q=script",
        "/metrics?" + str(httpx.QueryParams({"name": HOSTILE, "by": HOSTILE, "where": f"{HOSTILE}={HOSTILE}"})),
        "/metrics?" + str(httpx.QueryParams({"name": HOSTILE, "host": HOSTILE, "service": HOSTILE})),
        "/hosts/" + str(httpx.QueryParams({"x": HOSTILE}))[2:].replace("+", "%20"),
        "/metrics?" + str(httpx.QueryParams({"name": "took", "show": "rate"})),
        "/metrics?" + str(httpx.QueryParams({"name": "took", "show": "p95", "by": "host.name"})),
    ],
)
def test_what_a_sender_named_stays_text(front: Front, path: str) -> None:
    page = get(front, path)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    if path != "/metrics?name=took&show=rate":
        assert HOSTILE in unescape(page.text)
    assert not re.search(r"\son\w+=|style=|<script>|javascript:", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/?range=2y", "range="),
        ("/hosts/nas?from=yesterday", "from="),
        ("/metrics?name=took&show=nonsense", "show="),
        ("/metrics?name=took&where=nonsense", "where="),
    ],
)
def test_what_is_wrong_with_a_url_is_said(front: Front, path: str, said: str) -> None:
    page = get(front, path)
    assert page.status_code == 400
    assert said in page.text.lower()


def test_a_part_of_a_view_is_asked_for_alone(front: Front) -> None:
    part = get(front, "/metrics?q=took", **{"hx-request": "true", "hx-target": "live"}).text
    assert "took" in part
    assert "<html" not in part
    assert "hx-request" in get(front, "/metrics").headers["vary"]


def test_pages_and_assets_are_small_and_assets_are_kept(front: Front) -> None:
    asking = {"accept-encoding": "gzip"}
    with front.client() as client:
        page = client.get("/hosts/nas", headers={**HTML, **asking})
        assets = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
        assert len(assets) >= 6
        weight = int(page.headers["content-length"])
        for url in assets:
            answer = client.get(url, headers=asking)
            weight += int(answer.headers["content-length"])
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable", url
            again = client.get(url, headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert weight < 150 * 1024
        plain = client.get("/static/style.css", headers={"accept-encoding": "identity"})
        assert plain.headers["cache-control"] == "max-age=86400", "by its bare name it may change"
        assert gzip.compress(plain.content)
    for path in ("/static/../templates/base.html", "/static/%2e%2e/vendor.py", "/static/", "/static/vendor"):
        assert get(front, path).status_code == 404, path


def test_a_range_that_ends_is_not_pushed(front: Front) -> None:
    fixed = "/hosts/nas?from=2026-05-01T10:00:00Z&to=2026-05-01T11:00:00Z"
    assert "data-live" not in get(front, fixed).text
    assert get(front, fixed, accept="text/event-stream").status_code == 204, "which browsers do not ask again for"


def test_what_changes_is_pushed_and_the_hub_ends_while_pages_are_open(
    hub_folder: Hubs, native_database: Database
) -> None:
    front = start(hub_folder, native_database)
    with (
        front.client() as client,
        client.stream("GET", "/", headers={"accept": "text/event-stream"}) as stream,
        client.stream("GET", "/health", headers={"accept": "text/event-stream"}) as other,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        assert "Nothing has come in yet" in get(front, "/").text
        send(front)
        assert any("nas" in line for line in lines), "what came in while somebody looked"
        front.hub.signal(signal.SIGTERM)
        assert front.hub.wait() == 0
        for _ in lines:
            pass
        for _ in other.iter_lines():
            pass
    assert "still in flight" not in front.hub.stderr


def test_with_several_workers_the_page_shows_what_all_of_them_took(hub_folder: Hubs, native_database: Database) -> None:
    front = start(hub_folder, native_database, "--workers", "2")
    send(front)
    assert '"label":"user"' in unescape(get(front, "/hosts/nas").text)
    assert front.hub.stop() == 0


def test_a_store_that_is_away_is_said_and_seen_again(hub_folder: Hubs, native_database: Database) -> None:
    front = start(hub_folder, native_database)
    send(front)
    native_database.allow_connections(False)
    until(lambda: get(front, "/").status_code == 503, "noticing it")
    away = get(front, "/hosts/nas")
    assert "The store cannot be read" in away.text
    assert native_database.dsn not in away.text
    part = get(front, "/", **{"hx-request": "true"})
    assert 'class="trouble"' in part.text
    assert get(front, "/health").status_code == 200, "how the hub is, it knows itself"
    native_database.allow_connections(True)
    until(lambda: get(front, "/").status_code == 200, "seeing it again")
