"""Secrets from OpenBao, by a stand-in that answers as OpenBao does; and by a real one, where one is named."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hvac
import pytest

from gateway.config import NotNowError
from gateway.secrets.access import Access, AccessError, from_environment
from gateway.secrets.openbao import OpenBao
from tests.support.certificates import Authority
from tests.support.openbao import StandIn, stand_in


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def bao() -> Iterator[StandIn]:
    with stand_in() as running:
        running.secrets["hub/database"] = {"password": "s3cret", "port": 5432, "more": {"a": 1}}
        yield running


@pytest.fixture
def access(bao: StandIn) -> Access:
    return Access(bao.address, bao.root_token)


def message(client: OpenBao, reference: str = "hub/database#password") -> str:
    with pytest.raises(LookupError) as raised:
        client.get(reference)
    assert "s3cret" not in str(raised.value)
    return str(raised.value.args[0])


def test_a_secret_is_read_and_kept_for_a_while(bao: StandIn, access: Access) -> None:
    clock = Clock()
    client = OpenBao(access, clock)
    assert client.get("hub/database#password") == "s3cret"
    assert client.get("/hub/database/#port") == "5432"
    bao.secrets["hub/database"] = {"password": "rotated"}
    assert client.get("hub/database#password") == "s3cret"
    assert bao.reads == 1
    clock.now += access.cache_seconds
    assert client.get("hub/database#password") == "rotated"
    bao.secrets["hub/database"] = {"password": "again"}
    client.forget()
    assert client.get("hub/database#password") == "again"


@pytest.mark.parametrize("reference", ["hub/database", "#password", "hub/database#", "/#x"])
def test_a_reference_names_a_path_and_a_key(access: Access, reference: str) -> None:
    assert message(OpenBao(access), reference) == "expected a path and a key, as in ${bao:hub/database#password}"


def test_what_is_not_there_is_said_with_what_is(access: Access) -> None:
    client = OpenBao(access)
    assert (
        message(client, "hub/database#user")
        == "'hub/database' in OpenBao has no key 'user'; it has more, password, port"
    )
    assert message(client, "hub/database#more") == "key 'more' of 'hub/database' in OpenBao is a dict; expected a text"
    assert message(client, "hub/nothing#x").startswith(
        "OpenBao has nothing at 'secret/hub/nothing'; write it by `bao kv"
    )


def test_secrets_are_read_in_the_mount_and_the_namespace_that_are_named(bao: StandIn, access: Access) -> None:
    bao.mount = "kv/team"
    assert OpenBao(replace(access, mount="kv/team", namespace="cellar")).get("hub/database#password") == "s3cret"
    assert bao.namespaces == {"cellar"}


def test_its_certificate_is_checked_against_the_ca_that_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    with stand_in(authority.issue("openbao")) as bao:
        bao.secrets["hub/database"] = {"password": "s3cret"}
        access = Access(bao.address, bao.root_token)
        assert OpenBao(replace(access, ca_file=str(authority.file))).get("hub/database#password") == "s3cret"
        assert "is not trusted" in message(OpenBao(access))


def test_the_variables_of_vault_stand_behind_those_of_openbao() -> None:
    vault = {"VAULT_ADDR": "http://vault", "VAULT_TOKEN": "v", "VAULT_NAMESPACE": "cellar", "VAULT_CACERT": "/ca.pem"}
    found = from_environment(vault)
    assert (found.address, found.token, found.namespace, found.ca_file) == ("http://vault", "v", "cellar", "/ca.pem")
    found = from_environment(vault | {"BAO_ADDR": "http://bao", "BAO_TOKEN": "b", "BAO_NAMESPACE": "attic"})
    assert (found.address, found.token, found.namespace, found.ca_file) == ("http://bao", "b", "attic", "/ca.pem")


def test_a_policy_that_does_not_allow_it_is_named(bao: StandIn, access: Access) -> None:
    bao.forbidden.add("hub/database")
    assert "must allow 'read' on 'secret/data/hub/database'" in message(OpenBao(access))


def test_sealed_and_unreachable(bao: StandIn, access: Access) -> None:
    bao.sealed = True
    assert message(OpenBao(access)) == f"OpenBao at {bao.address} is sealed; unseal it by `bao operator unseal`"
    assert "cannot be reached" in message(OpenBao(replace(access, address="http://127.0.0.1:9")))


def test_a_cluster_without_a_leader_cannot_answer(
    bao: StandIn, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "local node not active but active cluster node not found"
    bao.instead = 500, f'{{"errors": ["{reason}"]}}'
    assert message(OpenBao(access)).startswith(f"OpenBao at {bao.address} cannot answer: {reason}")
    monkeypatch.setenv("HUB_DATABASE_PASSWORD", "first boot")
    assert OpenBao(replace(access, environment_fallback=True)).get("hub/database#password") == "first boot"


@pytest.mark.parametrize("body", ["<html>Welcome</html>", "{}", "[]", '"ok"'])
def test_something_else_at_its_address(bao: StandIn, access: Access, body: str) -> None:
    bao.instead = 200, body
    expected = f"what answers at {bao.address} is not OpenBao; see BAO_ADDR"
    assert message(OpenBao(access)) == expected
    assert message(OpenBao(Access(bao.address, role_id="gateway", secret_id="x"))) == expected


def test_environment_variables_stand_in_only_while_openbao_cannot_answer(
    bao: StandIn, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = OpenBao(replace(access, environment_fallback=True))
    bao.sealed = True
    assert "HUB_DATABASE_PASSWORD could stand in, but is not set" in message(client)
    monkeypatch.setenv("HUB_DATABASE_PASSWORD", "first boot")
    assert client.get("hub/database#password") == "first boot"
    bao.sealed = False
    assert client.get("hub/database#password") == "s3cret"
    bao.forbidden.add("hub/database")
    client.forget()
    assert "does not let us read" in message(client)


def test_an_approle_logs_in_once_renews_and_logs_in_again_when_its_token_ended(bao: StandIn) -> None:
    bao.roles["gateway"] = "its secret id"
    clock = Clock()
    client = OpenBao(Access(bao.address, role_id="gateway", secret_id="its secret id", cache_seconds=1), clock)
    for _ in range(3):
        assert client.get("hub/database#password") == "s3cret"
        clock.now += 10
    assert (bao.logins, bao.renewals) == (1, 0)
    clock.now += bao.lease / 2
    assert client.get("hub/database#password") == "s3cret"
    assert (bao.logins, bao.renewals) == (1, 1)
    bao.tokens.clear()
    clock.now += 10
    assert client.get("hub/database#password") == "s3cret"
    assert bao.logins == 2


def test_an_approle_that_is_not_known(bao: StandIn) -> None:
    client = OpenBao(Access(bao.address, role_id="gateway", secret_id="wrong"))
    said = message(client)
    assert said.startswith(f"OpenBao at {bao.address} refuses the log-in by AppRole (role id gateway)")
    assert "invalid role or secret ID" in said
    assert "policy" not in said


def test_a_log_in_that_is_refused_is_tried_once_for_all_secrets_and_then_spared(bao: StandIn) -> None:
    """OpenBao locks a role out, for everybody, after five refusals each within a quarter of an hour of the last."""
    bao.secrets |= {f"hub/{number}": {"password": "s3cret"} for number in range(10)}
    clock = Clock()
    client = OpenBao(Access(bao.address, role_id="gateway", secret_id="ended"), clock)
    refusals = [0.0]
    for second in range(4 * 3600):
        clock.now += 1
        before = bao.refusals
        if second % 60 == 0:  # as often as secrets are read again
            for number in range(10):
                assert "refuses the log-in by AppRole" in message(client, f"hub/{number}#password")
        if bao.refusals > before:
            refusals.append(clock.now)
            bao.refusals = bao.refusals if clock.now - refusals[-2] <= 900 else 1
            assert bao.refusals < 5, "the role is locked out"
    assert len(refusals) > 5, "it goes on looking whether it is known again"


def test_a_secret_id_that_was_replaced_is_used_at_once(bao: StandIn) -> None:
    access = Access(bao.address, role_id="gateway", secret_id="ended")
    client = OpenBao(access, Clock(), lambda: access)
    assert "refuses" in message(client)
    assert "tried again in 60 seconds" in message(client)
    bao.roles["gateway"] = "new"
    access = replace(access, secret_id="new")
    assert client.get("hub/database#password") == "s3cret"


def test_a_store_without_versions_is_named_as_such(bao: StandIn, access: Access) -> None:
    bao.version = 1
    assert message(OpenBao(access)) == (
        "the mount 'secret' is a KV store of version 1, and secrets are read from version 2; make it one by "
        "`bao kv enable-versioning secret`, or name another by OBSHUB_BAO_MOUNT"
    )


def test_what_cannot_answer_now_is_told_from_what_is_wrong(bao: StandIn, access: Access) -> None:
    with pytest.raises(LookupError) as wrong:
        OpenBao(access).get("hub/nothing#x")
    bao.sealed = True
    with pytest.raises(NotNowError):
        OpenBao(access).get("hub/database#password")
    assert not isinstance(wrong.value, NotNowError)


def test_no_message_tells_what_we_log_in_with(bao: StandIn, access: Access) -> None:
    """Whatever a library or a server says, and however it came by it."""
    bao.instead = 418, json.dumps({"errors": [f"no tea for {bao.root_token}"]})
    assert bao.root_token not in message(OpenBao(access))


@pytest.mark.parametrize("name", ["BAO_TOKEN", "VAULT_TOKEN"])
def test_a_token_with_a_line_break_is_used_without_and_one_that_cannot_be_sent_is_not_told(name: str) -> None:
    environ = {"BAO_ADDR": "http://x", name: "s.token\n"}
    assert from_environment(environ).token == "s.token"
    for bad in ("s.to\nken", "s.tökén", "s.to\x00ken"):
        with pytest.raises(AccessError, match=name) as raised:
            from_environment(environ | {name: bad})
        assert "s.t" not in str(raised.value)


def test_a_kubernetes_service_account_logs_in_with_its_token_file(bao: StandIn, tmp_path: Path) -> None:
    bao.kubernetes["obs-hub"] = "a.service.account"
    token_file = tmp_path / "token"
    access = Access(bao.address, kubernetes_role="obs-hub", kubernetes_token_file=token_file)
    assert "service account's token cannot be read" in message(OpenBao(access))
    token_file.write_text("a.service.account\n")
    assert OpenBao(access).get("hub/database#password") == "s3cret"
    assert bao.logins == 1


def test_a_token_that_was_given_is_renewed(bao: StandIn, access: Access) -> None:
    clock = Clock()
    client = OpenBao(replace(access, cache_seconds=1), clock)
    client.get("hub/database#password")
    clock.now += bao.lease
    client.get("hub/database#password")
    assert bao.renewals == 1


def test_a_token_or_secret_id_that_was_replaced_in_its_file_is_taken_up(bao: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "credential"
    clock = Clock()

    def used(**variables: str) -> OpenBao:
        environ = {"BAO_ADDR": bao.address, "OBSHUB_BAO_CACHE_TTL": "1s", **variables}
        return OpenBao(from_environment(environ), clock, lambda: from_environment(environ))

    bao.tokens.add("first")
    file.write_text("first")
    client = used(BAO_TOKEN_FILE=str(file))
    assert client.get("hub/database#password") == "s3cret"
    bao.tokens.remove("first")
    clock.now += 10
    assert "does not let us read" in message(client)
    bao.tokens.add("second")
    file.write_text("second")
    assert client.get("hub/database#password") == "s3cret"

    bao.roles["gateway"] = "third"
    file.write_text("third")
    client = used(BAO_ROLE_ID="gateway", BAO_SECRET_ID_FILE=str(file))
    assert client.get("hub/database#password") == "s3cret"
    bao.tokens.clear()
    bao.roles["gateway"] = "fourth"
    file.write_text("fourth")
    clock.now += 10
    assert client.get("hub/database#password") == "s3cret"


def test_the_environment_says_how_to_reach_it(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("from a file\n")
    access = from_environment(
        {
            "VAULT_ADDR": "https://vault:8200",
            "BAO_ADDR": "https://bao:8200",
            "BAO_ROLE_ID": "gateway",
            "BAO_SECRET_ID_FILE": str(tmp_path / "id"),
            "OBSHUB_BAO_CACHE_TTL": "5m",
            "OBSHUB_BAO_FALLBACK": "env",
        }
    )
    assert (access.address, access.secret_id, access.method) == ("https://bao:8200", "from a file", "AppRole")
    assert (access.cache_seconds, access.environment_fallback, access.mount) == (300, True, "secret")
    assert "from a file" not in repr(access)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "BAO_ADDR is not set"),
        ({"BAO_ADDR": "http://x"}, "nothing says how to log in"),
        ({"BAO_ADDR": "http://x", "BAO_TOKEN_FILE": "/nowhere/token"}, "/nowhere/token, which cannot be read"),
        ({"BAO_ADDR": "http://x", "BAO_TOKEN": "t", "OBSHUB_BAO_FALLBACK": "yes"}, "expected none or env"),
        ({"BAO_ADDR": "http://x", "BAO_TOKEN": "t", "OBSHUB_BAO_CACHE_TTL": "5"}, "OBSHUB_BAO_CACHE_TTL: expected"),
    ],
)
def test_an_environment_that_does_not_say_it(variables: dict[str, str], expected: str) -> None:
    with pytest.raises(AccessError, match=expected):
        from_environment(variables)


@pytest.fixture
def real() -> tuple[str, str]:
    address, token = os.environ.get("OBSHUB_TEST_OPENBAO_ADDR"), os.environ.get("OBSHUB_TEST_OPENBAO_TOKEN")
    if not address or not token:
        pytest.skip("OBSHUB_TEST_OPENBAO_ADDR and OBSHUB_TEST_OPENBAO_TOKEN name no OpenBao")
    return address, token


def test_a_real_openbao_with_token_and_approle_and_the_policy_we_ship(real: tuple[str, str]) -> None:
    address, token = real
    root, name = hvac.Client(address, token=token), f"test-{uuid.uuid4().hex[:8]}"
    root.secrets.kv.v2.create_or_update_secret("obs-hub/database", {"password": name})
    root.secrets.kv.v2.create_or_update_secret("elsewhere", {"password": name})
    policy = Path("otel-config/openbao/obs-hub-policy.hcl").read_text("utf-8")
    root.sys.create_or_update_policy(name, policy)
    if "approle/" not in root.sys.list_auth_methods()["data"]:
        root.sys.enable_auth_method("approle")
    root.auth.approle.create_or_update_approle(name, token_policies=[name], token_ttl="2m")
    role_id = root.auth.approle.read_role_id(name)["data"]["role_id"]
    secret_id = root.auth.approle.generate_secret_id(name)["data"]["secret_id"]

    assert OpenBao(Access(address, token)).get("obs-hub/database#password") == name
    clock = Clock()
    client = OpenBao(Access(address, role_id=role_id, secret_id=secret_id, cache_seconds=1), clock)
    assert client.get("obs-hub/database#password") == name
    assert "does not let us read 'secret/elsewhere'" in message(client, "elsewhere#password")
    clock.now += 90  # past half of the token's life
    assert client.get("obs-hub/database#password") == name
    assert "OpenBao has nothing at" in message(client, "obs-hub/nothing#x")
