"""The API front of a running hub, as its callers see it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.faults.harness import until
from tests.integration.api.conftest import Front, start
from tests.integration.cli.processes import Hubs, hubs, obs_hub
from tests.support.databases import Database

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def client(front: Front) -> Iterator[httpx.Client]:
    with front.client() as client:
        yield client


def test_people_get_a_page_and_programs_a_welcome(client: httpx.Client) -> None:
    page = client.get("/", headers=HTML)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    health = client.get("/health", headers=HTML)
    assert "Everything works" in health.text
    assert "otlp grpc" in health.text
    for accept in ("application/json", "*/*"):
        welcome = client.get("/", headers={"accept": accept}).json()
        assert welcome["name"] == "Observability Hub"
        for link in welcome["links"].values():
            assert client.get(link).status_code == 200, link


def test_pages_carry_security_headers_and_take_nothing_from_elsewhere(client: httpx.Client) -> None:
    for path in ("/", "/health", "/api/v1/docs"):
        page = client.get(path, headers=HTML)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "same-origin"
        assert not re.search(r"<(script|style)>|style=|\son\w+=", page.text)
        for link in re.findall(r'(?:src|href)="([^"#]+)"', page.text):
            assert link.startswith("/"), link
            assert client.get(link).status_code == 200, link


def test_health_ready_and_status(client: httpx.Client) -> None:
    assert client.get("/api/v1/health").json() == {"status": "ok"}
    ready = client.get("/api/v1/ready")
    assert ready.status_code == 200
    assert {each["name"]: each["state"] for each in ready.json()["dependencies"]} == {
        "receivers": "ok",
        "store": "ok",
        "exporter timescale": "ok",
    }
    status = client.get("/api/v1/status").json()
    assert status["pipelines"]["logs"] == {"receivers": ["otlp"], "exporters": ["timescale"]}
    assert status["exporters"]["timescale"]["signals"] == ["logs", "metrics", "traces"]
    assert status["exporters"]["timescale"]["circuit_open"] is False
    assert set(status["endpoints"]) == {"otlp grpc", "otlp http", "api"}
    assert status["store"]["detail"].endswith("layout native")


def test_head_is_answered_like_get_without_a_body(client: httpx.Client) -> None:
    for path in ("/", "/api/v1/health", "/static/style.css"):
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b""), path


def test_a_synthetic_set_is_read_back_and_belongs_to_the_caller_s_trace(front: Front) -> None:
    with front.client(front.admin) as client:
        report = client.post("/api/v1/synthetic").json()
    for hop in (report["metric"], report["event"], report["span"]):
        assert 0 < hop["acknowledged_ms"] <= hop["visible_ms"]
    for view in ("metrics", "events", "spans"):
        query = f"SELECT count(*) FROM {view} WHERE attributes ->> 'obs_hub.synthetic.id' = %s"
        assert front.database.value(query, (report["id"],)) == 1
    assert front.database.value("SELECT count(*) FROM spans WHERE trace_id = %s", (report["trace_id"],)) == 1


def test_who_may_do_what(front: Front) -> None:
    with front.client() as anonymous, front.client(front.reader) as reader, front.client("wrong") as stranger:
        refused = anonymous.post("/api/v1/synthetic")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="obs-hub"')
        assert reader.post("/api/v1/synthetic").status_code == 403
        assert stranger.post("/api/v1/synthetic").status_code == 401
        assert anonymous.get("/api/v1/status").status_code == 200, "reading is open on loopback"
        twice = anonymous.post(
            "/api/v1/synthetic", headers=[("authorization", "Bearer a"), ("authorization", "Bearer b")]
        )
        assert twice.status_code == 401


def test_errors_are_problems_with_the_id_of_the_request(client: httpx.Client) -> None:
    for method, path, status in (
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/static/../templates/base.html", 404),
        ("DELETE", "/api/v1/health", 405),
        ("POST", "/api/v1/synthetic", 401),
        ("GET", "/api/v1/ready?strict=perhaps", 400),
    ):
        answer = client.request(method, path, headers={"x-request-id": "mine-1"})
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json", path
        assert (answer.status_code, problem["status"], problem["request_id"]) == (status, status, "mine-1"), path
        assert answer.headers["x-request-id"] == "mine-1"
        assert problem["detail"]
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("presented", ["", "with space", "x" * 200, "<script>"])
def test_an_id_that_is_not_sane_is_replaced(client: httpx.Client, presented: str) -> None:
    given = client.get("/api/v1/health", headers={"x-request-id": presented}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", given)


def test_names_that_lead_here_by_a_trick_are_refused(front: Front, client: httpx.Client) -> None:
    for host in ("evil.example.com", "evil.example.com:8085", ""):
        answer = client.get("/api/v1/status", headers={"host": host})
        assert answer.status_code in (400, 421), host
    port = front.url.rpartition(":")[2]
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert client.get("/api/v1/status", headers={"host": host}).status_code == 200, host


def test_a_page_of_another_site_may_change_nothing(front: Front) -> None:
    with front.client(front.admin) as client:
        for headers in ({"origin": "https://evil.example.com"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            assert client.post("/api/v1/synthetic", headers=headers).status_code == 403
        assert client.post("/api/v1/synthetic", headers={"origin": front.url}).status_code == 200


def test_a_body_that_is_too_large_is_refused(front: Front) -> None:
    with front.client(front.admin) as client:
        assert client.post("/api/v1/synthetic", content=b"x" * (2**20 + 1)).status_code in (200, 413)
        assert client.get("/api/v1/health").status_code == 200


def test_a_store_that_goes_away_degrades_and_comes_back(hub_folder: Hubs, native_database: Database) -> None:
    front = start(hub_folder, native_database)
    with front.client() as client:
        assert client.get("/api/v1/ready").json()["status"] == "ok"
        native_database.allow_connections(False)
        until(lambda: client.get("/api/v1/ready").json()["status"] == "degraded", "noticing it")
        ready = client.get("/api/v1/ready")
        assert ready.status_code == 200
        assert client.get("/api/v1/ready?strict=true").status_code == 503
        assert native_database.dsn not in ready.text
        with front.client(front.admin) as admin:
            assert admin.post("/api/v1/synthetic").status_code == 503
        native_database.allow_connections(True)
        until(lambda: client.get("/api/v1/ready").json()["status"] == "ok", "being ready again")


def test_with_several_workers_there_is_one_front(hub_folder: Hubs, native_database: Database) -> None:
    front = start(hub_folder, native_database, "--workers", "2")
    with front.client(front.admin) as client:
        status = client.get("/api/v1/status").json()
        assert set(status["endpoints"]) == {"otlp grpc", "otlp http", "api"}
        assert status["exporters"]["timescale"]["circuit_open"] is None, "other processes would have to be asked"
        report = client.post("/api/v1/synthetic").json()
        assert report["span"]["visible_ms"] is not None
    assert front.hub.stop() == 0


def test_an_address_that_is_taken_says_which_setting_to_change(
    hub_folder: Hubs, front: Front, native_database: Database
) -> None:
    from tests.integration.api.conftest import config

    port = int(front.url.rpartition(":")[2])
    second = hub_folder.start(config(native_database.dsn, port, {}), name="second")
    assert second.wait() == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert "extensions.api.endpoint" in second.stderr


def test_doctor_looks_at_the_front(front: Front) -> None:
    said = obs_hub("doctor", "-c", front.hub.config_file, "--data-dir", front.hub.data_dir)
    assert "serving the page" in said.stdout


def test_it_ends_in_time_while_somebody_asks(hub_folder: Hubs, native_database: Database) -> None:
    front = start(hub_folder, native_database)
    with front.client() as client:
        assert client.get("/api/v1/health").status_code == 200
        front.hub.signal(signal.SIGTERM)
        assert front.hub.wait() == 0


@pytest.fixture
def hub_folder() -> Iterator[Hubs]:
    with hubs(forked=True) as running:
        yield running
