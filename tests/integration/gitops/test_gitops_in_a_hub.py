"""A whole hub: from GitHub's delivery to the finished roll-out, as one trace in the store."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
from pathlib import Path

import psycopg
import yaml

from tests.integration.cli.processes import config_text, free_port, hubs, until
from tests.support.databases import Database
from tests.support.repositories import Repositories
from tests.support.waiting import PATIENCE

SECRET = "a-secret-of-the-webhook"


def test_a_push_is_one_trace_from_the_delivery_to_the_last_step(
    native_database: Database, repositories: Repositories, tmp_path: Path
) -> None:
    api = free_port()
    step = {"name": "note", "run": ["sh", "-c", 'echo "$TRACEPARENT" > ../traceparent']}
    home = {"path": str(repositories.hub), "github": "someone/home", "interval": None, "steps": [step]}
    config = yaml.safe_load(config_text(grpc=free_port(), http=free_port(), timescale={"dsn": native_database.dsn}))
    config["extensions"] = {
        "api": {"endpoint": f"127.0.0.1:{api}"},
        "gitops": {"webhook": {"secrets": [SECRET]}, "repositories": {"home": home}},
    }
    config["service"] |= {"extensions": ["api", "gitops"], "telemetry": {"traces": {"sampling_ratio": 0.0}}}
    with hubs(forked=True) as running:
        hub = running.start(yaml.safe_dump(config)).until_ready()
        revision = repositories.push()
        # As it comes through a Tailscale Funnel: for the machine's public name.
        answer = deliver(api, "machine.tailnet.ts.net")
        with psycopg.connect(hub.dsn, autocommit=True) as store:

            def finished() -> bool:
                query = "SELECT state FROM run WHERE id = %s"
                return store.execute(query, (answer["run_id"],)).fetchone() == ("succeeded",)

            until(finished)
            trace = (repositories.folder / "traceparent").read_text().split("-")[1]

            def names() -> set[str]:
                rows = store.execute("SELECT name FROM spans WHERE trace_id = %s", (trace,))
                return {name for (name,) in rows}

            until(lambda: names() >= {"gitops.webhook", "gitops.run", "gitops.fetch", "gitops.step"})
            event = "SELECT body FROM events WHERE name = 'gitops.run.finished' AND trace_id = %s"
            until(lambda: store.execute(event, (trace,)).fetchone() == ("gitops home: succeeded",))
            logged = "SELECT body FROM logs WHERE trace_id = %s AND scope_name = 'obs_hub.jobs'"
            until(lambda: {body for (body,) in store.execute(logged, (trace,))} >= {"webhook taken", "run finished"})
    assert repositories.head == revision


def deliver(port: int, host: str) -> dict[str, str]:
    payload = {"ref": "refs/heads/main", "repository": {"full_name": "someone/home"}}
    body = json.dumps(payload).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {
        "host": host,
        "content-type": "application/json",
        "x-github-event": "push",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-hub-signature-256": f"sha256={hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}",
    }
    connection.request("POST", "/api/v1/webhooks/github", body, headers)
    response = connection.getresponse()
    answer: dict[str, str] = json.loads(response.read())
    connection.close()
    assert response.status == 202, answer
    return answer
