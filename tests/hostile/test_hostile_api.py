"""Whatever its OpenAPI allows, and a good deal that it does not, the API answers as it says and never fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.integration.api.conftest import Front, start
from tests.integration.cli.processes import hubs
from tests.support.databases import Server, fresh_store


@pytest.fixture(scope="module")
def hostile_front(embedded_server: Server) -> Iterator[Front]:
    with fresh_store(embedded_server) as database, hubs(forked=True) as running:
        gitops = {"webhook": {"secrets": ["a-secret-of-the-webhook"]}, "repositories": {"home": {"path": "/nowhere"}}}
        yield start(running, database, more={"gitops": gitops}, anonymous_read=False)


@pytest.mark.parametrize("who", ["nobody", "admin"])
def test_every_operation(hostile_front: Front, who: str) -> None:
    import schemathesis  # takes as long as half of what all other tests import
    from schemathesis.specs.openapi.checks import ignored_auth

    token = {} if who == "nobody" else {"authorization": f"Bearer {hostile_front.all}"}
    schema = schemathesis.openapi.from_url(f"{hostile_front.url}/api/v1/openapi.json")
    # That a token is asked for is looked at by the one who has none: this one is presented whatever the case says.
    excluded = [ignored_auth] if token else []
    seen = set()
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            response = case.call(headers=token)
            assert response.status_code < 500 or response.status_code == 503
            case.validate_response(response, excluded_checks=excluded)

        check()
        seen.add((operation.method.upper(), operation.path))
    assert seen >= {
        ("POST", "/api/v1/synthetic"),
        ("POST", "/api/v1/webhooks/github"),
        ("POST", "/api/v1/gitops/{repository}/sync"),
    }
